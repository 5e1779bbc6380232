"""Prithvi-EO-2.0: sizes, names and rules of the published files, which are made up here."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from quakestream.errors import ConfigError, RequestError, ShapeError
from tests.helpers.landslide_networks import (
    SMALL_PRITHVI,
    gmac,
    learnt,
    patterned,
    waves,
    weights,
)
from training.networks import NetworkInputs, of_bands
from training.networks.importing import load_weights
from training.networks.lora import LoraConfig, add_lora, lora_parameters
from training.networks.prithvi import (
    BANDS,
    LORA_PATTERNS,
    SIZES,
    Prithvi,
    PrithviConfig,
    PrithviEncoder,
    PrithviSize,
    stem_by_name,
)

FULL = NetworkInputs(bands=6, band_names=BANDS, crop_px=224, outputs=2)
TABLE = {
    ("tiny", True): ("5.63", "13.39", "12.5"),
    ("tiny", False): ("5.63", "13.28", "2.7"),
    ("100m", True): ("86.24", "98.66", "29.8"),
    ("100m", False): ("86.24", "96.25", "19.5"),
    ("300m", True): ("303.89", "319.34", "74.5"),
    ("300m", False): ("303.89", "314.94", "63.7"),
    ("600m", True): ("631.19", "650.26", "185.3"),
    ("600m", False): ("631.19", "643.29", "170.3"),
}
"""Millions of weights of encoder and network, and thousands of millions of multiply-adds."""


def on_meta(config: PrithviConfig) -> Prithvi:
    with torch.device("meta"):
        return Prithvi(FULL, config).eval()


@pytest.mark.parametrize(("name", "pyramid"), TABLE)
def test_sizes_are_the_published_ones(name: str, pyramid: bool) -> None:
    network = on_meta(PrithviConfig(size=SIZES[name], pyramid=pyramid, coordinates=name == "tiny"))
    encoder, whole, _ = TABLE[name, pyramid]
    assert f"{weights(network.encoder) / 1e6:.2f}" == encoder
    assert f"{weights(network) / 1e6:.2f}" == whole


@pytest.mark.parametrize(
    "key",
    [pytest.param(k, marks=[] if "tiny" in k else pytest.mark.slow) for k in TABLE],
    ids=lambda key: f"{key[0]}-{key[1]}",
)
def test_costs_are_the_published_ones(key: tuple[str, bool]) -> None:
    network = on_meta(PrithviConfig(size=SIZES[key[0]], pyramid=key[1]))
    assert f"{gmac(network, 1, 6, 224, 224):.1f}" == TABLE[key][2]


def test_the_fine_tuned_file_has_just_these_tensors() -> None:
    """Numbers of the published 300M-TL file that was fine-tuned on Sen1Floods11."""
    network = on_meta(PrithviConfig(size=SIZES["300m"], head_widths=()))
    state = network.state_dict()
    assert weights(network) == 318_968_580
    assert (len(state), sum(v.numel() for v in state.values())) == (381, 319_177_489)
    assert state["encoder.pos_embed"].shape == (1, 197, 1024)
    assert sum(n.startswith("neck.") for n in state) == 11


@pytest.mark.parametrize(("name", "tokens"), [("300m", 785), ("600m", 1025)])
def test_four_frames_have_the_published_code(name: str, tokens: int) -> None:
    network = on_meta(PrithviConfig(size=SIZES[name], frames=4))
    assert network.encoder.pos_embed.shape == (1, tokens, SIZES[name].width)


def test_features_are_those_of_the_published_code() -> None:
    """What `prithvi_mae.py` of IBM/terratorch @ 85467a9 gives with the same weights.

    The features are of the second frame's patch in row 2, column 1, of the first and last block.
    """
    size = PrithviSize(width=48, depth=4, heads=3, patch_px=16, taps=(0, 1, 2, 3))
    encoder = PrithviEncoder(PrithviConfig(size=size, frames=2), bands=6, side_px=48)
    patterned(encoder)
    time, place = torch.tensor([[[2018.0, 200.0], [2024.0, 30.0]]]), torch.tensor([[42.7, 141.9]])
    with torch.no_grad():
        maps = encoder(waves(1, 6, 2, 48, 48), time, place)
    first = torch.tensor([0.2201, 0.89241, 0.94358, 0.24401, 0.20077, -0.22739])
    last = torch.tensor([-1.80651, 0.47024, 1.46528, -0.3756, 0.94816, -0.50725])
    torch.testing.assert_close(maps[0][0, 48:54, 2, 1], first, atol=5e-5, rtol=0)
    torch.testing.assert_close(maps[3][0, 48:54, 2, 1], last, atol=5e-5, rtol=0)
    assert float(maps[0].std()) == pytest.approx(0.52043, abs=2e-4)
    assert float(maps[3].std()) == pytest.approx(1.03467, abs=2e-4)


def published(size: PrithviSize, *, frames: int = 4, tl: bool = True) -> dict[str, Tensor]:
    """A file of the pre-training: the names that the published ones have."""
    d, p, wide = size.width, size.patch_px, 512
    tokens = 1 + frames * (224 // p) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.cls_token": (1, 1, d),
        "encoder.pos_embed": (1, tokens, d),
        "encoder.patch_embed.proj.weight": (d, 6, 1, p, p),
        "encoder.patch_embed.proj.bias": (d,),
        "encoder.norm.weight": (d,),
        "encoder.norm.bias": (d,),
        "decoder.mask_token": (1, 1, wide),
        "decoder.decoder_pos_embed": (1, tokens, wide),
    }
    for name, c_in, c_out in (
        ("decoder.decoder_embed", d, wide),
        ("decoder.decoder_norm", 0, wide),
        ("decoder.decoder_pred", wide, 6 * p * p),
    ):
        shapes |= {f"{name}.weight": (c_out, c_in) if c_in else (c_out,), f"{name}.bias": (c_out,)}
    if tl:
        ends = ("encoder.temporal_embed_enc", "encoder.location_embed_enc")
        ends += ("decoder.temporal_embed_dec", "decoder.location_embed_dec")
        shapes |= {f"{end}.scale": (1,) for end in ends}
    for prefix, count, w in (
        ("encoder.blocks", size.depth, d),
        ("decoder.decoder_blocks", 8, wide),
    ):
        layers = {"attn.qkv": (3 * w, w), "attn.proj": (w, w), "mlp.fc1": (4 * w, w)}
        layers |= {"mlp.fc2": (w, 4 * w), "norm1": (w,), "norm2": (w,)}
        for block in range(count):
            for layer, shape in layers.items():
                shapes[f"{prefix}.{block}.{layer}.weight"] = shape
                shapes[f"{prefix}.{block}.{layer}.bias"] = shape[:1]
    return {name: torch.randn(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("name", SIZES)
def test_full_sizes_take_the_published_names(name: str) -> None:
    network = on_meta(PrithviConfig(size=SIZES[name]))
    with torch.device("meta"):
        file = published(SIZES[name])
        report = load_weights(network, file, network.layout(file))
    assert {n.split(".")[0] for n in report.missing} == {"neck", "decoder", "head"}
    assert all(n.startswith(("decoder.",)) for n in report.dropped)
    assert len(report.loaded) == len(file) - len(report.dropped)


def small(*names: str, **changes: object) -> Prithvi:
    torch.manual_seed(1)
    return Prithvi(of_bands(*names, crop_px=32), replace(SMALL_PRITHVI, **changes))


def test_a_file_is_loaded_by_name(tmp_path: Path) -> None:
    network = small(*BANDS)
    file = published(SMALL_PRITHVI.size)
    torch.save(
        {n.replace("encoder.", "encoder._timm_module."): v for n, v in file.items()},
        tmp_path / "p.pt",
    )
    before = network.encoder.pos_embed.clone()
    report = network.load_official(tmp_path / "p.pt")
    state = network.state_dict()
    assert report.resized == ("encoder.pos_embed",)
    assert torch.equal(state["encoder.pos_embed"], before)  # the file's is for four frames
    for name in report.loaded:
        if name != "encoder.pos_embed":
            assert torch.equal(state[name], file[name]), name
    scales = {n for n in report.dropped if "_embed_enc" in n}
    assert len(scales) == 2  # no codes of time and place were built
    assert "encoder.patch_embed.proj.weight" in report.loaded


def test_version_1_has_no_prefix() -> None:
    network = small(*BANDS)
    file = {n.split(".", 1)[1]: v for n, v in published(SMALL_PRITHVI.size, tl=False).items()}
    load_weights(network, file, network.layout(file))
    assert torch.equal(network.encoder.cls_token, file["cls_token"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.pop("encoder.blocks.2.norm1.bias"), "missing encoder.blocks.2.norm1.bias"),
        (lambda f: f.update({"encoder.extra": torch.zeros(1)}), "unexpected encoder.extra"),
        (lambda f: f.update({"encoder.norm.bias": torch.zeros(7)}), r"other shape encoder\.norm"),
        (lambda f: f["encoder.norm.bias"].fill_(torch.nan), "not finite encoder.norm.bias"),
    ],
)
def test_another_file_is_refused(change: object, said: str) -> None:
    network, file = small(*BANDS), published(SMALL_PRITHVI.size)
    assert callable(change)
    change(file)
    before = {n: v.clone() for n, v in network.state_dict().items()}
    with pytest.raises(RequestError, match=said):
        load_weights(network, file, network.layout(file))
    assert all(torch.equal(before[n], v) for n, v in network.state_dict().items())


def test_a_fine_tuned_file_gives_the_whole_network(tmp_path: Path) -> None:
    """TerraTorch wraps it, numbers the parts of neck and head, and leaves nothing out."""
    source, network = small(*BANDS, head_widths=()), small(*BANDS, head_widths=())
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(torch.randn_like(parameter))
    file = {}
    for name, value in source.state_dict().items():
        name = name.replace("head.last", "head.head.2")
        file[f"model.{re.sub('^neck.', 'neck.2.', name)}"] = value
    torch.save({"state_dict": file, "epoch": 3}, tmp_path / "tuned.pt")
    report = network.load_official(tmp_path / "tuned.pt")
    assert (report.missing, report.dropped) == ((), ())
    image = torch.randn(1, 6, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(image), source.eval()(image))
    del file["model.neck.2.fpn2.0.bias"]
    with pytest.raises(RequestError, match=r"missing neck\.fpn2\.0\.bias"):
        load_weights(network, file, network.layout(file))


def test_bands_are_taken_by_name() -> None:
    file, own = torch.randn(4, 6, 1, 8, 8), torch.randn(4, 4, 1, 8, 8)
    names = ("swir22", "nir", "slope", "red")
    stem = stem_by_name(file, own, names, nir_alias=True)
    for place, origin in ((0, file[:, 5]), (1, file[:, 3]), (2, own[:, 2]), (3, file[:, 2])):
        assert torch.equal(stem[:, place], origin)
    official = stem_by_name(file, own, names, nir_alias=False)
    assert torch.equal(official[:, 1], own[:, 1])
    both = stem_by_name(file, own, ("nir", "nir08", "red", "blue"), nir_alias=True)
    assert torch.equal(both[:, 0], own[:, 0])


def test_codes_that_are_not_given_are_not_added() -> None:
    network = small(*BANDS, coordinates=True).eval()
    image = torch.randn(1, 6, 32, 32)
    time, place = torch.tensor([[[2024.0, 90.0]]]), torch.tensor([[37.0, 36.5]])
    with torch.no_grad():
        plain = network(image)
        dated = network(image, time_NT2=time)
        placed = network(image, place_N2=place)
        network.encoder.temporal_embed_enc.scale.zero_()
        assert not torch.allclose(dated, plain)
        assert not torch.allclose(placed, plain)
        torch.testing.assert_close(network(image, time_NT2=time), plain)


def test_several_frames_become_one_map() -> None:
    network = Prithvi(of_bands(*BANDS, crop_px=32), replace(SMALL_PRITHVI, frames=2)).eval()
    image = torch.randn(1, 6, 2, 32, 32)
    with torch.no_grad():
        logits, swapped = network(image), network(image.flip(2))
    assert logits.shape == (1, 1, 32, 32)
    assert not torch.allclose(logits, swapped)


@pytest.mark.parametrize(("inner_px", "seen"), [(None, 40), (48, 48)])
def test_a_window_that_patches_do_not_divide_is_scored_whole(
    inner_px: int | None, seen: int
) -> None:
    network = Prithvi(of_bands(*BANDS, crop_px=36), replace(SMALL_PRITHVI, inner_px=inner_px))
    assert network.inner_px == seen
    image = torch.zeros(1, 6, 36, 36)
    image[..., 30:, 30:] = 3.0  # in the part of the last patch
    with torch.no_grad():
        logits = network.eval()(image)
    assert logits.shape == (1, 1, 36, 36)
    assert float(logits[0, 0, 33:, 33:].std()) > 0


def test_adapters_lie_in_every_block() -> None:
    network = on_meta(PrithviConfig(size=SIZES["300m"]))
    names = add_lora(network, LoraConfig(patterns=LORA_PATTERNS))
    assert len(names) == 96
    assert sum(p.numel() for p in lora_parameters(network)) == 8 * 24 * (4 + 2 + 5 + 5) * 1024


def test_a_small_network_maps_bands_to_the_six() -> None:
    network = small("red", "slope", "nir", adapter=True)
    file = published(SMALL_PRITHVI.size)
    load_weights(network, file, network.layout(file))
    assert torch.equal(
        network.state_dict()["encoder.patch_embed.proj.weight"],
        file["encoder.patch_embed.proj.weight"],
    )
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_it_learns_eight_chips() -> None:
    assert learnt(small(*BANDS), 32, steps=55) > 0.85


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="6 bands and sides of 32"):
        small(*BANDS)(torch.zeros(1, 6, 40, 40))
    with pytest.raises(ConfigError, match="does not fit the patches"):
        small(*BANDS, inner_px=30)
    nameless = Prithvi(NetworkInputs(bands=6, crop_px=32), SMALL_PRITHVI)
    with pytest.raises(ConfigError, match="bands have no names"):
        nameless.layout({})
    with pytest.raises(RequestError, match="no published weights"):
        small(*BANDS).load_official()
