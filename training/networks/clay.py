"""Clay v1.5, an encoder for images of any bands (clay-foundation/model, Apache-2.0).

Kernels of the patches are made from the wavelengths of the bands. Weights have the names of the
published file. Masking belongs to the pre-training and is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.networks.importing import Layout
from training.networks.vit import as_map, attend, sincos

PATCH_PX = 8
LORA_PATTERNS = (
    *("encoder.transformer.layers.*.0.to_qkv", "encoder.transformer.layers.*.0.to_out"),
    *("encoder.transformer.layers.*.1.net.1", "encoder.transformer.layers.*.1.net.3"),
)
LAYOUT = Layout(
    network="a Clay encoder",
    renamed=((r"^model\.encoder\.", "encoder."),),
    dropped=("model.decoder.*", "model.teacher.*", "model.proj.*", "model.mrl*"),
    part="encoder.*",
)
_WAVE = 128
"""Width of the code of a wavelength, and number of latent tokens."""
_KERNEL_SCALE = 0.02
_PLACE = 8
"""Channels of the code of time and place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaySize:
    """A size of the encoder."""

    width: int = 1024
    depth: int = 24
    heads: int = 16
    head_width: int = 64
    mlp_ratio: float = 4.0


SIZES = {
    "tiny": ClaySize(width=192, depth=6, heads=4, head_width=48, mlp_ratio=2.0),
    "large": ClaySize(),
}
"""`large` is the published v1.5; the authors have `tiny` too, without weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClayInputs:
    """What the encoder is told about an image besides its pixels."""

    wavelengths_um: tuple[float, ...]
    """Centre wavelengths of the bands, micrometres."""
    side_px: int
    gsd_m: float = 10.0
    time_4: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    """Sine and cosine of the week, then of the hour. The landslide study sets all to 1."""
    place_4: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Sine and cosine of the latitude, then of the longitude. The study sets all to 0."""


class ClayEncoder(nn.Module):
    """A map at an eighth of the side.

    Args:
        size: the size.
        inputs: bands and side.
        final_norm: normalise the last block's output. The landslide study skips it, because its
            code runs over the blocks themselves.
    """

    position_1TD: Tensor

    def __init__(self, size: ClaySize, inputs: ClayInputs, *, final_norm: bool = False) -> None:
        super().__init__()
        self.side = inputs.side_px // PATCH_PX
        self.width, self.final_norm = size.width, final_norm
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, size.width))
        self.patch_embedding: nn.Module = DynamicEmbedding(size.width, inputs.wavelengths_um)
        self.transformer = ClayTransformer(size)
        self.register_buffer("position_1TD", _position(size.width, inputs), persistent=False)

    def forward(self, image_NBYX: Tensor) -> Tensor:
        """A map (N, width, side / 8, side / 8) of z-scores (N, band, y, x)."""
        patches_NTD = self.patch_embedding(image_NBYX).flatten(2).transpose(1, 2)
        patches_NTD = patches_NTD + self.position_1TD
        first = self.cls_token.expand(image_NBYX.shape[0], -1, -1)
        x = torch.cat([first, patches_NTD], dim=1)
        x = self.transformer(x, final_norm=self.final_norm)
        return as_map(x[:, 1:], self.side)


