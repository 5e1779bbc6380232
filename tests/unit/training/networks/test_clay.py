"""Clay v1.5: sizes, names, the folded kernel, and the two architectures of the study."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError, RequestError
from tests.helpers.graph_bundles import L4S_BANDS
from tests.helpers.landslide_networks import SMALL_CLAY, gmac, learnt, patterned, waves, weights
from training.networks import PixelNetwork, build_landslide_network, of_bands
from training.networks.clay import LORA_PATTERNS, ClayEncoder, ClayInputs, ClaySize
from training.networks.clay_landslide import ClayHybrid, ClayTerrain, picked
from training.networks.folding import folded
from training.networks.importing import read_weights
from training.networks.lora import LoraConfig, add_lora, lora_parameters

LORA = LoraConfig(patterns=LORA_PATTERNS)


def test_the_encoder_has_the_published_size_and_cost() -> None:
    with torch.device("meta"):
        told = ClayInputs(wavelengths_um=(0.5,) * 10, side_px=128)
        encoder = ClayEncoder(ClaySize(), told).eval()
    assert f"{weights(encoder) / 1e6:.2f}" == "311.44"
    assert f"{gmac(encoder, 1, 10, 128, 128):.1f}" == "81.2"


@pytest.mark.parametrize(
    ("name", "whole", "first", "second", "cost"),
    [
        ("clay_terrain", "313.04", "1.60", "4.74", "87.1"),
        ("clay_hybrid", "336.32", "24.88", "28.02", "91.9"),
    ],
)
def test_both_stages_train_what_the_study_trains(
    name: str, whole: str, first: str, second: str, cost: str
) -> None:
    with torch.device("meta"):
        network = build_landslide_network(name, of_bands(*L4S_BANDS))
    network.freeze_encoder()
    assert f"{weights(network) / 1e6:.2f}" == whole
    assert f"{trained(network) / 1e6:.2f}" == first
    assert f"{gmac(network.eval(), 1, 14, 128, 128):.1f}" == cost
    assert len(add_lora(network, LORA)) == 96
    assert sum(p.numel() for p in lora_parameters(network)) == 3_145_728
    assert f"{trained(network) / 1e6:.2f}" == second


def trained(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def published(size: ClaySize) -> dict[str, Tensor]:
    """The state of a published checkpoint: the names that it has, and parts that are dropped."""
    d, inner, hidden = size.width, size.heads * size.head_width, int(size.mlp_ratio * size.width)
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, d)}
    for name, c_in, c_out in (
        ("patch_embedding.fclayer.l1", 128, 128),
        ("patch_embedding.fclayer.l2", 128, 128),
        ("patch_embedding.weight_generator.fc_weight", 128, 64 * d),
        ("patch_embedding.weight_generator.fc_bias", 128, d),
        ("patch_embedding.weight_generator.encoder.layers.0.self_attn.out_proj", 128, 128),
        ("patch_embedding.weight_generator.encoder.layers.0.linear1", 128, 2048),
        ("patch_embedding.weight_generator.encoder.layers.0.linear2", 2048, 128),
        ("patch_embedding.weight_generator.encoder.layers.0.norm1", 0, 128),
        ("patch_embedding.weight_generator.encoder.layers.0.norm2", 0, 128),
        ("transformer.norm", 0, d),
    ):
        shapes |= {f"{name}.weight": (c_out, c_in) if c_in else (c_out,), f"{name}.bias": (c_out,)}
    maker = "patch_embedding.weight_generator"
    shapes |= {f"{maker}.weight_tokens": (128, 128), f"{maker}.bias_token": (1, 128)}
    shapes[f"{maker}.encoder.layers.0.self_attn.in_proj_weight"] = (384, 128)
    shapes[f"{maker}.encoder.layers.0.self_attn.in_proj_bias"] = (384,)
    for block in range(size.depth):
        layer = f"transformer.layers.{block}"
        shapes |= {f"{layer}.0.to_qkv.weight": (3 * inner, d)}
        shapes |= {f"{layer}.0.to_out.weight": (d, inner)}
        shapes |= {f"{layer}.1.net.1.weight": (hidden, d), f"{layer}.1.net.1.bias": (hidden,)}
        shapes |= {f"{layer}.1.net.3.weight": (d, hidden), f"{layer}.1.net.3.bias": (d,)}
        for norm in ("0.norm", "1.net.0"):
            shapes |= {f"{layer}.{norm}.weight": (d,), f"{layer}.{norm}.bias": (d,)}
    state = {f"model.encoder.{name}": torch.randn(shape) for name, shape in shapes.items()}
    others = ("decoder.mask_patch", "teacher.cls_token", "proj.weight", "mrl.nesting.0.bias")
    return state | {f"model.{name}": torch.randn(3) for name in others}


def small(kind: type[ClayTerrain] | type[ClayHybrid], *names: str) -> PixelNetwork:
    torch.manual_seed(0)
    return kind(of_bands(*names, crop_px=32), SMALL_CLAY)


@pytest.mark.parametrize("kind", [ClayTerrain, ClayHybrid])
def test_a_checkpoint_is_loaded_by_name(
    kind: type[ClayTerrain] | type[ClayHybrid], tmp_path: Path
) -> None:
    network, file = small(kind, "red", "nir", "slope"), published(SMALL_CLAY.size)
    torch.save({"state_dict": file, "epoch": 7}, tmp_path / "clay.ckpt")
    report = network.load_official(tmp_path / "clay.ckpt")
    own = {f"model.{n}" for n in network.state_dict() if n.startswith("encoder.")}
    assert {n for n in file if n.startswith("model.encoder.")} == own
    assert len(report.dropped) == 4
    assert not any(n.startswith("encoder.") for n in report.missing)
    assert torch.equal(network.state_dict()["encoder.cls_token"], file["model.encoder.cls_token"])
    del file["model.encoder.transformer.norm.bias"]
    torch.save({"state_dict": file}, tmp_path / "short.ckpt")
    with pytest.raises(RequestError, match=r"missing encoder\.transformer\.norm\.bias"):
        network.load_official(tmp_path / "short.ckpt")


def test_the_full_size_takes_the_published_names() -> None:
    with torch.device("meta"):
        network = build_landslide_network("clay_hybrid", of_bands(*L4S_BANDS))
        file = published(ClaySize())
    own = {n: v.shape for n, v in network.state_dict().items() if n.startswith("encoder.")}
    theirs = {n.removeprefix("model."): v.shape for n, v in file.items()}
    assert own == {n: shape for n, shape in theirs.items() if n.startswith("encoder.")}


def test_a_file_with_objects_is_refused(tmp_path: Path) -> None:
    """Lightning stores settings as objects of other packages; they are never run."""
    torch.save({"state_dict": published(SMALL_CLAY.size), "hyper": Path("x")}, tmp_path / "c.ckpt")
    with pytest.raises(RequestError, match="cannot be read as weights alone") as caught:
        read_weights(tmp_path / "c.ckpt", wrappers=("state_dict",))
    assert "save its 'state_dict' entry by itself" in str(caught.value.remedy)


def test_features_are_those_of_the_published_code() -> None:
    """What `claymodel` of Clay-foundation/model @ a5790ce gives with the same weights.

    The features are of the patch in row 2, column 1.
    """
    size = ClaySize(width=48, depth=2, heads=2, head_width=12, mlp_ratio=2.0)
    told = ClayInputs(
        wavelengths_um=(0.443, 0.665, 1.61, 2.19),
        side_px=40,
        gsd_m=30.0,
        time_4=(0.1, 0.2, 0.3, 0.4),
        place_4=(0.5, 0.6, 0.7, 0.8),
    )
    encoder = ClayEncoder(size, told, final_norm=True)
    patterned(encoder)
    with torch.no_grad():
        map_NDYX = encoder(waves(1, 4, 40, 40))
    expected = torch.tensor([-2.32761, -0.96358, 1.28875, 1.75637, 0.76268, 0.04634])
    torch.testing.assert_close(map_NDYX[0, :6, 2, 1], expected, atol=5e-5, rtol=0)
    assert float(map_NDYX.std()) == pytest.approx(1.02448, abs=2e-4)


def test_the_folded_kernel_computes_the_same() -> None:
    told = ClayInputs(wavelengths_um=(0.443, 0.665, 2.19), side_px=32)
    encoder = ClayEncoder(SMALL_CLAY.size, told).eval()
    plain, image = folded(encoder), torch.randn(2, 3, 32, 32)
    assert isinstance(plain.patch_embedding, nn.Conv2d)
    assert sum("patch_embedding" in n for n in plain.state_dict()) == 2
    with torch.no_grad():
        torch.testing.assert_close(plain(image), encoder(image), atol=1e-5, rtol=1e-5)
    assert not isinstance(encoder.patch_embedding, nn.Conv2d)


def test_a_band_is_known_by_its_wavelength() -> None:
    """The same image with its bands in another order gives the same map."""
    maps, image = [], torch.randn(1, 3, 32, 32)
    for order in ([0, 1, 2], [2, 0, 1]):
        torch.manual_seed(0)
        waves = (0.443, 0.665, 2.19)
        told = ClayInputs(wavelengths_um=tuple(waves[k] for k in order), side_px=32)
        with torch.no_grad():
            maps.append(ClayEncoder(SMALL_CLAY.size, told).eval()(image[:, order]))
    torch.testing.assert_close(maps[0], maps[1], atol=1e-5, rtol=1e-5)


def test_frequencies_of_the_place_are_all_near_the_gsd() -> None:
    told = ClayInputs(wavelengths_um=(0.5,), side_px=16, gsd_m=10.0, time_4=(0.1, 0.2, 0.3, 0.4))
    with torch.device("cpu"):
        code = ClayEncoder(SMALL_CLAY.size, told).position_1TD[0].double()
    assert code.shape == (4, 24)
    inner, count = 16, 4
    frequencies = [10 / 10_000 ** (2 * (k / (count - 1)) / inner) for k in range(count)]
    expected = torch.tensor(frequencies).double()
    for patch, (row, column) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        parts = [(column * expected).sin(), (column * expected).cos()]
        parts += [(row * expected).sin(), (row * expected).cos()]
        torch.testing.assert_close(code[patch, :16], torch.cat(parts), atol=1e-5, rtol=0)
    torch.testing.assert_close(code[2, 16:].float(), torch.tensor([0.1, 0.2, 0.3, 0.4, 0, 0, 0, 0]))


@pytest.mark.parametrize("kind", [ClayTerrain, ClayHybrid])
def test_two_stages_learn_eight_chips(kind: type[ClayTerrain] | type[ClayHybrid]) -> None:
    network = small(kind, "red", "slope", "nir")
    network.freeze_encoder()
    before = {n: v.clone() for n, v in network.encoder.state_dict().items()}
    learnt(network, 32, steps=15)
    assert all(torch.equal(before[n], v) for n, v in network.encoder.state_dict().items())
    add_lora(network, LORA)
    assert learnt(network, 32, steps=20) > 0.8
    assert all(p.abs().sum() > 0 for p in lora_parameters(network))
    plain, image = folded(network), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain(image), network.eval()(image), atol=1e-4, rtol=1e-4)
    assert set(plain.encoder.transformer.state_dict()) == {
        n.removeprefix("transformer.") for n in before if n.startswith("transformer.")
    }


def test_terrain_has_no_say_before_training() -> None:
    network = small(ClayTerrain, "red", "slope", "elevation").eval()
    first, second = torch.randn(2, 1, 3, 32, 32)
    second[:, 0] = first[:, 0]
    with torch.no_grad():
        torch.testing.assert_close(network(first), network(second))


def test_some_bands_are_picked_in_order() -> None:
    image = torch.arange(6)[None, :, None, None] * torch.ones(1, 6, 2, 2)
    assert picked(image, (0, 1, 4)).mean((0, 2, 3)).tolist() == [0, 1, 4]
    assert picked(image, tuple(range(6))) is image


def test_bands_must_be_of_a_known_kind() -> None:
    with pytest.raises(ConfigError, match="no band with a known wavelength"):
        small(ClayHybrid, "slope", "elevation")
    with pytest.raises(ConfigError, match="no terrain"):
        small(ClayTerrain, "red", "nir")
    with pytest.raises(ConfigError, match="window does not fit"):
        ClayHybrid(of_bands("red", crop_px=40), SMALL_CLAY)
