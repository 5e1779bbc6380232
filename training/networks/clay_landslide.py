"""Landslides with Clay: a decoder with terrain (architecture 1), and a U-Net that takes Clay's map
into its bottleneck (architecture 2).

In the first stage of training Clay is frozen: `freeze_encoder()`. In the second it gets adapters:
`add_lora(network, LoraConfig(patterns=clay.LORA_PATTERNS))`, again frozen.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError
from training.networks import clay
from training.networks.bands import spectral, terrain, wavelengths_um
from training.networks.base import PixelNetwork
from training.networks.importing import ImportReport, load_weights, read_weights
from training.networks.inputs import NetworkInputs
from training.networks.unet import UNet, UNetSize, norm_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ClayConfig:
    """A size of Clay and what is around it."""

    size: clay.ClaySize
    final_norm: bool = False
    """Normalise Clay's last block. The study does not."""
    decoder_width: int = 96
    """Architecture 1: channels of the decoder and of the terrain pyramid."""
    unet: UNetSize = field(default_factory=UNetSize)
    """Architecture 2: the U-Net."""


class ClayNetwork(PixelNetwork):
    """What both architectures share: Clay over the bands that have a wavelength.

    Args:
        inputs: bands by name, GSD, and the side of a window, `crop_px`, a multiple of 16.
        config: sizes.

    Raises:
        ConfigError: if bands have no names or no wavelength, or the side does not fit.
    """

    encoder: clay.ClayEncoder

    def __init__(self, inputs: NetworkInputs, config: ClayConfig) -> None:
        super().__init__(inputs, stride=16)
        names = self.band_names()
        if inputs.crop_px % 16:
            raise ConfigError(
                "window does not fit the network",
                "crop_px",
                expected="a multiple of 16",
                got=str(inputs.crop_px),
            )
        self.spectral, self.terrain = spectral(names), terrain(names)
        told = clay.ClayInputs(
            wavelengths_um=wavelengths_um(names), side_px=inputs.crop_px, gsd_m=inputs.gsd_m
        )
        self.encoder = clay.ClayEncoder(config.size, told, final_norm=config.final_norm)

    def load_official(self, path: Path | None = None) -> ImportReport:
        """Loads the published Clay v1.5, of which only the encoder is used.

        Raises:
            RequestError: if no path is given, or the file holds other weights.
        """
        if path is None:
            return super().load_official(path)
        weights = read_weights(path, wrappers=("state_dict",))
        return load_weights(self, weights, clay.LAYOUT, str(path))

    def clay_map(self, image_NBYX: Tensor) -> Tensor:
        """Clay's map (N, width, side / 8, side / 8)."""
        self.check_image(image_NBYX, self.inputs.crop_px)
        mapped: Tensor = self.encoder(picked(image_NBYX, self.spectral))
        return mapped


class ClayTerrain(ClayNetwork):
    """Architecture 1: Clay's map, corrected by terrain at a eighth and a quarter of the side.

    Args:
        inputs: needs slope, elevation or both besides spectral bands.
        config: sizes.
        dropout: share of channels that are dropped in terrain, decoder and head; 0.1 in the study.
    """

    def __init__(self, inputs: NetworkInputs, config: ClayConfig, *, dropout: float = 0.0) -> None:
        super().__init__(inputs, config)
        if not self.terrain:
            raise ConfigError("no terrain among the bands", "band_names", expected="slope")
        width = config.decoder_width
        self.project = nn.Sequential(
            nn.Conv2d(config.size.width, width, 1), norm8(width), nn.ReLU()
        )
        starts, strides = (len(self.terrain), width, width, width), (1, 2, 2, 2)
        self.pyramid = nn.ModuleList(
            nn.Sequential(_conv(c_in, width, stride=stride), nn.Dropout2d(dropout))
            for c_in, stride in zip(starts, strides, strict=True)
        )
        self.fuse_8, self.fuse_4 = (TerrainFusion(width, dropout) for _ in range(2))
        self.up = nn.ModuleList(
            nn.Sequential(_conv(width, width), nn.Dropout2d(dropout), _conv(width, width))
            for _ in range(3)
        )
        last = nn.Conv2d(width, inputs.outputs, 1)
        nn.init.normal_(last.weight, std=1e-3)
        self.head = nn.Sequential(_conv(width, width), nn.Dropout2d(dropout), last)

    def forward(self, image_NBYX: Tensor) -> Tensor:
        """Logits (N, output, y, x) of z-scores (N, band, y, x).

        Raises:
            ShapeError: if the window is of another size.
        """
        x = self.project(self.clay_map(image_NBYX))
        levels = [picked(image_NBYX, self.terrain)]
        for conv in self.pyramid:
            levels.append(conv(levels[-1]))
        x = self.fuse_8(x, levels[4])
        x = self.fuse_4(self.up[0](doubled(x)), levels[3])
        x = self.up[2](doubled(self.up[1](doubled(x))))
        logits: Tensor = self.head(x)
        return logits


