"""The U-Net of the Landslide4Sense competition (IARAI, Ghorbanzadeh et al. 2022), in any width.

Five levels of double convolutions, halved by max pooling and doubled by bilinear interpolation.
At 14 bands, width 64 and two outputs it has 17,273,794 weights.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.networks.base import PixelNetwork
from training.networks.inputs import NetworkInputs

Norm = Literal["batch", "group"]

STRIDE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetSize:
    """Width and details of a U-Net."""

    width: int = 64
    """Channels of the first level; the others have 2, 4, 8 and 8 times as many."""
    norm: Norm = "batch"
    """`group` takes its statistics from the whole window, so that scores depend on its place."""
    align_corners: bool = True
    """As published. Interpolation then depends on the side of the window; False does not."""


UNETS = {
    "tiny": UNetSize(width=8, align_corners=False),
    "small": UNetSize(width=16, align_corners=False),
    "iarai": UNetSize(),
}
"""`tiny` (0.3 M weights) and `small` (1.1 M, 4.3 MB) are sizes of this project."""


class DoubleConv(nn.Sequential):
    """Two 3×3 convolutions, each with norm and ReLU.

    Args:
        c_in: input channels.
        c_out: output channels.
        middle: channels between the two.
        norm: kind of the norms.
        bias: convolutions have a bias, which batch norms make superfluous.
    """

    def __init__(
        self, c_in: int, c_out: int, *, middle: int, norm: Norm = "batch", bias: bool = True
    ) -> None:
        super().__init__(
            nn.Conv2d(c_in, middle, 3, padding=1, bias=bias),
            norm_of(norm, middle),
            nn.ReLU(),
            nn.Conv2d(middle, c_out, 3, padding=1, bias=bias),
            norm_of(norm, c_out),
            nn.ReLU(),
        )


class Up(nn.Module):
    """Doubles the side, takes the skip in, convolves, and drops channels in training."""

    def __init__(self, c_in: int, c_out: int, size: UNetSize, dropout: float) -> None:
        super().__init__()
        self.align_corners = size.align_corners
        self.conv = DoubleConv(c_in, c_out, middle=c_in // 2, norm=size.norm)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, deep_NDYX: Tensor, skip_NDYX: Tensor) -> Tensor:
        """A map of the skip's side."""
        wide = nn.functional.interpolate(
            deep_NDYX, scale_factor=2.0, mode="bilinear", align_corners=self.align_corners
        )
        mapped: Tensor = self.dropout(self.conv(torch.cat([skip_NDYX, wide], dim=1)))
        return mapped


class UNet(PixelNetwork):
    """Logits per pixel of an image with any number of bands.

    Args:
        inputs: bands and outputs. Sides of the image are multiples of 16.
        size: width and details.
        dropout: share of channels that are dropped after each `Up`.
    """

    encoder: nn.ModuleList

    def __init__(self, inputs: NetworkInputs, size: UNetSize, *, dropout: float = 0.0) -> None:
        super().__init__(inputs, stride=STRIDE)
        w = size.width
        self.widths = (w, 2 * w, 4 * w, 8 * w, 8 * w)
        """Channels of the levels, from full resolution down."""
        starts = (inputs.bands, *self.widths[:-1])
        self.encoder = nn.ModuleList(
            DoubleConv(a, b, middle=b, norm=size.norm)
            for a, b in zip(starts, self.widths, strict=True)
        )
        steps = ((16 * w, 4 * w), (8 * w, 2 * w), (4 * w, w), (2 * w, w))
        self.decoder = nn.ModuleList(Up(a, b, size, dropout) for a, b in steps)
        self.head = nn.Conv2d(w, inputs.outputs, 1)

    def forward(self, image_NBYX: Tensor) -> Tensor:
        """Logits (N, output, y, x) of z-scores (N, band, y, x).

        Raises:
            ShapeError: if the bands differ, or a side is no multiple of 16.
        """
        self.check_image(image_NBYX)
        bottom_NDYX, skips = self.encode(image_NBYX)
        return self.decode(bottom_NDYX, skips)

    def encode(self, image_NBYX: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The bottleneck at a sixteenth of the side, and the skips from full resolution down."""
        levels: list[Tensor] = []
        x = image_NBYX
        for number, block in enumerate(self.encoder):
            x = block(nn.functional.max_pool2d(x, 2) if number else x)
            levels.append(x)
        return levels[-1], levels[:-1]

    def decode(self, bottom_NDYX: Tensor, skips: list[Tensor]) -> Tensor:
        """Logits from the bottleneck and the skips."""
        x = bottom_NDYX
        for up, skip in zip(self.decoder, reversed(skips), strict=True):
            x = up(x, skip)
        logits: Tensor = self.head(x)
        return logits


def norm_of(norm: Norm, channels: int) -> nn.Module:
    """A norm over channels; group norms have eight channels a group, or one group."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(channels // 8 if channels % 8 == 0 else 1, channels)
