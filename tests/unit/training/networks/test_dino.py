"""DINOv2 and DINOv3: sizes, names and rules of the published files, which are made up here."""

import math
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from quakestream.errors import RequestError, ShapeError
from tests.helpers.landslide_networks import waves, weights
from training.networks.dino import SIZES, Dino, DinoSize, load_dino

TINY = {
    "v2": DinoSize(version=2, width=32, depth=2, heads=2, pretrained_side=3),
    "v2 registers": DinoSize(version=2, width=32, depth=2, heads=2, registers=4, pretrained_side=3),
    "v3": DinoSize(version=3, width=32, depth=2, heads=2, registers=4),
}

EXPECTED = {
    ("v2", 2): [0.7307, -1.08641, -0.51572, 0.34932, 0.86924],
    ("v2", 3): [-1.21951, -0.4423, -0.42472, -1.04451, 0.88271],
    ("v2", 4): [-0.21161, -1.41312, -0.06385, -1.07435, 0.86389],
    ("v2 registers", 2): [0.71599, -1.11002, -0.56137, 0.30721, 0.87054],
    ("v2 registers", 3): [-1.21819, -0.44118, -0.42608, -1.04442, 0.88267],
    ("v2 registers", 4): [-0.20011, -1.41006, -0.05455, -1.08325, 0.86337],
    ("v3", 2): [-1.33092, 0.22979, -0.10264, -1.49945, 0.89669],
    ("v3", 3): [1.15753, -0.70938, -0.98465, 1.01423, 0.91513],
    ("v3", 4): [-0.31631, -0.6486, -1.77242, -0.14026, 0.87611],
}
"""Four features of the patch in row 1, column 0, and the mean of all absolute values."""


