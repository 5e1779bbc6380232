"""Galileo nano: the published weights, and numbers that the published code gave with them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from quakestream.errors import ConfigError, RequestError
from tests.helpers.graph_bundles import L4S_BANDS
from tests.helpers.landslide_networks import SMALL_GALILEO, learnt, waves
from training.networks import build_landslide_network, of_bands
from training.networks.folding import folded
from training.networks.galileo import (
    LORA_PATTERNS,
    MEAN_STD,
    Galileo,
    GalileoConfig,
    GalileoEncoder,
    present,
)
from training.networks.lora import LoraConfig, add_lora, lora_parameters

ORIGINAL = [
    (L4S_BANDS, 4, 10.0, (0.05705, -0.00858, 0.15394, 0.00136, -0.05178, -0.09993), 0.13229),
    (("red", "nir"), 2, 20.0, (0.03505, -0.0346, 0.06289, 0.20981, 0.04392, 0.02266), 0.149648),
    (
        ("red", "green", "blue", "slope"),
        8,
        10.0,
        (0.07267, 0.00013, 0.09703, 0.05716, 0.09872, -0.07216),
        0.156533,
    ),
]
"""Bands, patch and GSD, and what `single_file_galileo.py` of nasaharvest/galileo @ 277458f gave.

That is six features of the fourth patch of the second image, and the deviation of all features.
Groups that a row lacks were masked there, and held other values."""


@pytest.fixture(scope="module")
def published(data_dir: Path) -> Path:
    path = data_dir / "galileo-nano" / "encoder.pt"
    if not path.exists():
        pytest.skip(f"no Galileo weights at {path}")
    return path


@pytest.mark.data
@pytest.mark.parametrize(("names", "patch_px", "gsd_m", "features", "deviation"), ORIGINAL)
def test_published_weights_give_what_the_published_code_gives(
    published: Path,
    names: tuple[str, ...],
    patch_px: int,
    gsd_m: float,
    features: tuple[float, ...],
    deviation: float,
) -> None:
    side = 24 if patch_px == 8 else 16
    inputs = of_bands(*names, crop_px=side, gsd_m=gsd_m)
    network = Galileo(inputs, GalileoConfig(patch_px=patch_px))
    network.load_official(published)
    with torch.no_grad():
        tokens = network.eval().encoder(waves(2, len(names), side, side)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens[1, 3, :6], torch.tensor(features), atol=2e-5, rtol=0)
    assert float(tokens.std()) == pytest.approx(deviation, abs=1e-5)


@pytest.mark.data
def test_the_encoder_holds_all_published_weights_and_no_others(published: Path) -> None:
    network = build_landslide_network("galileo_nano", of_bands(*L4S_BANDS))
    fixed = {n: network.state_dict()[n].clone() for n in FIXED}
    report = network.load_official(published)
    assert len(report.loaded) == 106
    assert report.dropped == ()
    assert not any(n.startswith("encoder.") for n in report.missing)
    assert sum(v.numel() for v in network.encoder.state_dict().values()) == 1_037_856
    for name, value in fixed.items():  # codes that follow from formulas are those of the file
        torch.testing.assert_close(network.state_dict()[name], value, atol=1e-5, rtol=0)


FIXED = ("encoder.pos_embed", "encoder.month_embed.weight")


@pytest.mark.data
def test_a_file_that_lacks_a_weight_is_refused(published: Path, tmp_path: Path) -> None:
    file = torch.load(published, map_location="cpu", weights_only=True)
    file["blocks.0.attn.q.backbone.weight"] = file.pop("blocks.0.attn.q.weight")
    torch.save(file, tmp_path / "with-backbone.pt")
    network = build_landslide_network("galileo_nano", of_bands("red", "nir", crop_px=32))
    assert len(network.load_official(tmp_path / "with-backbone.pt").loaded) == 106
    del file["space_embed.WC.proj.bias"]
    torch.save(file, tmp_path / "short.pt")
    with pytest.raises(RequestError, match=r"missing encoder\.space_embed\.WC\.proj\.bias"):
        network.load_official(tmp_path / "short.pt")


def test_groups_are_those_whose_bands_are_all_there() -> None:
    assert list(present(L4S_BANDS)) == [
        *("S2_RGB", "S2_Red_Edge", "S2_NIR_10m", "S2_SWIR", "NDVI", "SRTM")
    ]
    assert present(("nir", "swir16", "red")) == {"S2_NIR_10m": (0,), "NDVI": (2, 0)}


def encoder(*names: str, patch_px: int = 4, side: int = 16) -> GalileoEncoder:
    torch.manual_seed(0)
    config = GalileoConfig(size=SMALL_GALILEO.size, patch_px=patch_px)
    return GalileoEncoder(config, band_names=names, side_px=side, gsd_m=10.0).eval()


def test_bands_of_no_group_make_no_difference() -> None:
    names = ("cirrus", "nir", "slope", "red")
    image, network = torch.randn(1, 4, 16, 16), encoder(*names)
    other = image.clone()
    other[:, [0, 2]] = 9.0  # slope without elevation is no group
    with torch.no_grad():
        assert torch.equal(network(image), network(other))
        other[:, 1] = 0.0
        assert not torch.allclose(network(image), network(other))
        same = encoder("red", "nir")
        torch.testing.assert_close(same(image[:, [3, 1]]), network(image))


def test_ndvi_is_computed_from_reflectance() -> None:
    """An image without vegetation and one with it, as z-scores of the pre-training."""
    values = {"red": (2000.0, 500.0), "nir": (2000.0, 4500.0)}
    image = torch.empty(2, 2, 16, 16)
    for place, (name, pair) in enumerate(values.items()):
        mean, std = MEAN_STD[name]
        image[:, place] = ((torch.tensor(pair) - mean) / std)[:, None, None]
    seen: list[Tensor] = []
    network = encoder("red", "nir")
    network.space_time_embed["NDVI"].register_forward_pre_hook(
        lambda module, given: seen.append(given[0])
    )
    with torch.no_grad():
        network(image)
    assert seen[0].mean((1, 2, 3)).tolist() == pytest.approx([0.0, 0.8], abs=1e-5)


def test_a_resized_kernel_gives_for_small_patches_what_the_kernel_gives_for_large_ones() -> None:
    """FlexiViT's rule, for patches of 8 px that resizing to 4 px loses nothing of."""
    projection = encoder("nir", patch_px=4).space_time_embed["S2_NIR_10m"]
    resize = torch.linalg.pinv(projection.shrink_PP)  # of each of 64 pixels to 16, (64, 16)
    large = torch.randn(3, 16) @ resize.T
    small = large @ resize
    with torch.no_grad():
        found = projection(small.reshape(3, 1, 4, 4))
        torch.testing.assert_close(
            found, projection.proj(large.reshape(3, 1, 8, 8)), atol=1e-4, rtol=1e-4
        )


