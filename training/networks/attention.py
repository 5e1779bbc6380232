"""Attention with a relative position bias over patches and extra tokens.

The tokens of a stage are `[class, metadata 1..G, patches]`, patches row by row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.networks.mbconv import StochasticDepth


def relative_index(side: int, extra: int) -> Tensor:
    """Row of the bias table for each pair of tokens, shape (T, T), T = extra + side².

    Two patches that are dy rows and dx columns apart use row (dy+side-1)(2·side-1) + (dx+side-1).
    The published code has a quirk, which official weights were trained with: every pair with an
    extra token uses row 0, the row of the most negative offset, and the last row is never used.
    """
    place = torch.arange(side)
    offset = place[:, None] - place[None, :] + side - 1
    pairs_YXYX = offset[:, None, :, None] * (2 * side - 1) + offset[None, :, None, :]
    return nn.functional.pad(pairs_YXYX.reshape(side**2, side**2), (extra, 0, extra, 0))


def table_rows(side: int) -> int:
    """Rows of the bias table of a square of `side` × `side` patches."""
    return (2 * side - 1) ** 2 + 1


class RelativeAttention(nn.Module):
    """Multi-head self-attention plus a learned bias per head and relative position."""

    relative_position_index: Tensor

    def __init__(self, width: int, *, side: int, extra: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.empty(table_rows(side), heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        # The index follows from the sizes. It is not stored, so weights fit other crop sizes.
        self.register_buffer(
            "relative_position_index", relative_index(side, extra), persistent=False
        )

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        """Tokens of the same shape (N, T, width)."""
        samples, count, width = tokens_NTD.shape
        split = self.qkv(tokens_NTD).reshape(samples, count, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        mixed_NHTd = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=self.bias_HTT(count).to(query.dtype)
        )
        mixed: Tensor = self.proj(mixed_NHTd.transpose(1, 2).flatten(2))
        return mixed

    def bias_HTT(self, count: int) -> Tensor:
        """The bias on the scores of each head, shape (heads, T, T)."""
        rows = self.relative_position_bias_table.index_select(
            0, self.relative_position_index.flatten()
        )
        return rows.T.reshape(self.heads, count, count)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, c_in: int, hidden: int, c_out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(c_in, hidden)
        self.fc2 = nn.Linear(hidden, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., c_in) to (..., c_out)."""
        mapped: Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
        return mapped


class PatchEmbedding(nn.Module):
    """Overlapping patches: a 3×3 convolution of stride 2, then a norm over channels."""

    def __init__(self, c_in: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(c_in, width, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(width)

    def forward(self, map_NCYX: Tensor) -> Tensor:
        """Patches row by row, (N, y·x / 4, width)."""
        patches: Tensor = self.norm(self.proj(map_NCYX).flatten(2).transpose(1, 2))
        return patches


class AttentionBlock(nn.Module):
    """Norm and attention, then norm and MLP ×4, each with a residual connection."""

    def __init__(
        self, width: int, *, side: int, extra: int, heads: int, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = RelativeAttention(width, side=side, extra=extra, heads=heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width, width)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        """Tokens of the same shape."""
        x = tokens_NTD + self.drop_path(self.attn(self.norm1(tokens_NTD)))
        mixed: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return mixed


class AttentionStage(nn.ModuleList):
    """Blocks over one grid of patches; the first holds the embedding, as in the official code."""

    def __init__(
        self, c_in: int, width: int, *, side: int, extra: int, heads: int, drops: Sequence[float]
    ) -> None:
        super().__init__(
            AttentionBlock(width, side=side, extra=extra, heads=heads, drop_path=drop)
            for drop in drops
        )
        self[0].patch_embed = PatchEmbedding(c_in, width)
        self.side, self.extra = side, extra

    def forward(self, map_NCYX: Tensor, extra_NED: Tensor) -> tuple[Tensor, Tensor]:
        """The class token (N, 1, width) and the map of patches (N, width, side, side)."""
        embedding = self[0].get_submodule("patch_embed")
        tokens_NTD = torch.cat([extra_NED, embedding(map_NCYX)], dim=1)
        for block in self:
            tokens_NTD = block(tokens_NTD)
        patches_NDP = tokens_NTD[:, self.extra :].transpose(1, 2)
        map_NDYX = patches_NDP.reshape(*patches_NDP.shape[:2], self.side, self.side)
        return tokens_NTD[:, :1], map_NDYX
