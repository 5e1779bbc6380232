"""Prithvi-EO-2.0 (arXiv:2412.02732) for the pixels of one image, with a UPerNet head.

Weights of the encoder have the names of the published files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError, ShapeError
from training.networks.base import PixelNetwork
from training.networks.importing import ImportReport, Layout, load_weights, read_weights
from training.networks.inputs import NetworkInputs
from training.networks.upernet import Pyramid, UPerNet
from training.networks.vit import (
    Block,
    FusedAttention,
    as_map,
    frequencies,
    resized,
    sincos,
    sincos_3d,
    start_linear,
)

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
"""Bands of the pre-training, in the order of the published weights."""
MEAN = (1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0)
STD = (2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0)
"""Statistics of the pre-training, reflectance times 10,000."""
PRETRAINED_PX = 224
"""Side of the images of the pre-training."""
LORA_PATTERNS = (
    *("encoder.blocks.*.attn.qkv", "encoder.blocks.*.attn.proj"),
    *("encoder.blocks.*.mlp.fc1", "encoder.blocks.*.mlp.fc2"),
)
_STEM = "encoder.patch_embed.proj.weight"
_POSITION = "encoder.pos_embed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrithviSize:
    """A size of the encoder."""

    width: int
    depth: int
    heads: int
    patch_px: int
    taps: tuple[int, int, int, int]
    """Numbers of the blocks whose output the decoder takes."""


SIZES = {
    "tiny": PrithviSize(width=192, depth=12, heads=3, patch_px=16, taps=(2, 5, 8, 11)),
    "100m": PrithviSize(width=768, depth=12, heads=12, patch_px=16, taps=(2, 5, 8, 11)),
    "300m": PrithviSize(width=1024, depth=24, heads=16, patch_px=16, taps=(5, 11, 17, 23)),
    "600m": PrithviSize(width=1280, depth=32, heads=16, patch_px=14, taps=(7, 15, 23, 31)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrithviConfig:
    """A size, and what is around the encoder."""

    size: PrithviSize
    coordinates: bool = True
    """Build the codes of time and place (the `TL` files). They are added only where given."""
    frames: int = 1
    inner_px: int | None = PRETRAINED_PX
    """Side that the window is stretched to for the encoder; None leaves it as it is."""
    pyramid: bool = True
    """Spread the four maps over four sides. The authors' `landslide.yaml` does not."""
    decoder_width: int = 256
    head_widths: tuple[int, ...] = (128, 64)
    """Channels of the convolutions before the last; empty for none."""
    nir_alias: bool = True
    """The band `nir` starts from the weights of `nir08`; the authors leave it random."""
    adapter: bool = False
    """Map the bands to the six of the pre-training by a small network per pixel."""


class CoordinateCode(nn.Module):
    """The code of pairs of numbers, half the width each, times a learnt scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.scale = nn.Parameter(torch.full((1,), 0.1))

    def forward(self, pairs_P2: Tensor) -> Tensor:
        """(P, width)."""
        frequency_D = frequencies(self.width // 2).to(pairs_P2.device)
        halves = [sincos(pairs_P2[:, k], frequency_D) for k in range(2)]
        return self.scale * torch.cat(halves, dim=1)


class PatchStem(nn.Module):
    """Patches of every frame, in the order frame, row, column."""

    def __init__(self, bands: int, width: int, patch_px: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(bands, width, (1, patch_px, patch_px), stride=(1, patch_px, patch_px))
        nn.init.xavier_uniform_(self.proj.weight.data.flatten(1))

    def forward(self, image_NBTYX: Tensor) -> Tensor:
        """Tokens (N, frame · row · column, width)."""
        patch_px = self.proj.kernel_size[-1]
        kernel = self.proj.weight[:, :, 0]
        frames = [
            nn.functional.conv2d(frame, kernel, self.proj.bias, stride=patch_px)
            for frame in image_NBTYX.unbind(2)
        ]
        return torch.cat([frame.flatten(2) for frame in frames], dim=2).transpose(1, 2)

    def folded(self) -> nn.Module:
        """The same with a kernel of two dimensions."""
        patch_px = self.proj.kernel_size[-1]
        conv = nn.Conv2d(self.proj.in_channels, self.proj.out_channels, patch_px, stride=patch_px)
        conv.load_state_dict({"weight": self.proj.weight[:, :, 0], "bias": self.proj.bias})
        return _FrameStem(conv)


class _FrameStem(nn.Module):
    """Patches of every frame by a convolution over one frame."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, image_NBTYX: Tensor) -> Tensor:
        """Tokens (N, frame · row · column, width)."""
        frames = [self.conv(frame).flatten(2) for frame in image_NBTYX.unbind(2)]
        return torch.cat(frames, dim=2).transpose(1, 2)


