"""The prompt encoder of Segment Anything: points, boxes and a rough mask as tokens and a map."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor, nn

from quakestream.errors import ShapeError
from training.networks.sam_encoder import ChannelNorm

NEGATIVE, POSITIVE, PADDING = 0, 1, -1
"""Kinds of points: on other ground, on the object, and none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompts:
    """Prompts of N masks, in pixels of the network's image; x before y, as in the published code.

    Raises:
        ShapeError: if there is neither a point nor a box, or numbers differ.
    """

    point_N2: Tensor | None = None
    """Points (N, points, 2)."""
    kind_N: Tensor | None = None
    """Kind of each point (N, points)."""
    box_N4: Tensor | None = None
    """Left, top, right, bottom."""
    mask_N1YX: Tensor | None = None
    """Logits of a rough mask, four times the side of the embedding."""

    def __post_init__(self) -> None:
        point, kind, box = self.point_N2, self.kind_N, self.box_N4
        none = point is None and box is None
        unlike = (point is None) != (kind is None)
        if point is not None and kind is not None:
            unlike = point.ndim != 3 or point.shape[:2] != kind.shape or point.shape[2] != 2
        given = [t for t in (point, box, self.mask_N1YX) if t is not None]
        if none or unlike or len({len(t) for t in given}) > 1:
            raise ShapeError(
                "prompts do not fit together",
                "prompts",
                expected="points (N, P, 2) with kinds (N, P), or boxes (N, 4), or both",
                got=str([tuple(t.shape) for t in given]),
            )

    def __len__(self) -> int:
        given = self.box_N4 if self.point_N2 is None else self.point_N2
        assert given is not None
        return len(given)


class PromptEncoder(nn.Module):
    """Prompts as tokens (N, tokens, channels) and a map (N, channels, side, side)."""

    def __init__(self, channels: int, side: int, image_px: int) -> None:
        super().__init__()
        self.side, self.image_px = side, image_px
        self.pe_layer = RandomCode(channels)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, channels) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, channels)
        self.no_mask_embed = nn.Embedding(1, channels)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            ChannelNorm(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            ChannelNorm(16),
            nn.GELU(),
            nn.Conv2d(16, channels, 1),
        )

    def forward(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Tokens and the map."""
        tokens = []
        if prompts.point_N2 is not None and prompts.kind_N is not None:
            tokens.append(self._points(prompts.point_N2, prompts.kind_N, prompts.box_N4 is None))
        if prompts.box_N4 is not None:
            tokens.append(self._boxes(prompts.box_N4))
        if prompts.mask_N1YX is not None:
            return torch.cat(tokens, dim=1), self.mask_downscaling(prompts.mask_N1YX)
        dense = self.no_mask_embed.weight[:, :, None, None]
        return torch.cat(tokens, dim=1), dense.expand(len(prompts), -1, self.side, self.side)

    def grid_code(self) -> Tensor:
        """Code of the middle of each place of the embedding, (1, channels, side, side)."""
        middle = (
            torch.arange(self.side, device=self.no_mask_embed.weight.device) + 0.5
        ) / self.side
        row, column = torch.meshgrid(middle, middle, indexing="ij")
        code_YXD: Tensor = self.pe_layer(torch.stack([column, row], dim=-1))
        return code_YXD.permute(2, 0, 1)[None]

    def _points(self, point_N2: Tensor, kind_N: Tensor, alone: bool) -> Tensor:
        """Without a box one padding point is added, as the published network was trained."""
        if alone:
            point_N2 = nn.functional.pad(point_N2, (0, 0, 0, 1))
            kind_N = nn.functional.pad(kind_N, (0, 1), value=PADDING)
        code = self.pe_layer((point_N2 + 0.5) / self.image_px)
        code = torch.where((kind_N == PADDING)[..., None], 0.0, code)
        types = torch.cat([self.not_a_point_embed.weight, self._type(0), self._type(1)])
        return code + types[kind_N + 1]

    def _boxes(self, box_N4: Tensor) -> Tensor:
        code: Tensor = self.pe_layer((box_N4.reshape(-1, 2, 2) + 0.5) / self.image_px)
        return code + torch.cat([self._type(2), self._type(3)])

    def _type(self, number: int) -> Tensor:
        return self.point_embeddings[number].get_parameter("weight")


class RandomCode(nn.Module):
    """Sines and cosines of random projections of places; the projections are stored."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        matrix = torch.empty(2, channels // 2).normal_()
        self.register_buffer("positional_encoding_gaussian_matrix", matrix)

    def forward(self, place: Tensor) -> Tensor:
        """Codes (..., channels) of places (..., 2), x before y, from 0 to 1."""
        angle = 2 * pi * ((2 * place - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)