def published(size: DinoSize, *, satellite: bool = False) -> dict[str, Tensor]:
    """A file with the names and shapes of the published ones; values follow from the names."""
    d, hidden = size.width, size.mlp_ratio * size.width
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, d),
        "mask_token": (1, d),
        "patch_embed.proj.weight": (d, 3, size.patch_px, size.patch_px),
        "patch_embed.proj.bias": (d,),
    }
    if size.version == 2:
        shapes["pos_embed"] = (1, 1 + size.pretrained_side**2, d)
        shapes |= {"register_tokens": (1, size.registers, d)} if size.registers else {}
    else:
        shapes["storage_tokens"] = (1, size.registers, d)
    for block in range(size.depth):
        layers = {"norm1": (d,), "attn.qkv": (3 * d, d), "attn.proj": (d, d), "norm2": (d,)}
        layers |= {"mlp.fc1": (hidden, d), "mlp.fc2": (d, hidden)}
        for layer, shape in layers.items():
            shapes[f"blocks.{block}.{layer}.weight"] = shape
            shapes[f"blocks.{block}.{layer}.bias"] = shape[:1]
        shapes |= {f"blocks.{block}.ls{k}.gamma": (d,) for k in (1, 2)}
    norms = ("norm", "local_cls_norm") if satellite else ("norm",)
    shapes |= {f"{norm}.{end}": (d,) for norm in norms for end in ("weight", "bias")}
    file = {name: _values(name, shape) for name, shape in shapes.items()}
    if size.version == 3:
        mask = torch.ones(3 * d)
        mask[d : 2 * d] = 0
        file |= {f"blocks.{b}.attn.qkv.bias_mask": mask.clone() for b in range(size.depth)}
        places = torch.arange(d // size.heads // 4)
        file["rope_embed.periods"] = 100.0 ** (2 * places / (d // size.heads // 2))
    return file


def _values(name: str, shape: tuple[int, ...]) -> Tensor:
    count = math.prod(shape)
    wave = torch.sin(torch.arange(count).double() * 0.731 + zlib.crc32(name.encode()) % 97)
    scale = 0.3 / math.prod(shape[1:]) ** 0.5 if len(shape) == 2 else 0.2
    start = 1.0 if "norm" in name and name.endswith("weight") else 0.5 if "gamma" in name else 0.0
    return (start + scale * wave).float().reshape(shape)


def loaded(name: str) -> Dino:
    network = Dino(TINY[name])
    load_dino(network, published(TINY[name]), "made up")
    return network.eval()


@pytest.mark.parametrize(
    ("name", "count"),
    [("dinov2_s", 22_056_576), ("dinov2_b", 86_580_480), ("dinov2_l", 304_368_640)],
)
def test_sizes_are_the_published_ones(name: str, count: int) -> None:
    with torch.device("meta"):
        network = Dino(SIZES[name])
        file = published(SIZES[name])
    report = load_dino(network, file, "made up")
    assert report.dropped == ("mask_token",)
    assert weights(network) + file["mask_token"].numel() == count


def test_the_satellite_file_has_every_key_accounted_for() -> None:
    size = SIZES["dinov3_l"]
    with torch.device("meta"):
        network, file = Dino(size), published(size, satellite=True)
    report = load_dino(network, file, "made up")
    counted = [v for n, v in file.items() if "mask" not in n and "rope" not in n]
    assert sum(v.numel() for v in counted) == 303_155_200
    masks = {f"blocks.{b}.attn.qkv.bias_mask" for b in range(24)}
    assert set(report.dropped) == {*masks, "mask_token", "local_cls_norm.weight"} | {
        "local_cls_norm.bias"
    }
    assert (report.missing, report.unexpected) == ((), ())
    assert set(report.loaded) | set(report.dropped) == set(file)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("patches", [2, 3, 4])
def test_features_are_those_of_the_published_code(name: str, patches: int) -> None:
    """What dinov2 @ b8931f7 and dinov3 @ 6876159 of facebookresearch give with the same weights."""
    side = patches * TINY[name].patch_px
    with torch.no_grad():
        map_NDYX = loaded(name)(waves(1, 3, side, side))
    assert map_NDYX.shape == (1, 32, patches, patches)
    expected = EXPECTED[name, patches]
    torch.testing.assert_close(
        map_NDYX[0, 5:9, 1, 0], torch.tensor(expected[:4]), atol=5e-5, rtol=0
    )
    assert float(map_NDYX.abs().mean()) == pytest.approx(expected[4], abs=5e-5)


def test_the_bias_of_keys_is_masked_and_that_of_queries_is_not() -> None:
    network, file = Dino(TINY["v3"]), published(TINY["v3"])
    load_dino(network, file, "made up")
    bias, given = network.blocks[0].attn.qkv.bias, file["blocks.0.attn.qkv.bias"]
    assert not bias[32:64].any()
    assert torch.equal(bias[:32], given[:32])
    assert torch.equal(bias[64:], given[64:])


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("v2", "blocks.1.ls2.gamma", None, "missing blocks.1.ls2.gamma"),
        ("v2", "register_tokens", torch.zeros(1, 4, 32), "unexpected register_tokens"),
        ("v2", "pos_embed", torch.zeros(1, 17, 32), "other shape pos_embed"),
        ("v3", "norm.bias", torch.full((32,), math.nan), "not finite norm.bias"),
        ("v3", "blocks.0.attn.qkv.bias_mask", None, "no usable mask"),
        ("v3", "blocks.0.attn.qkv.bias_mask", torch.full((96,), 0.5), "no usable mask"),
        ("v3", "cls_norm.weight", torch.ones(32), "unexpected cls_norm.weight"),
    ],
)
def test_another_file_is_refused(name: str, key: str, value: Tensor | None, said: str) -> None:
    network, file = loaded(name), published(TINY[name])
    if value is None:
        del file[key]
    else:
        file[key] = value
    before = {n: v.clone() for n, v in network.state_dict().items()}
    with pytest.raises(RequestError, match=said):
        load_dino(network, file, "made up")
    assert all(torch.equal(before[n], v) for n, v in network.state_dict().items())


def test_a_file_on_disk_is_read_by_name(tmp_path: Path) -> None:
    network, size = Dino(TINY["v3"]), TINY["v3"]
    torch.save(published(size), tmp_path / "dino.pth")
    report = network.load_official(tmp_path / "dino.pth")
    assert "rope_embed.periods" in report.loaded
    with pytest.raises(RequestError, match="missing"):
        Dino(replace(size, depth=3)).load_official(tmp_path / "dino.pth")


def test_an_image_that_patches_do_not_divide_is_refused() -> None:
    for name, shape in (("v2", (1, 3, 30, 30)), ("v3", (1, 3, 32, 48))):
        with pytest.raises(ShapeError, match="a multiple of"):
            loaded(name)(torch.zeros(shape))
