"""The image encoder of Segment Anything: windowed attention with decomposed relative positions."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from quakestream.errors import ShapeError


@dataclass(frozen=True, slots=True, kw_only=True)
class SamEncoderSize:
    """A size of the encoder."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    """Numbers of the blocks that attend over the whole image; others attend in windows."""
    image_px: int = 1024
    patch_px: int = 16
    window: int = 14
    """Side of a window, patches."""

    @property
    def side(self) -> int:
        """Side of the map of patches."""
        return self.image_px // self.patch_px


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, map_NDYX: Tensor) -> Tensor:
        """A map of the same shape."""
        mean = map_NDYX.mean(dim=1, keepdim=True)
        variance = ((map_NDYX - mean) ** 2).mean(dim=1, keepdim=True)
        z = (map_NDYX - mean) / torch.sqrt(variance + 1e-6)
        return z * self.weight[:, None, None] + self.bias[:, None, None]


class ImageEncoder(nn.Module):
    """An image as a map of embeddings, one sixteenth of its side."""

    def __init__(self, size: SamEncoderSize, channels: int) -> None:
        super().__init__()
        self.size = size
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, size.width, size.patch_px, stride=size.patch_px)
        self.pos_embed = nn.Parameter(torch.empty(1, size.side, size.side, size.width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(
            _WindowBlock(size, 0 if number in size.global_blocks else size.window)
            for number in range(size.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(size.width, channels, 1, bias=False),
            ChannelNorm(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            ChannelNorm(channels),
        )

    def forward(self, z_NBYX: Tensor) -> Tensor:
        """Embeddings (N, channels, side, side)."""
        if z_NBYX.shape[1:] != (3, self.size.image_px, self.size.image_px):
            raise ShapeError(
                "image does not fit the network",
                "network input",
                expected=f"3 bands and sides of {self.size.image_px}",
                got=str(tuple(z_NBYX.shape[1:])),
            )
        x = self.patch_embed.get_submodule("proj")(z_NBYX).permute(0, 2, 3, 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        embedding: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return embedding


class _GeluMlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        mapped: Tensor = self.lin2(nn.functional.gelu(self.lin1(x)))
        return mapped


class _WindowBlock(nn.Module):
    """Norm and attention, in windows unless `window` is 0, then norm and MLP, each residual."""

    def __init__(self, size: SamEncoderSize, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(size.width, eps=1e-6)
        self.attn = PlacedAttention(size.width, size.heads, window or size.side)
        self.norm2 = nn.LayerNorm(size.width, eps=1e-6)
        self.mlp = _GeluMlp(size.width)

    def forward(self, x_NYXD: Tensor) -> Tensor:
        z = self.norm1(x_NYXD)
        if self.window:
            windows = into_windows(z, self.window)
            mixed = out_of_windows(self.attn(windows), x_NYXD.shape, self.window)
        else:
            mixed = self.attn(z)
        x = x_NYXD + mixed
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PlacedAttention(nn.Module):
    """Self-attention over a square map; logits gain q · R_h[dy] + q · R_w[dx].

    The two tables have a row per offset, from the most negative, and are shared by the heads.
    """

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * side - 1, width // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * side - 1, width // heads))

    def forward(self, x_NYXD: Tensor) -> Tensor:
        """A map of the same shape."""
        images, height, width, channels = x_NYXD.shape
        split = self.qkv(x_NYXD).reshape(images, height * width, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.bias(torch.unflatten(query, 2, (height, width)))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(images, height, width, channels))
        return out

    def bias(self, query: Tensor) -> Tensor:
        """What queries (N, heads, y, x, width) add to the logits, (N, heads, y·x, y·x)."""
        _, _, height, width, _ = query.shape
        down = offset_rows(self.rel_pos_h, height)
        right = offset_rows(self.rel_pos_w, width)
        by_row = torch.einsum("nhyxd,ykd->nhyxk", query, down)
        by_column = torch.einsum("nhyxd,xkd->nhyxk", query, right)
        both = by_row[..., :, None] + by_column[..., None, :]
        return both.flatten(4, 5).flatten(2, 3)


def offset_rows(table_RD: Tensor, side: int) -> Tensor:
    """Row of the table for each pair of places, (side, side, width); resized if need be."""
    table = resized_table(table_RD, 2 * side - 1)
    place = torch.arange(side, device=table.device)
    return table[place[:, None] - place[None, :] + side - 1]


def resized_table(table_RD: Tensor, rows: int) -> Tensor:
    """A table of relative positions with another number of rows, linear between rows."""
    if len(table_RD) == rows:
        return table_RD
    resized = nn.functional.interpolate(table_RD.T[None], size=rows, mode="linear")
    return resized[0].T


def resized_position(code_1YXD: Tensor, side: int) -> Tensor:
    """A position code for another side, bicubic."""
    code_1DYX = code_1YXD.permute(0, 3, 1, 2)
    resized = nn.functional.interpolate(code_1DYX, size=(side, side), mode="bicubic")
    return resized.permute(0, 2, 3, 1)


def into_windows(x_NYXD: Tensor, window: int) -> Tensor:
    """Square windows one after the other; the map is padded with 0 to whole windows."""
    _, height, width, _ = x_NYXD.shape
    padded = nn.functional.pad(x_NYXD, (0, 0, 0, -width % window, 0, -height % window))
    split = torch.unflatten(torch.unflatten(padded, 2, (-1, window)), 1, (-1, window))
    return split.transpose(2, 3).flatten(0, 2)


def out_of_windows(windows: Tensor, shape: torch.Size, window: int) -> Tensor:
    """The inverse of `into_windows`, without what was padded."""
    images, height, width, _ = shape
    rows, columns = -(-height // window), -(-width // window)
    grid = torch.unflatten(windows, 0, (images, rows, columns)).transpose(2, 3)
    return grid.flatten(3, 4).flatten(1, 2)[:, :height, :width]
