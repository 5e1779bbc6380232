"""EfficientNet-Lite0: real ImageNet weights on real photographs, and stems for other bands."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from torch import Tensor, nn

from quakestream.errors import RequestError
from tests.helpers.landslide_networks import learnt
from training.networks import NetworkInputs, build_landslide_network, of_bands
from training.networks.efficientnet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EfficientNetLite,
    adapted_stem,
    imagenet_file,
    load_imagenet,
)
from training.networks.efficientnet_maps import EfficientNetMaps
from training.networks.importing import read_weights

RGB = ("red", "green", "blue")
CATS, CUPS = range(281, 287), (504, 967, 968)
"""ImageNet's domestic cats; coffee mug, espresso, cup."""


def photograph(name: str) -> Tensor:
    image = cv2.resize(getattr(skimage.data, name)(), (224, 224), interpolation=cv2.INTER_AREA)
    scaled = (image.astype(np.float32) - IMAGENET_MEAN) / IMAGENET_STD
    return torch.from_numpy(scaled.transpose(2, 0, 1)[None].copy())


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite:
    encoder = EfficientNetLite(3)
    report = load_imagenet(encoder, RGB)
    assert (report.missing, report.unexpected, report.resized) == ((), (), ())
    assert {name.split(".")[0] for name in report.dropped} == {"_conv_head", "_bn1", "_fc"}
    assert len(report.loaded) + len(report.dropped) == 296
    return encoder.eval()


@pytest.mark.parametrize(("name", "classes"), [("chelsea", CATS), ("coffee", CUPS)])
def test_published_weights_know_a_cat_and_a_cup(
    encoder: EfficientNetLite, name: str, classes: range | tuple[int, ...]
) -> None:
    """The classifier of the file on top of our encoder: padding, norms and order are right."""
    raw = read_weights(imagenet_file())
    with torch.no_grad():
        deep = nn.functional.conv2d(encoder(photograph(name))[-1], raw["_conv_head.weight"])
        bn = [raw[f"_bn1.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        pooled = nn.functional.relu6(nn.functional.batch_norm(deep, *bn, eps=1e-3)).mean((2, 3))
        shares = (pooled @ raw["_fc.weight"].T + raw["_fc.bias"]).softmax(1)[0]
    assert int(shares.argmax()) in classes
    assert float(shares[list(classes)].sum()) > 0.6


def test_bands_in_another_order_give_the_same_features(encoder: EfficientNetLite) -> None:
    other = EfficientNetLite(3, deepest=16)
    report = load_imagenet(other, ("blue", "red", "green"))
    assert {int(n.split(".")[1]) for n in report.dropped if "_blocks" in n} == {*range(11, 16)}
    image = photograph("coffee")
    with torch.no_grad():
        found = other.eval()(image[:, [2, 0, 1]])
        for level, expected in zip(found, encoder(image)[:4], strict=True):
            torch.testing.assert_close(level, expected, atol=1e-3, rtol=0)


def test_a_stem_of_other_bands_keeps_its_scale() -> None:
    kernel = torch.randn(4, 3, 3, 3)
    stem = adapted_stem(kernel, ("slope", "nir", "green", "swir16", "red"))
    mean, scale = kernel.mean(1), 3 / 4
    torch.testing.assert_close(stem[:, 0], torch.zeros_like(mean))
    torch.testing.assert_close(stem[:, 1], scale * mean)
    torch.testing.assert_close(stem[:, 2], scale * kernel[:, 1])
    torch.testing.assert_close(stem[:, 4], scale * kernel[:, 0])
    grey = adapted_stem(kernel, ("nir", "nir08", "swir16", "swir22"))
    torch.testing.assert_close(grey.sum(1), kernel.sum(1))  # the same picture in every band


def test_other_weights_are_refused_and_change_nothing(tmp_path: Path) -> None:
    weights = read_weights(imagenet_file())
    del weights["_blocks.3._project_conv.weight"]
    weights["_blocks.0._se_reduce.weight"] = torch.zeros(8, 32, 1, 1)
    torch.save(weights, tmp_path / "other.pth")
    encoder = EfficientNetLite(3)
    before = {n: v.clone() for n, v in encoder.state_dict().items()}
    with pytest.raises(RequestError, match=r"missing _blocks\.3.*unexpected _blocks\.0\._se"):
        load_imagenet(encoder, RGB, tmp_path / "other.pth")
    assert all(torch.equal(before[n], v) for n, v in encoder.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_unetpp_small", "efficientnet_fpn_small"])
def test_decoders_learn_eight_chips(name: str) -> None:
    torch.manual_seed(0)
    network = build_landslide_network(name, of_bands("red", "nir", "slope"))
    assert isinstance(network, EfficientNetMaps)
    network.load_official()
    assert learnt(network, 32, steps=40) > 0.85


@pytest.mark.parametrize("decoder", ["unetpp", "fpn"])
@pytest.mark.parametrize("suffix", ["", "_small"])
def test_logits_have_the_side_of_the_image(decoder: str, suffix: str) -> None:
    inputs = NetworkInputs(bands=14, outputs=2)
    with torch.device("meta"):
        network = build_landslide_network(f"efficientnet_{decoder}{suffix}", inputs, dropout=0.1)
        assert network(torch.empty(2, 14, 96, 128)).shape == (2, 2, 96, 128)
