"""The mask decoder of Segment Anything: tokens and image attend to each other both ways."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from training.networks.sam_encoder import ChannelNorm
from training.networks.vit import attend

MASKS = 4
"""Answers to a prompt: one for a single mask, three for whole, part and subpart."""


class MaskDecoder(nn.Module):
    """Logits (N, 4, y, x) at four times the side of the embedding, and predicted IoU (N, 4)."""

    def __init__(self, channels: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.iou_token = nn.Embedding(1, channels)
        self.mask_tokens = nn.Embedding(MASKS, channels)
        self.transformer = _TwoWay(channels, heads, mlp)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(channels, channels // 4, 2, stride=2),
            ChannelNorm(channels // 4),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 4, channels // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            _Layers(channels, channels, channels // 8) for _ in range(MASKS)
        )
        self.iou_prediction_head = _Layers(channels, channels, MASKS)

    def forward(
        self, image_NDYX: Tensor, place_1DYX: Tensor, prompt: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Args:
        image_NDYX: embedding of the image of each prompt, plus the dense prompt.
        place_1DYX: code of the places of the embedding.
        prompt: tokens (N, tokens, channels).
        """
        count, _, height, width = image_NDYX.shape
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(count, -1, -1), prompt], dim=1)
        image, place = (m.flatten(2).transpose(1, 2) for m in (image_NDYX, place_1DYX))
        tokens, image = self.transformer(tokens, image, place.expand(count, -1, -1))
        map_NDYX = torch.unflatten(image.transpose(1, 2), 2, (height, width))
        fine = self.output_upscaling(map_NDYX)
        kernels = [mlp(tokens[:, 1 + n]) for n, mlp in enumerate(self.output_hypernetworks_mlps)]
        logits = torch.einsum("nkd,ndyx->nkyx", torch.stack(kernels, dim=1), fine)
        iou: Tensor = self.iou_prediction_head(tokens[:, 0])
        return logits, iou


class _Layers(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, c_in: int, hidden: int, c_out: int) -> None:
        super().__init__()
        widths = (c_in, hidden, hidden, c_out)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x) if number == len(self.layers) - 1 else torch.relu(layer(x))
        return x


class _NarrowAttention(nn.Module):
    """Attention whose inner width is that of the tokens divided by `narrower`."""

    def __init__(self, channels: int, heads: int, narrower: int = 1) -> None:
        super().__init__()
        self.heads, inner = heads, channels // narrower
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(channels, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed: Tensor = self.out_proj(
            attend(self.q_proj(query), self.k_proj(key), self.v_proj(value), self.heads)
        )
        return mixed


class _ReluMlp(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        mapped: Tensor = self.lin2(torch.relu(self.lin1(x)))
        return mapped


class _TwoWayBlock(nn.Module):
    """Tokens attend to themselves, then to the image; then the image attends to the tokens.

    The first block's tokens are their own positions, so its self-attention adds none and replaces
    the tokens instead of adding to them.
    """

    def __init__(self, channels: int, heads: int, mlp: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = _NarrowAttention(channels, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn_token_to_image = _NarrowAttention(channels, heads, narrower=2)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _ReluMlp(channels, mlp)
        self.norm3 = nn.LayerNorm(channels)
        self.norm4 = nn.LayerNorm(channels)
        self.cross_attn_image_to_token = _NarrowAttention(channels, heads, narrower=2)

    def forward(
        self, tokens: Tensor, image: Tensor, start: Tensor, place: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + start
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        tokens = tokens + self.cross_attn_token_to_image(tokens + start, image + place, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(image + place, tokens + start, tokens)
        return tokens, self.norm4(image)


class _TwoWay(nn.Module):
    def __init__(self, channels: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _TwoWayBlock(channels, heads, mlp, first=number == 0) for number in range(2)
        )
        self.final_attn_token_to_image = _NarrowAttention(channels, heads, narrower=2)
        self.norm_final_attn = nn.LayerNorm(channels)

    def forward(self, start: Tensor, image: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        tokens = start
        for layer in self.layers:
            tokens, image = layer(tokens, image, start, place)
        seen = self.final_attn_token_to_image(tokens + start, image + place, image)
        return self.norm_final_attn(tokens + seen), image