class PrithviEncoder(nn.Module):
    """The encoder for images of one side.

    Args:
        config: the size, frames, and whether codes of time and place are built.
        bands: input bands.
        side_px: side of the images, a multiple of the patch.
    """

    pos_embed: Tensor
    position_1TD: Tensor

    def __init__(self, config: PrithviConfig, *, bands: int, side_px: int) -> None:
        super().__init__()
        size = config.size
        self.taps, self.frames, self.side_px = size.taps, config.frames, side_px
        self.patch_px, self.width = size.patch_px, size.width
        self.side = side_px // size.patch_px
        """Patches along a side."""
        self.patch_embed = PatchStem(bands, size.width, size.patch_px)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.width))
        pretrained = PRETRAINED_PX // size.patch_px
        code_1TD = sincos_3d(size.width, config.frames, pretrained, pretrained)
        self.register_buffer("pos_embed", code_1TD)
        # The code for this side follows from the fixed one. It is not stored.
        self.register_buffer(
            "position_1TD", resized(code_1TD, pretrained, self.side), persistent=False
        )
        if config.coordinates:
            self.temporal_embed_enc = CoordinateCode(size.width)
            self.location_embed_enc = CoordinateCode(size.width)
        self.blocks = nn.ModuleList(
            Block(size.width, FusedAttention(size.width, size.heads)) for _ in range(size.depth)
        )
        self.norm = nn.LayerNorm(size.width)
        self.apply(start_linear)
        nn.init.normal_(self.cls_token, std=0.02)

    def forward(
        self,
        image_NBTYX: Tensor,
        time_NT2: Tensor | None = None,
        place_N2: Tensor | None = None,
    ) -> list[Tensor]:
        """Maps (N, frames · width, side, side) of the blocks that the decoder takes.

        The last block's map is normalised, the others are raw.

        Args:
            image_NBTYX: z-scores.
            time_NT2: year and day of the year of each frame; None adds no code.
            place_N2: latitude and longitude, degrees; None adds no code.

        Raises:
            ShapeError: if the image has another side or number of frames.
        """
        self._check(image_NBTYX)
        x = self.patch_embed(image_NBTYX) + self.position_1TD[:, 1:]
        if time_NT2 is not None:
            flat = self.temporal_embed_enc(time_NT2.flatten(0, 1))
            code = torch.unflatten(flat, 0, (-1, self.frames))
            x = x + code.repeat_interleave(self.side**2, dim=1)
        if place_N2 is not None:
            x = x + self.location_embed_enc(place_N2)[:, None]
        first = (self.cls_token + self.position_1TD[:, :1]).expand(x.shape[0], -1, -1)
        x = torch.cat([first, x], dim=1)
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.taps:
                last = number == len(self.blocks) - 1
                maps.append(as_map((self.norm(x) if last else x)[:, 1:], self.side))
        return maps

    def _check(self, image_NBTYX: Tensor) -> None:
        wanted = (self.frames, self.side_px, self.side_px)
        if tuple(image_NBTYX.shape[2:]) != wanted:
            raise ShapeError(
                "image does not fit the encoder",
                "network input",
                expected=f"(N, band, {', '.join(map(str, wanted))})",
                got=str(tuple(image_NBTYX.shape)),
            )


