"""Networks that map landslides, by name."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from training.networks import clay, prithvi
from training.networks.base import PixelNetwork
from training.networks.clay_landslide import ClayConfig, ClayHybrid, ClayTerrain
from training.networks.efficientnet_maps import EFFICIENTNETS, EfficientNetMaps
from training.networks.galileo import LORA_PATTERNS, Galileo, GalileoConfig
from training.networks.inputs import NetworkInputs
from training.networks.prithvi import Prithvi, PrithviConfig
from training.networks.unet import UNETS, UNet

ADAPTER = "_adapter"
"""Ends the names of networks that map any bands to those of their pre-training, per pixel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandslideNetwork:
    """How a network is called and built."""

    title: str
    """The name in the literature, and the size."""
    build: Callable[[float, NetworkInputs], PixelNetwork]
    """Takes the share of dropped channels and the inputs."""
    lora: tuple[str, ...] = ()
    """Patterns of the layers that get an adapter; empty for networks without a transformer."""


def _unet(size: str) -> LandslideNetwork:
    def build(dropout: float, inputs: NetworkInputs) -> UNet:
        return UNet(inputs, UNETS[size], dropout=dropout)

    title = f"U-Net, width {UNETS[size].width}"
    return LandslideNetwork(title=title, build=build)


def _efficientnet(name: str) -> LandslideNetwork:
    size = EFFICIENTNETS[name]
    decoder = {"unetpp": "U-Net++", "fpn": "FPN"}[size.decoder]

    def build(dropout: float, inputs: NetworkInputs) -> EfficientNetMaps:
        return EfficientNetMaps(inputs, size, dropout=dropout)

    title = f"{decoder} on EfficientNet-Lite0, down to stride {size.deepest}"
    return LandslideNetwork(title=title, build=build)


def _prithvi(title: str, config: PrithviConfig) -> LandslideNetwork:
    def build(dropout: float, inputs: NetworkInputs) -> Prithvi:
        return Prithvi(inputs, config, dropout=dropout)

    return LandslideNetwork(title=title, build=build, lora=prithvi.LORA_PATTERNS)


def _clay(network: type[ClayTerrain] | type[ClayHybrid], size: str, unet: str) -> LandslideNetwork:
    config = ClayConfig(size=clay.SIZES[size], unet=UNETS[unet])
    decoder = {ClayTerrain: "a terrain decoder", ClayHybrid: f"U-Net, width {UNETS[unet].width}"}

    def build(dropout: float, inputs: NetworkInputs) -> PixelNetwork:
        return network(inputs, config, dropout=dropout)

    title = f"Clay v1.5 {size} with {decoder[network]}"
    return LandslideNetwork(title=title, build=build, lora=clay.LORA_PATTERNS)


def _galileo(patch_px: int) -> LandslideNetwork:
    def build(dropout: float, inputs: NetworkInputs) -> Galileo:
        return Galileo(inputs, GalileoConfig(patch_px=patch_px), dropout=dropout)

    title = f"Galileo nano, patches of {patch_px} px"
    return LandslideNetwork(title=title, build=build, lora=LORA_PATTERNS)


def _of_prithvi() -> dict[str, LandslideNetwork]:
    known = {}
    for name, size in prithvi.SIZES.items():
        title = f"Prithvi-EO-2.0 {name} with UPerNet"
        spread = PrithviConfig(size=size, coordinates=False)
        flat = PrithviConfig(size=size, coordinates=False, pyramid=False)
        known[f"prithvi_{name}"] = _prithvi(title, spread)
        known[f"prithvi_{name}_flat"] = _prithvi(f"{title}, without pyramid", flat)
        mapped = replace(spread, adapter=True)
        known[f"prithvi_{name}{ADAPTER}"] = _prithvi(f"{title}, bands mapped to its six", mapped)
    light = PrithviConfig(
        size=prithvi.SIZES["tiny"],
        coordinates=False,
        inner_px=None,
        decoder_width=64,
        head_widths=(32,),
    )
    title = "Prithvi-EO-2.0 tiny with a narrow UPerNet"
    known["prithvi_tiny_light"] = _prithvi(title, light)
    mapped = replace(light, adapter=True)
    known[f"prithvi_tiny_light{ADAPTER}"] = _prithvi(f"{title}, bands mapped to its six", mapped)
    return known


LANDSLIDE_NETWORKS: dict[str, LandslideNetwork] = {
    "unet_tiny": _unet("tiny"),
    "unet_small": _unet("small"),
    "unet_iarai": _unet("iarai"),
    "efficientnet_unetpp": _efficientnet("unetpp"),
    "efficientnet_unetpp_small": _efficientnet("unetpp_small"),
    "efficientnet_fpn": _efficientnet("fpn"),
    "efficientnet_fpn_small": _efficientnet("fpn_small"),
    **_of_prithvi(),
    "clay_terrain": _clay(ClayTerrain, "large", "iarai"),
    "clay_hybrid": _clay(ClayHybrid, "large", "iarai"),
    "clay_terrain_tiny": _clay(ClayTerrain, "tiny", "small"),
    "clay_hybrid_tiny": _clay(ClayHybrid, "tiny", "small"),
    "galileo_nano": _galileo(8),
    "galileo_nano_p4": _galileo(4),
}
"""`tiny` Clay, `tiny` and `small` U-Nets and `light` are sizes without published weights."""
