"""Parts of vision transformers: position codes, attention, blocks, and maps from tokens.

Tokens lie in the order frame, row, column, with a class token in front where there is one.
"""

import torch
from torch import Tensor, nn

from training.networks.attention import Mlp


def frequencies(width: int, base: float = 10_000.0) -> Tensor:
    """Angular frequencies base^(-k / (width / 2)), k from 0 to width / 2 - 1, float64."""
    return base ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))


def sincos(place_P: Tensor, frequency_D: Tensor) -> Tensor:
    """Sines of all frequencies, then cosines, (P, 2 · D), float32."""
    angle_PD = place_P.double()[:, None] * frequency_D
    return torch.cat([angle_PD.sin(), angle_PD.cos()], dim=1).float()


def sincos_3d(width: int, frames: int, rows: int, columns: int) -> Tensor:
    """The fixed code of Prithvi, (1, 1 + frames · rows · columns, width), 0 for the class token.

    Columns take 6 sixteenths of the width, then rows 6, then frames 4.
    """
    part = width // 16
    column_XD = sincos(torch.arange(columns), frequencies(6 * part))
    row_YD = sincos(torch.arange(rows), frequencies(6 * part))
    frame_TD = sincos(torch.arange(frames), frequencies(4 * part))
    grid = (frames, rows, columns, -1)
    parts = [
        column_XD[None, None].expand(grid),
        row_YD[None, :, None].expand(grid),
        frame_TD[:, None, None].expand(grid),
    ]
    code_TD = torch.cat(parts, dim=-1).reshape(frames * rows * columns, -1)
    return nn.functional.pad(code_TD, (0, 0, 1, 0))[None]


def resized(code_1TD: Tensor, side: int, new_side: int) -> Tensor:
    """A code of a square grid for another square grid; the class token keeps its code.

    Frames are resized one by one, bicubic and corner onto corner.
    """
    if side == new_side:
        return code_1TD
    grid_TDYX = torch.unflatten(code_1TD[0, 1:], 0, (-1, side, side)).permute(0, 3, 1, 2)
    grid_TDYX = nn.functional.interpolate(
        grid_TDYX, size=(new_side, new_side), mode="bicubic", align_corners=True
    )
    rest_TD = grid_TDYX.permute(0, 2, 3, 1).flatten(0, 2)
    return torch.cat([code_1TD[:, :1], rest_TD[None]], dim=1)


def attend(query_NTD: Tensor, key_NTD: Tensor, value_NTD: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention of every head, (N, T, width)."""
    parts = (query_NTD, key_NTD, value_NTD)
    split = [torch.unflatten(x, -1, (heads, -1)).transpose(1, 2) for x in parts]
    mixed = nn.functional.scaled_dot_product_attention(split[0], split[1], split[2])
    return mixed.transpose(1, 2).flatten(2)


class FusedAttention(nn.Module):
    """Self-attention whose query, key and value are one layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        """Tokens of the same shape."""
        query, key, value = self.qkv(tokens_NTD).chunk(3, dim=-1)
        mixed: Tensor = self.proj(attend(query, key, value, self.heads))
        return mixed


class SplitAttention(nn.Module):
    """Self-attention whose query, key and value are layers of their own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        """Tokens of the same shape."""
        parts = (self.q(tokens_NTD), self.k(tokens_NTD), self.v(tokens_NTD))
        mixed: Tensor = self.proj(attend(*parts, self.heads))
        return mixed


class Block(nn.Module):
    """Norm and attention, then norm and MLP, each with a residual connection."""

    def __init__(self, width: int, attention: nn.Module, *, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = attention
        self.mlp = Mlp(width, int(mlp_ratio * width), width)

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        """Tokens of the same shape."""
        x = tokens_NTD + self.attn(self.norm1(tokens_NTD))
        mixed: Tensor = x + self.mlp(self.norm2(x))
        return mixed


def as_map(tokens_NTD: Tensor, side: int) -> Tensor:
    """Tokens of a square grid, without a class token, as a map.

    Frames follow one another as channels.
    """
    grid = torch.unflatten(tokens_NTD, 1, (-1, side, side)).permute(0, 1, 4, 2, 3)
    return grid.flatten(1, 2)


def start_linear(module: nn.Module) -> None:
    """Xavier weights and no bias for linear layers, as vision transformers start."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
