"""FC-EF, FC-Siam-Conc and FC-Siam-Diff: U-Nets that compare two dates.

Daudt et al. 2018 (doi:10.1109/ICIP.2018.8451652) introduced the three; the widths are those of
the EPFL study on Kahramanmaraş 2023. Encoder blocks are convolution, norm, dropout, ReLU;
decoder blocks are convolution, norm, ReLU, channel dropout; the last convolution is bare.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Self

import torch
from torch import Tensor, nn

from quakestream.errors import ShapeError

Mode = Literal["ef", "conc", "diff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Channels along each level's convolutions."""

    encoder: tuple[tuple[int, ...], ...]
    """From full resolution downward, without the input bands: (16, 16) is two convolutions."""
    decoder: tuple[tuple[int, ...], ...]
    """From the bottleneck upward, without the inputs: (64, 16) is two convolutions."""

    def halo_px(self, stride: int) -> int:
        """Margin around a core that lies on the stride, from which a core pixel takes nothing more.

        A 3 × 3 convolution reaches one pixel of its level. Pooling and its inverse stay inside the
        squares of the stride.
        """
        levels = zip(self.encoder, reversed(self.decoder), strict=True)
        reach = sum((len(down) + len(up)) << level for level, (down, up) in enumerate(levels))
        return -(-reach // stride) * stride


_LEVELS = ((16, 16), (32, 32), (64, 64, 64), (128, 128, 128), (256, 256, 256))
_STAGES = ((256, 256, 128), (128, 128, 64), (64, 64, 32), (32, 16), (16, 1))

WIDTHS = {
    "small": Widths(encoder=((16,), (32,), (64,)), decoder=((32,), (16,), (1,))),
    "medium": Widths(encoder=_LEVELS[:4], decoder=_STAGES[1:]),
    "large": Widths(encoder=_LEVELS, decoder=_STAGES),
}


class FcSiam(nn.Module):
    """Change between two images of the same ground, one logit per pixel.

    The decoder starts from the bottleneck of the post-event image. The pre-event image enters
    through the skips: `diff` takes the absolute difference, `conc` takes both. In `ef` the two
    dates are one six-band image.
    """

    def __init__(self, *, mode: Mode, widths: Widths, bands: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.mode = mode
        self.stride = 2 ** len(widths.encoder)
        """Sides of the input must be multiples of this."""
        self.halo_px = widths.halo_px(self.stride)
        """Margin of a window that is scored as the whole scene would be."""
        tops = [level[-1] for level in widths.encoder]
        self.bottom = tops[-1]
        """Channels of the last encoder map."""
        self.encoder_bands = 2 * bands if mode == "ef" else bands
        """Bands of an image that the encoder takes; for `ef`, those of both dates."""
        self.encoder_frozen = False
        starts = [self.encoder_bands, *tops[:-1]]
        self.encoder = nn.ModuleList(
            _encoder_block([start, *level], dropout)
            for start, level in zip(starts, widths.encoder, strict=True)
        )
        ups = [tops[-1], *(stage[-1] for stage in widths.decoder[:-1])]
        skips = 2 if mode == "conc" else 1
        self.up = nn.ModuleList(nn.ConvTranspose2d(c, c, 2, stride=2) for c in ups)
        self.decoder = nn.ModuleList(
            _decoder_block([c + skips * top, *stage], dropout, bare_end=stage[-1] == 1)
            for c, top, stage in zip(ups, reversed(tops), widths.decoder, strict=True)
        )

    def forward(self, pre_NBYX: Tensor, post_NBYX: Tensor) -> Tensor:
        """Logits (N, 1, y, x) of normalised images (N, band, y, x).

        Raises:
            ShapeError: if a side is no multiple of the network's stride.
        """
        self._check_sides(post_NBYX)
        bottom, skips = self._encode(pre_NBYX, post_NBYX)
        for up, block, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            bottom = block(torch.cat([up(bottom), *skip], dim=1))
        return bottom

    def encode(self, image_NBYX: Tensor) -> Tensor:
        """The last encoder map (N, bottom, y / stride, x / stride) of `encoder_bands` bands.

        Raises:
            ShapeError: if a side is no multiple of the network's stride.
        """
        self._check_sides(image_NBYX)
        return self._levels(image_NBYX)[0]

    def freeze_encoder(self) -> None:
        """Freezes the weights and batch statistics of the encoder."""
        self.encoder.requires_grad_(False)
        self.encoder_frozen = True
        self.encoder.eval()

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.encoder_frozen:
            self.encoder.eval()
        return self

    def _check_sides(self, image: Tensor) -> None:
        height, width = image.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ShapeError(
                "image does not fit the network",
                "network input",
                expected=f"sides that are multiples of {self.stride}",
                got=f"{height}×{width}",
            )

    def _encode(self, pre: Tensor, post: Tensor) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """The bottleneck, where the decoder starts, and the skips from full resolution down."""
        if self.mode == "ef":
            bottom, levels = self._levels(stack_dates(pre, post))
            return bottom, [(level,) for level in levels]
        if self.training:  # One pass, so that batch norms see both dates as one population.
            _, levels = self._levels(torch.cat([post, pre], dim=0))
            halves = [level.chunk(2) for level in levels]
            posts, pres = [a for a, _ in halves], [b for _, b in halves]
            bottom = nn.functional.max_pool2d(posts[-1], 2)
        else:  # Two passes give the same numbers without copying every level.
            bottom, posts = self._levels(post)
            _, pres = self._levels(pre)
        both = zip(posts, pres, strict=True)
        if self.mode == "diff":
            return bottom, [((a - b).abs(),) for a, b in both]
        return bottom, list(both)

    def _levels(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        levels = []
        for block in self.encoder:
            level = block(image)
            levels.append(level)
            image = nn.functional.max_pool2d(level, 2)
        return image, levels


class Embedding(nn.Module):
    """A point on the unit sphere per image, which contrastive pre-training compares.

    It shares the encoder with its network, so training one trains the other.
    """

    def __init__(self, network: FcSiam, width: int = 128) -> None:
        super().__init__()
        self.network = network
        self.embedding = nn.Linear(network.bottom, width)

    def forward(self, first_NBYX: Tensor, second_NBYX: Tensor) -> tuple[Tensor, Tensor]:
        """Points (N, width) of length 1 of two normalised images.

        Args:
            first_NBYX: the pre-event image; for `ef` one pair, see `stack_dates`.
            second_NBYX: the post-event image; for `ef` another pair.

        Raises:
            ShapeError: if a side is no multiple of the network's stride.
        """
        # One pass, so that batch norms see both images as one population.
        map_NCYX = self.network.encode(torch.cat([first_NBYX, second_NBYX]))
        point_ND = self.embedding(map_NCYX.mean((2, 3)))
        unit_ND = nn.functional.normalize(point_ND.float(), dim=1)
        return unit_ND[: len(first_NBYX)], unit_ND[len(first_NBYX) :]


def stack_dates(pre_NBYX: Tensor, post_NBYX: Tensor) -> Tensor:
    """Both dates as one image for the encoder of `ef`, (N, 2·band, y, x)."""
    return torch.cat([pre_NBYX, post_NBYX], dim=1)


def _encoder_block(widths: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise(widths):
        layers += [
            nn.Conv2d(c_in, c_out, 3, padding=1),
            nn.BatchNorm2d(c_out),
            nn.Dropout(dropout),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def _decoder_block(widths: Sequence[int], dropout: float, *, bare_end: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    steps = list(pairwise(widths))
    for i, (c_in, c_out) in enumerate(steps):
        layers.append(nn.Conv2d(c_in, c_out, 3, padding=1))
        if not (bare_end and i == len(steps) - 1):
            layers += [nn.BatchNorm2d(c_out), nn.ReLU(), nn.Dropout2d(dropout)]
    return nn.Sequential(*layers)
