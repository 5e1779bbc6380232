"""DINOv2 and DINOv3 vision transformers, with the names of the published weights.

Oquab et al. 2023 (arXiv:2304.07193) and Siméoni et al. 2025 (arXiv:2508.10104). Version 2 adds a
learned code of place to the tokens, which is resized to other images. Version 3 turns queries and
keys of the patches by their place (RoPE). Both scale each residual branch by learned factors.
Weights are read from a path and never shipped: those of DINOv3 are under its own licence.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from quakestream.errors import RequestError, ShapeError
from training.networks.attention import Mlp
from training.networks.importing import ImportReport, Layout, load_weights, read_weights
from training.networks.vit import FusedAttention, as_map

MASK = ".qkv.bias_mask"
"""End of the name of a mask by which DINOv3 takes the bias of the keys away."""
ROPE_BASE = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DinoSize:
    """A published size."""

    version: Literal[2, 3]
    width: int
    depth: int
    heads: int
    registers: int = 0
    """Extra tokens beside the class token."""
    pretrained_side: int = 37
    """Patches along a side of the images that the code of place of version 2 is for."""
    mlp_ratio: int = 4

    @property
    def patch_px(self) -> int:
        return 14 if self.version == 2 else 16


_WIDTHS = {"s": (384, 12, 6), "b": (768, 12, 12), "l": (1024, 24, 16)}


def _sizes() -> dict[str, DinoSize]:
    known: dict[str, DinoSize] = {}
    for letter, (width, depth, heads) in _WIDTHS.items():
        v2 = DinoSize(version=2, width=width, depth=depth, heads=heads)
        known[f"dinov2_{letter}"] = v2
        known[f"dinov2_{letter}_reg"] = DinoSize(
            version=2, width=width, depth=depth, heads=heads, registers=4
        )
        known[f"dinov3_{letter}"] = DinoSize(
            version=3, width=width, depth=depth, heads=heads, registers=4
        )
    return known


SIZES = _sizes()
"""Sizes with the two-layer MLP; those with SwiGLU (giant, `plus`, 7B) are not built."""


class Dino(nn.Module):
    """A map of the normalised patch tokens of an image.

    Args:
        size: a published size, or a smaller one.
    """

    def __init__(self, size: DinoSize) -> None:
        super().__init__()
        self.size, width = size, size.width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed = _PatchTokens(width, size.patch_px)
        if size.version == 2:
            places = size.pretrained_side**2
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + places, width))
            if size.registers:
                self.register_tokens = nn.Parameter(torch.zeros(1, size.registers, width))
        else:
            self.storage_tokens = nn.Parameter(torch.zeros(1, size.registers, width))
            self.rope_embed = RopePeriods(width // size.heads)
        self.blocks = nn.ModuleList(_DinoBlock(size) for _ in range(size.depth))
        self.norm = nn.LayerNorm(width, eps=_eps(size))

    def forward(self, image_NBYX: Tensor) -> Tensor:
        """A map (N, width, y / patch, x / patch) of z-scores of red, green and blue.

        Raises:
            ShapeError: if the image is not square, or its side is no multiple of the patch.
        """
        side = self._side(image_NBYX)
        patches: Tensor = self.patch_embed(image_NBYX)
        x = patches.flatten(2).transpose(1, 2)
        first, extra = self._first(side, len(x))
        x = torch.cat([first, extra, x + self._code(side)], dim=1)
        turn = self.rope_embed(side) if self.size.version == 3 else None
        for block in self.blocks:
            x = block(x, turn)
        return as_map(self.norm(x)[:, 1 + self.size.registers :], side)

    def load_official(self, path: Path) -> ImportReport:
        """Loads a published file; after an error the network is unchanged.

        Raises:
            RequestError: if the file holds other weights.
        """
        return load_dino(self, read_weights(path), str(path))

    def _side(self, image_NBYX: Tensor) -> int:
        height, width = image_NBYX.shape[-2:]
        patch_px = self.size.patch_px
        if height != width or height % patch_px:
            raise ShapeError(
                "image does not fit the encoder",
                "network input",
                expected=f"a square with a side that is a multiple of {patch_px}",
                got=f"{height}×{width}",
            )
        return int(height) // patch_px

    def _first(self, side: int, count: int) -> tuple[Tensor, Tensor]:
        """Class token with its code, and the tokens after it."""
        if self.size.version == 3:
            both = self.cls_token, self.storage_tokens
            return both[0].expand(count, -1, -1), both[1].expand(count, -1, -1)
        first = self.cls_token + self.pos_embed[:, :1]
        extra = self.register_tokens if self.size.registers else first[:, :0]
        return first.expand(count, -1, -1), extra.expand(count, -1, -1)

    def _code(self, side: int) -> Tensor:
        """Code of place of the patches; 0 for version 3, which turns queries and keys instead."""
        if self.size.version == 3:
            return self.cls_token.new_zeros(1, 1, 1)
        return resized_code(self.pos_embed[:, 1:], side, exact=self.size.registers > 0)


class _PatchTokens(nn.Module):
    """One token per patch."""

    def __init__(self, width: int, patch_px: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_px, stride=patch_px)

    def forward(self, image_NBYX: Tensor) -> Tensor:
        """A map (N, width, y / patch, x / patch)."""
        tokens: Tensor = self.proj(image_NBYX)
        return tokens


class RopePeriods(nn.Module):
    """Sines and cosines of the angles by which DINOv3 turns queries and keys."""

    periods: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        places = torch.arange(head_width // 4, dtype=torch.float32)
        self.register_buffer("periods", ROPE_BASE ** (2 * places / (head_width // 2)))

    def forward(self, side: int) -> tuple[Tensor, Tensor]:
        """Sine and cosine (side², head width); coordinates run from -1 to 1 along each axis."""
        centre_P = 2 * (torch.arange(side, device=self.periods.device) + 0.5) / side - 1
        rows, columns = torch.meshgrid(centre_P, centre_P, indexing="ij")
        place_P2 = torch.stack([rows, columns], dim=-1).flatten(0, 1)
        angle = 2 * math.pi * place_P2[:, :, None] / self.periods
        angle_PD = angle.flatten(1).tile(2)
        return angle_PD.sin(), angle_PD.cos()


class _DinoBlock(nn.Module):
    """Attention and MLP, each scaled by learned factors before it is added."""

    def __init__(self, size: DinoSize) -> None:
        super().__init__()
        width, eps = size.width, _eps(size)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attn = _TurnedAttention(width, size.heads)
        self.ls1, self.ls2 = _BranchScale(width), _BranchScale(width)
        self.mlp = Mlp(width, size.mlp_ratio * width, width)

    def forward(self, tokens_NTD: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        """Tokens of the same shape."""
        x = tokens_NTD + self.ls1(self.attn.turned(self.norm1(tokens_NTD), turn))
        mixed: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return mixed


class _TurnedAttention(FusedAttention):
    """Self-attention in which patches are turned by their place."""

    def turned(self, tokens_NTD: Tensor, turn: tuple[Tensor, Tensor] | None) -> Tensor:
        """Tokens of the same shape; the last ones are patches."""
        if turn is None:
            plain: Tensor = self(tokens_NTD)
            return plain
        heads = torch.unflatten(self.qkv(tokens_NTD), -1, (3, self.heads, -1)).transpose(1, 3)
        query, key, value = heads.unbind(2)
        mixed = nn.functional.scaled_dot_product_attention(
            _turned(query, turn), _turned(key, turn), value
        )
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class _BranchScale(nn.Module):
    """A learned factor per feature."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x * self.gamma