class TerrainFusion(nn.Module):
    """Adds terrain to the decoder, with a learnt share that starts at 0."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.decoder = _conv(width, width)
        self.terrain = nn.Sequential(
            _conv(width, width),
            nn.Dropout2d(dropout),
            nn.Conv2d(width, width, 3, padding=1),
            norm8(width),
        )
        self.share = nn.Parameter(torch.zeros(()))
        self.out = nn.Sequential(nn.ReLU(), _conv(width, width))

    def forward(self, decoder_NDYX: Tensor, terrain_NDYX: Tensor) -> Tensor:
        """A map of the same side."""
        corrected = self.decoder(decoder_NDYX) + self.share * self.terrain(terrain_NDYX)
        fused: Tensor = self.out(corrected)
        return fused


class ClayHybrid(ClayNetwork):
    """Architecture 2: a U-Net over all bands, with Clay's map in its bottleneck.

    Args:
        inputs: bands by name; the U-Net takes all of them, Clay those with a wavelength.
        config: sizes.
        dropout: share of channels that are dropped after each `Up`; 0.1 in the study.
    """

    def __init__(self, inputs: NetworkInputs, config: ClayConfig, *, dropout: float = 0.0) -> None:
        super().__init__(inputs, config)
        self.unet = UNet(inputs, config.unet, dropout=dropout)
        deep = self.unet.widths[-1]
        self.project = nn.Sequential(
            nn.Conv2d(config.size.width, deep, 1, bias=False), nn.BatchNorm2d(deep), nn.ReLU()
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(2 * deep, deep, 3, padding=1, bias=False),
            norm_of(config.unet.norm, deep),
            nn.ReLU(),
            nn.Conv2d(deep, deep, 3, padding=1, bias=False),
            norm_of(config.unet.norm, deep),
            nn.ReLU(),
        )

    def forward(self, image_NBYX: Tensor) -> Tensor:
        """Logits (N, output, y, x) of z-scores (N, band, y, x).

        Raises:
            ShapeError: if the window is of another size.
        """
        bottom_NDYX, skips = self.unet.encode(image_NBYX)
        context_NDYX = nn.functional.interpolate(
            self.project(self.clay_map(image_NBYX)),
            scale_factor=0.5,
            mode="bilinear",
            align_corners=False,
        )
        return self.unet.decode(self.fuse(torch.cat([bottom_NDYX, context_NDYX], dim=1)), skips)


def picked(image_NBYX: Tensor, places: tuple[int, ...]) -> Tensor:
    """Some bands of an image, as slices of neighbouring bands."""
    if places == tuple(range(image_NBYX.shape[1])):
        return image_NBYX
    starts = [k for k, place in enumerate(places) if k == 0 or place != places[k - 1] + 1]
    ends = [*starts[1:], len(places)]
    parts = [
        image_NBYX[:, places[a] : places[b - 1] + 1] for a, b in zip(starts, ends, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def norm8(channels: int) -> nn.GroupNorm:
    """A norm over eight groups of channels, or over each channel if there are fewer."""
    return nn.GroupNorm(min(8, channels), channels)


def doubled(map_NDYX: Tensor) -> Tensor:
    """Bilinear interpolation to twice the side."""
    return nn.functional.interpolate(
        map_NDYX, scale_factor=2.0, mode="bilinear", align_corners=False
    )


def _conv(c_in: int, c_out: int, *, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1)
    return nn.Sequential(conv, norm8(c_out), nn.ReLU())
