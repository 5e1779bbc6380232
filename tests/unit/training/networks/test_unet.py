"""The U-Net of the competition: size, shape, and what its scores depend on."""

import pytest
import torch
from torch import nn

from quakestream.errors import ConfigError, ShapeError
from tests.helpers.landslide_networks import chips, gmac, learnt, weights
from training.networks import NetworkInputs, build_landslide_network
from training.networks.unet import UNet, UNetSize


def test_it_has_the_published_size_and_cost() -> None:
    with torch.device("meta"):
        network = build_landslide_network("unet_iarai", NetworkInputs(bands=14, outputs=2))
    assert weights(network) == 17_273_794
    assert f"{gmac(network.eval(), 1, 14, 128, 128):.1f}" == "10.1"


@pytest.mark.parametrize(("name", "bands"), [("unet_small", 14), ("unet_tiny", 3)])
def test_small_ones_fit_into_a_bundle(name: str, bands: int) -> None:
    with torch.device("meta"):
        network = build_landslide_network(name, NetworkInputs(bands=bands))
    assert 4 * weights(network) < 4.5e6


def test_scores_do_not_depend_on_the_side_of_the_window() -> None:
    """Only where interpolation does not align corners, and beyond the reach of the border."""
    torch.manual_seed(0)
    image = torch.randn(1, 2, 320, 320)
    gaps = {}
    for align in (False, True):
        size = UNetSize(width=8, align_corners=align)
        network = UNet(NetworkInputs(bands=2), size).eval()
        with torch.no_grad():
            whole, part = network(image), network(image[..., 32:, 32:])
        gap = (whole[..., 176:180, 176:180] - part[..., 144:148, 144:148]).abs().max()
        gaps[align] = float(gap / whole.std())
    assert gaps[False] < 1e-5
    assert gaps[True] > 1e-4


def test_group_norms_learn_from_single_chips() -> None:
    size = UNetSize(width=8, norm="group")
    network = UNet(NetworkInputs(bands=3), size)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    with torch.no_grad():
        one = network.train()(torch.randn(1, 3, 32, 32))
    assert one.shape == (1, 1, 32, 32)


def test_dropout_follows_every_up() -> None:
    network = build_landslide_network("unet_tiny", NetworkInputs(bands=3), dropout=0.5)
    image = torch.randn(2, 3, 32, 32)
    network.eval()
    with torch.no_grad():
        assert torch.equal(network(image), network(image))
        dropped = [m for m in network.modules() if isinstance(m, nn.Dropout2d)]
        for module in dropped:
            module.train()
        assert len(dropped) == 4
        assert not torch.equal(network(image), network(image))


def test_it_learns_eight_chips() -> None:
    torch.manual_seed(0)
    network = build_landslide_network("unet_tiny", NetworkInputs(bands=3))
    assert learnt(network, 32, steps=40, lr=1e-2) > 0.95


def test_a_frozen_encoder_stays_as_it_is() -> None:
    torch.manual_seed(0)
    network = build_landslide_network("unet_tiny", NetworkInputs(bands=3))
    before = {n: v.clone() for n, v in network.state_dict().items()}
    network.freeze_encoder()
    learnt(network, 32, steps=3)
    after = network.state_dict()
    moved = {n.split(".")[0] for n in after if not torch.equal(before[n], after[n])}
    assert moved == {"decoder", "head"}
    network.thaw_encoder()
    learnt(network, 32, steps=1)
    assert not torch.equal(before["encoder.0.0.weight"], network.state_dict()["encoder.0.0.weight"])


@pytest.mark.parametrize("shape", [(3, 40, 32), (4, 32, 32)])
def test_an_image_that_does_not_fit_is_refused(shape: tuple[int, int, int]) -> None:
    network = build_landslide_network("unet_tiny", NetworkInputs(bands=3))
    with pytest.raises(ShapeError, match="3 bands and sides that are multiples of 16"):
        network(torch.zeros(1, *shape))


def test_bands_have_as_many_names() -> None:
    with pytest.raises(ConfigError, match="differ in number"):
        NetworkInputs(bands=3, band_names=("red", "green"))


def test_the_chips_are_no_trivial_task() -> None:
    image, mask = chips(3, 32)
    assert 0.05 < float(mask.mean()) < 0.2
    assert float(image[:, 2].std()) == pytest.approx(1, abs=0.1)
