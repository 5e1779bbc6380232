"""UPerNet (Xiao et al. 2018, arXiv:1807.10221) and the pyramid that feeds it from a transformer.

Names of weights are those of TerraTorch, so that fine-tuned files can be read.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

POOLS = (1, 2, 3, 6)
"""Sides of the pooled maps."""


class Pyramid(nn.Module):
    """Four maps of one side as maps of four sides: times 4, times 2, as it is, and half."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fpn1 = nn.Sequential(
            nn.ConvTranspose2d(width, width // 2, 2, stride=2),
            nn.BatchNorm2d(width // 2),
            nn.GELU(),
            nn.ConvTranspose2d(width // 2, width // 4, 2, stride=2),
        )
        self.fpn2 = nn.Sequential(nn.ConvTranspose2d(width, width // 2, 2, stride=2))
        self.channels = (width // 4, width // 2, width, width)
        """Channels of the four maps, from the finest down."""

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The four maps, from the finest down."""
        first, second, third, fourth = maps
        return [self.fpn1(first), self.fpn2(second), third, nn.functional.max_pool2d(fourth, 2)]


class ConvModule(nn.Module):
    """A convolution without bias, batch norm and ReLU."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, map_NDYX: Tensor) -> Tensor:
        """A map of the same side."""
        return nn.functional.relu(self.norm(self.conv(map_NDYX)))


class UPerNet(nn.Module):
    """One map from four, at the finest side.

    The deepest map is pooled at four sides, and a feature pyramid joins the others to it.

    Args:
        channels: channels of the maps, from the finest down.
        width: channels of the result.
    """

    def __init__(self, channels: Sequence[int], width: int = 256) -> None:
        super().__init__()
        deepest = channels[-1]
        self.psp_modules = nn.ModuleList(
            nn.Sequential(SquarePool(side), ConvModule(deepest, width, 1)) for side in POOLS
        )
        self.bottleneck = ConvModule(deepest + len(POOLS) * width, width, 3)
        self.lateral_convs = nn.ModuleList(ConvModule(c, width, 1) for c in channels[:-1])
        self.fpn_convs = nn.ModuleList(ConvModule(width, width, 3) for _ in channels[:-1])
        self.fpn_bottleneck = ConvModule(len(channels) * width, width, 3)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """A map (N, width, y, x) of the side of the first map."""
        deepest = maps[-1]
        pooled = [stretched(pool(deepest), like=deepest) for pool in self.psp_modules]
        tops = [lateral(m) for lateral, m in zip(self.lateral_convs, maps[:-1], strict=True)]
        tops.append(self.bottleneck(torch.cat([deepest, *pooled], dim=1)))
        for place in range(len(tops) - 1, 0, -1):
            tops[place - 1] = tops[place - 1] + stretched(tops[place], like=tops[place - 1])
        smooth = [conv(top) for conv, top in zip(self.fpn_convs, tops[:-1], strict=True)]
        smooth.append(tops[-1])
        even = [smooth[0], *(stretched(m, like=smooth[0]) for m in smooth[1:])]
        joined: Tensor = self.fpn_bottleneck(torch.cat(even, dim=1))
        return joined


class SquarePool(nn.Module):
    """Adaptive average pooling to a square, as two products with constant matrices.

    It computes what `nn.AdaptiveAvgPool2d` computes. Runtimes have no operator for sides that do
    not divide one another.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, map_NDYX: Tensor) -> Tensor:
        """A map (N, D, side, side)."""
        rows, columns = map_NDYX.shape[-2:]
        over_rows = pooling(int(rows), self.side).to(map_NDYX)
        over_columns = pooling(int(columns), self.side).to(map_NDYX)
        return over_rows @ map_NDYX @ over_columns.T


def pooling(length: int, parts: int) -> Tensor:
    """Weights of the mean of each part, (parts, length); parts overlap where they do not divide."""
    rows = []
    for part in range(parts):
        start, end = part * length // parts, -(-(part + 1) * length // parts)
        share = 1 / (end - start)
        rows.append([share if start <= place < end else 0.0 for place in range(length)])
    return torch.tensor(rows, device="cpu")


def stretched(map_NDYX: Tensor, *, like: Tensor) -> Tensor:
    """Bilinear interpolation to the side of another map, corner onto corner."""
    size = [int(side) for side in like.shape[-2:]]
    if list(map_NDYX.shape[-2:]) == size:
        return map_NDYX
    return nn.functional.interpolate(map_NDYX, size=size, mode="bilinear", align_corners=True)
