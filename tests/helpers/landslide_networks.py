"""Small tasks on which landslide networks are tried."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from training.networks import NetworkInputs, PixelNetwork, build_landslide_network
from training.networks.clay import ClaySize
from training.networks.clay_landslide import ClayConfig, ClayHybrid, ClayTerrain
from training.networks.galileo import Galileo, GalileoConfig, GalileoSize
from training.networks.prithvi import Prithvi, PrithviConfig, PrithviSize
from training.networks.unet import UNetSize

SMALL_PRITHVI = PrithviConfig(
    size=PrithviSize(width=48, depth=4, heads=3, patch_px=8, taps=(0, 1, 2, 3)),
    coordinates=False,
    inner_px=None,
    decoder_width=16,
    head_widths=(8,),
)
SMALL_CLAY = ClayConfig(
    size=ClaySize(width=24, depth=2, heads=2, head_width=12, mlp_ratio=2.0),
    decoder_width=16,
    unet=UNetSize(width=8, align_corners=False),
)
SMALL_GALILEO = GalileoConfig(
    size=GalileoSize(width=32, depth=2, heads=2), patch_px=4, detail_width=8
)


def small_networks(inputs: NetworkInputs, *, dropout: float = 0.0) -> dict[str, PixelNetwork]:
    """One network of every architecture, as small as it can be."""
    convolutional = ("unet_tiny", "efficientnet_unetpp_small", "efficientnet_fpn_small")
    return {
        **{n: build_landslide_network(n, inputs, dropout=dropout) for n in convolutional},
        "prithvi": Prithvi(inputs, SMALL_PRITHVI, dropout=dropout),
        "clay_terrain": ClayTerrain(inputs, SMALL_CLAY, dropout=dropout),
        "clay_hybrid": ClayHybrid(inputs, SMALL_CLAY, dropout=dropout),
        "galileo": Galileo(inputs, SMALL_GALILEO, dropout=dropout),
    }


def chips(bands: int, side_px: int, count: int = 8) -> tuple[Tensor, Tensor]:
    """Noise with a slide on each chip: an ellipse that is brighter in the first two bands.

    Returns:
        Z-scores (N, band, y, x), and masks (N, 1, y, x), 1 on slides.
    """
    random = torch.Generator().manual_seed(7)
    image_NBYX = torch.randn(count, bands, side_px, side_px, generator=random)
    centre_N2 = side_px * (0.3 + 0.4 * torch.rand(count, 2, generator=random))
    place = torch.arange(side_px)
    dy_NYX = (place[None, :, None] - centre_N2[:, 0, None, None]) / (0.25 * side_px)
    dx_NYX = (place[None, None, :] - centre_N2[:, 1, None, None]) / (0.15 * side_px)
    mask_NYX = (dy_NYX**2 + dx_NYX**2 < 1).float()
    image_NBYX[:, :2] += 1.5 * mask_NYX[:, None]
    return image_NBYX, mask_NYX[:, None]


def learnt(network: PixelNetwork, side_px: int, *, steps: int, lr: float = 3e-3) -> float:
    """Pixel F1 on the eight chips that a network was trained on."""
    image_NBYX, mask_N1YX = chips(network.inputs.bands, side_px)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=lr)
    network.train()
    for _ in range(steps):
        optimiser.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(network(image_NBYX), mask_N1YX)
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = network.eval()(image_NBYX) > 0
    hits = float((found & (mask_N1YX > 0)).sum())
    return 2 * hits / float(found.sum() + mask_N1YX.sum())


def weights(network: nn.Module) -> int:
    """Number of learnable values."""
    return sum(p.numel() for p in network.parameters())


def gmac(network: nn.Module, *shape: int) -> float:
    """Multiply-adds of one forward pass, in thousands of millions; the network is on `meta`."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(*shape, device="meta"))
    return float(counter.get_total_flops()) / 2e9


def patterned(network: nn.Module) -> nn.Module:
    """Gives a network weights that follow from their names' order alone, for stored figures."""
    with torch.no_grad():
        for number, (name, value) in enumerate(sorted(network.named_parameters())):
            wave = torch.sin(torch.arange(value.numel()).double() * 0.731 + number)
            scale = 0.3 / max(value[0].numel(), 1) ** 0.5 if value.ndim > 1 else 0.1
            start = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            value.copy_((start + scale * wave).reshape(value.shape))
    return network.eval()


def waves(*shape: int) -> Tensor:
    """An image that follows from its shape alone."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count).double() * 0.37).float().reshape(shape)