def resized_code(code_1PD: Tensor, side: int, *, exact: bool) -> Tensor:
    """The code of a square of patches for another square, bicubic.

    Without registers the published code scales by (side + 0.1) / old side, which shifts the code a
    little against the exact size. With registers it resizes to the size, antialiased.
    """
    old = math.isqrt(code_1PD.shape[1])
    if side == old:
        return code_1PD
    map_1DYX = torch.unflatten(code_1PD, 1, (old, old)).permute(0, 3, 1, 2)
    if exact:
        new = nn.functional.interpolate(map_1DYX, size=(side, side), mode="bicubic", antialias=True)
    else:
        factor = (side + 0.1) / old
        new = nn.functional.interpolate(map_1DYX, scale_factor=(factor, factor), mode="bicubic")
    return new.flatten(2).transpose(1, 2)


def load_dino(network: Dino, weights: Mapping[str, Tensor], source: str) -> ImportReport:
    """Loads published weights by name.

    The mask of DINOv3 is multiplied into the bias that it belongs to. The token of hidden patches,
    and the norm that only training uses, are dropped.

    Raises:
        RequestError: if the weights are of another network, or a mask is missing or odd.
    """
    layout = Layout(
        network=f"this DINOv{network.size.version}",
        dropped=("mask_token", "local_cls_norm.*", f"*{MASK}"),
    )
    folded = _folded(weights, source) if network.size.version == 3 else dict(weights)
    return load_weights(network, folded, layout, source)


def _folded(weights: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The weights with masked biases multiplied by their masks."""
    folded = dict(weights)
    for name in [n for n in weights if n.endswith(".qkv.bias")]:
        mask = weights.get(name.removesuffix(".bias") + ".bias_mask")
        if mask is None or mask.shape != weights[name].shape or not _is_mask(mask):
            raise RequestError(
                "no usable mask of a bias", source, expected=f"0 and 1 in {name}_mask"
            )
        folded[name] = weights[name] * mask.to(weights[name].dtype)
    return folded


def _is_mask(mask: Tensor) -> bool:
    return mask.is_meta or bool(((mask == 0) | (mask == 1)).all())


def _turned(x_NKTD: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys with the patches turned; class token and registers stay."""
    sine, cosine = turn
    first = x_NKTD.shape[2] - len(sine)
    patches = x_NKTD[:, :, first:]
    low, high = patches.chunk(2, dim=-1)
    moved = patches * cosine + torch.cat([-high, low], dim=-1) * sine
    return torch.cat([x_NKTD[:, :, :first], moved], dim=2)


def _eps(size: DinoSize) -> float:
    return 1e-6 if size.version == 2 else 1e-5