def test_the_folded_network_computes_the_same() -> None:
    torch.manual_seed(0)
    network = Galileo(of_bands("nir", "red", "green", "blue", crop_px=16), SMALL_GALILEO).eval()
    image = torch.randn(2, 4, 16, 16)
    plain = folded(network)
    kernel = plain.encoder.space_time_embed["S2_RGB"].weight
    assert kernel.shape == (32, 3, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(plain(image), network(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "how", ["lora", *(pytest.param(how, marks=pytest.mark.slow) for how in ("frozen", "scratch"))]
)
def test_it_learns_eight_chips(how: str) -> None:
    torch.manual_seed(0)
    network = Galileo(of_bands("nir", "red", "slope", crop_px=32), SMALL_GALILEO)
    before = {n: v.clone() for n, v in network.encoder.state_dict().items()}
    if how != "scratch":
        network.freeze_encoder()
    if how == "lora":
        names = add_lora(network, LoraConfig(patterns=LORA_PATTERNS))
        assert len(names) == 2 * 6
    assert learnt(network, 32, steps=35) > 0.85
    after = network.encoder.state_dict()
    if how == "lora":
        after = {n.replace(".base.", "."): v for n, v in after.items()}
        assert all(p.abs().sum() > 0 for p in lora_parameters(network))
    changed = {n for n, v in before.items() if not torch.equal(after[n], v)}
    assert bool(changed) == (how == "scratch")
    assert not {"pos_embed", "month_embed.weight"} & changed


def test_what_does_not_fit_is_refused() -> None:
    for names, side, patch_px in ((("slope",), 16, 4), (("nir",), 18, 4), (("nir",), 18, 9)):
        with pytest.raises(ConfigError, match="image does not fit Galileo"):
            encoder(*names, patch_px=patch_px, side=side)
    with pytest.raises(ConfigError, match="patch cannot be doubled"):
        Galileo(of_bands("nir", crop_px=24), GalileoConfig(patch_px=3))
