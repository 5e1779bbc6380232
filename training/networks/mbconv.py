"""Inverted bottlenecks with squeeze and excitation: the convolutional half of MetaFormer."""

from typing import cast

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Drops a residual branch for whole samples, in training only (Huang et al. 2016)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        """The branch (N, ...), zero for a random share of samples and scaled up for the rest."""
        if not self.training or self.share == 0:
            return branch
        keep = 1 - self.share
        kept = branch.new_empty((branch.shape[0], *[1] * (branch.ndim - 1))).bernoulli_(keep)
        return branch * kept / keep

    def extra_repr(self) -> str:
        return f"share={self.share}"


class MBConv(nn.Module):
    """Expand ×4, depthwise 3×3, squeeze and excite, project (EfficientNet's block).

    Submodules have the names of the official checkpoints. Only the convolutions of the squeeze
    have a bias, because a norm follows all others. Padding is 1 on all sides, also at stride 2.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1, drop_path: float = 0.0) -> None:
        super().__init__()
        wide, squeezed = 4 * c_in, max(1, int(0.25 * c_in))
        self._expand_conv = nn.Conv2d(c_in, wide, 1, bias=False)
        self._bn0 = _norm(wide)
        self._depthwise_conv = nn.Conv2d(
            wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False
        )
        self._bn1 = _norm(wide)
        self._se_reduce = nn.Conv2d(wide, squeezed, 1)
        self._se_expand = nn.Conv2d(squeezed, wide, 1)
        self._project_conv = nn.Conv2d(wide, c_out, 1, bias=False)
        self._bn2 = _norm(c_out)
        self.residual = stride == 1 and c_in == c_out
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, map_NCYX: Tensor) -> Tensor:
        """A map (N, c_out, y / stride, x / stride)."""
        x = nn.functional.silu(self._bn0(self._expand_conv(map_NCYX)))
        x = nn.functional.silu(self._bn1(self._depthwise_conv(x)))
        gate = self._se_reduce(x.mean((2, 3), keepdim=True))
        x = x * torch.sigmoid(self._se_expand(nn.functional.silu(gate)))
        x = cast(Tensor, self._bn2(self._project_conv(x)))
        return self.drop_path(x) + map_NCYX if self.residual else x


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=0.01, momentum=0.1)