class DynamicEmbedding(nn.Module):
    """A convolution over patches whose kernel is made from wavelengths (DOFA, arXiv:2403.15356)."""

    wave_BD: Tensor

    def __init__(self, width: int, wavelengths_um: Sequence[float]) -> None:
        super().__init__()
        self.fclayer = _WaveMlp()
        self.weight_generator = _KernelMaker(width)
        frequency_D = 10_000.0 ** -(torch.arange(_WAVE // 2).double() / (_WAVE // 2 - 1))
        code = sincos(torch.tensor(tuple(wavelengths_um)), frequency_D)
        self.register_buffer("wave_BD", code, persistent=False)

    def forward(self, image_NBYX: Tensor) -> Tensor:
        """A map (N, width, y / 8, x / 8)."""
        kernel_DBYX, bias_D = self._kernel()
        return nn.functional.conv2d(image_NBYX, kernel_DBYX, bias_D, stride=PATCH_PX)

    def folded(self) -> nn.Conv2d:
        """The convolution for these wavelengths."""
        with torch.no_grad():
            kernel_DBYX, bias_D = self._kernel()
            width, bands = kernel_DBYX.shape[:2]
            conv = nn.Conv2d(bands, width, PATCH_PX, stride=PATCH_PX)
            conv.weight.copy_(kernel_DBYX)
            assert conv.bias is not None
            conv.bias.copy_(bias_D)
        return conv.eval()

    def _kernel(self) -> tuple[Tensor, Tensor]:
        flat_BD, bias_D = self.weight_generator(self.fclayer(self.wave_BD))
        kernel_BDYX = torch.unflatten(flat_BD, 1, (-1, PATCH_PX, PATCH_PX))
        return _KERNEL_SCALE * kernel_BDYX.transpose(0, 1), bias_D


class ClayTransformer(nn.Module):
    """Blocks of attention and MLP, each normalised inside, with residual connections."""

    def __init__(self, size: ClaySize) -> None:
        super().__init__()
        hidden = int(size.mlp_ratio * size.width)
        self.layers = nn.ModuleList(
            nn.ModuleList([_Attention(size), _FeedForward(size.width, hidden)])
            for _ in range(size.depth)
        )
        self.norm = nn.LayerNorm(size.width)

    def forward(self, tokens_NTD: Tensor, *, final_norm: bool) -> Tensor:
        """Tokens of the same shape."""
        x = tokens_NTD
        for pair in self.layers:
            assert isinstance(pair, nn.ModuleList)
            for part in pair:
                x = x + part(x)
        return self.norm(x) if final_norm else x


class _Attention(nn.Module):
    def __init__(self, size: ClaySize) -> None:
        super().__init__()
        inner = size.heads * size.head_width
        self.heads = size.heads
        self.norm = nn.LayerNorm(size.width)
        self.to_qkv = nn.Linear(size.width, 3 * inner, bias=False)
        self.to_out = nn.Linear(inner, size.width, bias=False)

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        query, key, value = self.to_qkv(self.norm(tokens_NTD)).chunk(3, dim=-1)
        mixed: Tensor = self.to_out(attend(query, key, value, self.heads))
        return mixed


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        mixed: Tensor = self.net(tokens_NTD)
        return mixed


class _WaveMlp(nn.Module):
    """Two layers with GELU and a residual connection over the codes of wavelengths."""

    def __init__(self) -> None:
        super().__init__()
        self.l1, self.l2 = nn.Linear(_WAVE, _WAVE), nn.Linear(_WAVE, _WAVE)

    def forward(self, code_BD: Tensor) -> Tensor:
        inner = nn.functional.gelu(self.l1(code_BD))
        return code_BD + nn.functional.gelu(self.l2(inner))


class _KernelMaker(nn.Module):
    """A small transformer over latent tokens, bands and a bias token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            _WAVE, 4, dim_feedforward=2048, dropout=0.0, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.fc_weight = nn.Linear(_WAVE, width * PATCH_PX**2)
        self.fc_bias = nn.Linear(_WAVE, width)
        self.weight_tokens = nn.Parameter(0.02 * torch.randn(_WAVE, _WAVE))
        self.bias_token = nn.Parameter(0.02 * torch.randn(1, _WAVE))
        for linear in (self.fc_weight, self.fc_bias):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, code_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Kernels (B, width · 64) and a bias (width)."""
        tokens_TD = torch.cat([self.weight_tokens, code_BD, self.bias_token])
        mixed_TD = self.encoder(tokens_TD[None])[0]
        return self.fc_weight(mixed_TD[_WAVE:-1] + code_BD), self.fc_bias(mixed_TD[-1])


def _position(width: int, inputs: ClayInputs) -> Tensor:
    """The code of place in the image, time and place on Earth, (1, T, width).

    All frequencies are within 2 % of the GSD, because the published code normalises the exponent
    twice. The weights were trained with it.
    """
    side, inner = inputs.side_px // PATCH_PX, width - _PLACE
    count = inner // 4
    exponent_D = 2 * (torch.arange(count).double() / (count - 1)) / inner
    frequency_D = inputs.gsd_m * 10_000.0**-exponent_D
    code_XD = sincos(torch.arange(side), frequency_D)
    across = code_XD[None].expand(side, -1, -1)
    down = code_XD[:, None].expand(-1, side, -1)
    known = torch.tensor((*inputs.time_4, *inputs.place_4)).expand(side, side, -1)
    return torch.cat([across, down, known], dim=-1).flatten(0, 1)[None]
