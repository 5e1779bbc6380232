"""Networks that map landslides, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from training.networks.base import PixelNetwork
from training.networks.efficientnet_maps import EFFICIENTNETS, EfficientNetMaps
from training.networks.inputs import NetworkInputs
from training.networks.unet import UNETS, UNet


@dataclass(frozen=True, slots=True, kw_only=True)
class LandslideNetwork:
    """How a network is called and built."""

    title: str
    """The name in the literature, and the size."""
    build: Callable[[float, NetworkInputs], PixelNetwork]
    """Takes the share of dropped channels and the inputs."""


def _unet(size: str) -> LandslideNetwork:
    def build(dropout: float, inputs: NetworkInputs) -> UNet:
        return UNet(inputs, UNETS[size], dropout=dropout)

    return LandslideNetwork(title=f"U-Net, width {UNETS[size].width}", build=build)


def _efficientnet(name: str) -> LandslideNetwork:
    size = EFFICIENTNETS[name]
    decoder = {"unetpp": "U-Net++", "fpn": "FPN"}[size.decoder]

    def build(dropout: float, inputs: NetworkInputs) -> EfficientNetMaps:
        return EfficientNetMaps(inputs, size, dropout=dropout)

    title = f"{decoder} on EfficientNet-Lite0, down to stride {size.deepest}"
    return LandslideNetwork(title=title, build=build)


LANDSLIDE_NETWORKS: dict[str, LandslideNetwork] = {
    **{f"unet_{size}": _unet(size) for size in UNETS},
    **{f"efficientnet_{name}": _efficientnet(name) for name in EFFICIENTNETS},
}