class Prithvi(PixelNetwork):
    """Logits per pixel of a window.

    A window whose side is no multiple of the patch is reflected at its borders and cut again.

    Args:
        inputs: bands by name, outputs, and the side of a window, `crop_px`.
        config: size and surroundings of the encoder.
        dropout: share of activations that are dropped before the last convolution; the authors'
            is 0.1.
    """

    encoder: PrithviEncoder

    def __init__(
        self, inputs: NetworkInputs, config: PrithviConfig, *, dropout: float = 0.0
    ) -> None:
        super().__init__(inputs, stride=1)
        patch_px = config.size.patch_px
        self.config = config
        self.inner_px = config.inner_px or -(-inputs.crop_px // patch_px) * patch_px
        if self.inner_px % patch_px or config.inner_px == 0:
            raise ConfigError(
                "side does not fit the patches", "inner_px", expected=f"a multiple of {patch_px}"
            )
        bands = len(BANDS) if config.adapter else inputs.bands
        self.adapter = _adapter(inputs.bands) if config.adapter else None
        self.encoder = PrithviEncoder(config, bands=bands, side_px=self.inner_px)
        width = config.size.width * config.frames
        self.neck = Pyramid(width) if config.pyramid else None
        channels = self.neck.channels if self.neck else (width,) * 4
        self.decoder = UPerNet(channels, config.decoder_width)
        self.head = _head(config, inputs.outputs, dropout)

    def forward(
        self,
        image_NBYX: Tensor,
        time_NT2: Tensor | None = None,
        place_N2: Tensor | None = None,
    ) -> Tensor:
        """Logits (N, output, y, x) of z-scores (N, band, y, x).

        Args:
            image_NBYX: a window of `crop_px`; with several frames (N, band, frame, y, x).
            time_NT2: see `PrithviEncoder.forward`.
            place_N2: see `PrithviEncoder.forward`.

        Raises:
            ShapeError: if the window is of another size.
        """
        frames_NBTYX = image_NBYX if image_NBYX.ndim == 5 else image_NBYX[:, :, None]
        flat = frames_NBTYX.transpose(1, 2).flatten(0, 1)
        self.check_image(flat, self.inputs.crop_px)
        if self.adapter is not None:
            flat = self.adapter(flat)
        flat = self._inner(flat)
        grown = torch.unflatten(flat, 0, (-1, self.config.frames)).transpose(1, 2)
        maps = self.encoder(grown, time_NT2, place_N2)
        scores = self.head(self.decoder(self.neck(maps) if self.neck else maps))
        return self._outer(scores)

    def _inner(self, image_NBYX: Tensor) -> Tensor:
        """The window as the encoder takes it."""
        side = self.inputs.crop_px
        if self.inner_px == side:
            return image_NBYX
        if self.config.inner_px is None:
            missing = self.inner_px - side
            return nn.functional.pad(image_NBYX, (0, missing, 0, missing), mode="reflect")
        return nn.functional.interpolate(
            image_NBYX, size=(self.inner_px,) * 2, mode="bilinear", align_corners=False
        )

    def _outer(self, scores_NKYX: Tensor) -> Tensor:
        """Logits of the window from scores of the decoder's side."""
        side = self.inputs.crop_px
        whole = side if self.config.inner_px is not None else self.inner_px
        logits = nn.functional.interpolate(
            scores_NKYX, size=(whole, whole), mode="bilinear", align_corners=False
        )
        return logits[..., :side, :side]

    def load_official(self, path: Path | None = None) -> ImportReport:
        """Loads a published encoder, or a whole network that TerraTorch fine-tuned.

        Raises:
            ConfigError: if the bands have no names.
            RequestError: if no path is given, or the file holds other weights.
        """
        if path is None:
            return super().load_official(path)
        weights = read_weights(path)
        return load_weights(self, weights, self.layout(weights), str(path))

    def layout(self, weights: Mapping[str, Tensor]) -> Layout:
        """How a file fits: with a decoder of our kind it is a whole network, else an encoder."""
        bands = BANDS if self.adapter is not None else self.band_names()
        whole = any(".psp_modules." in name for name in weights)

        def fit(own: Mapping[str, Tensor], name: str, value: Tensor) -> Tensor:
            if name == _POSITION:  # fixed, and the file's may be for other frames
                return own[name]
            if name == _STEM:
                return stem_by_name(value, own[name], bands, nir_alias=self.config.nir_alias)
            return value

        codes = () if self.config.coordinates else _CODES
        return Layout(
            network="this Prithvi",
            renamed=_RENAMED,
            dropped=(*_MAE_DECODER, *codes),
            part="*" if whole else "encoder.*",
            may_lack=("adapter.*",),
            fit=fit,
        )


_MAE_DECODER = (
    *("*decoder_embed.*", "*decoder_blocks.*", "*decoder_norm.*", "*decoder_pred.*"),
    *("*decoder_pos_embed", "*mask_token", "*temporal_embed_dec.*", "*location_embed_dec.*"),
)
"""The decoder of the pre-training, which is not used."""
_CODES = ("*temporal_embed_enc.*", "*location_embed_enc.*")
"""Scales of the codes of time and place."""
_RENAMED = (
    (r"^model\.", ""),
    (r"_timm_module\.", ""),
    (r"^(?=(cls_token|pos_embed|patch_embed|blocks|norm|\w+_embed_enc)\b)", "encoder."),
    (r"^neck\.\d+\.", "neck."),
    (r"^head\.head\.0\.(\d+)\.0\.", r"head.\1.0."),
    (r"^head\.head\.2\.", "head.last."),
)
"""Files of version 1 have no prefix; fine-tuned ones number the parts of neck and head."""


def stem_by_name(
    published: Tensor, own: Tensor, band_names: Sequence[str], *, nir_alias: bool
) -> Tensor:
    """The stem for other bands: known bands keep their weights, others keep the network's own.

    Args:
        published: weights of the six bands, (width, 6, 1, patch, patch).
        own: weights of the network.
        band_names: names of the network's bands.
        nir_alias: `nir` counts as `nir08`, unless both are there.
    """
    if tuple(band_names) == BANDS:
        return published
    alias = {"nir": "nir08"} if nir_alias and "nir08" not in band_names else {}
    names = [alias.get(name, name) for name in band_names]
    parts = [
        published[:, BANDS.index(name)] if name in BANDS else own[:, place]
        for place, name in enumerate(names)
    ]
    return torch.stack(parts, dim=1)


def _adapter(bands: int) -> nn.Sequential:
    """Bands to the six of the pre-training, pixel by pixel."""
    return nn.Sequential(nn.Conv2d(bands, 32, 1), nn.GELU(), nn.Conv2d(32, len(BANDS), 1))


def _head(config: PrithviConfig, outputs: int, dropout: float) -> nn.Sequential:
    widths = (config.decoder_width, *config.head_widths)
    head = nn.Sequential()
    for place, (c_in, c_out) in enumerate(pairwise(widths)):
        layers = nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()
        head.add_module(str(place), nn.Sequential(*layers))
    # Whole channels, as in the other networks, so that fixed masks give a deviation.
    head.add_module("dropout", nn.Dropout2d(dropout))
    head.add_module("last", nn.Conv2d(widths[-1], outputs, 1))
    return head
