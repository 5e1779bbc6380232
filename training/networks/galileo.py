"""Galileo (Tseng et al. 2025, arXiv:2502.09356), the encoder for one image.

A patch becomes one token per group of bands: visible, red edge, two near infrared, short-wave
infrared, NDVI, and elevation with slope. Groups that an image lacks have no tokens, which is what
the published code does with masked groups. Weights have the names of the published file, which
holds projections of groups that landslide mapping does not use: radar, weather, land cover.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError
from training.networks.base import PixelNetwork
from training.networks.importing import ImportReport, Layout, load_weights, read_weights
from training.networks.inputs import NetworkInputs
from training.networks.unet import DoubleConv
from training.networks.vit import Block, SplitAttention, sincos, start_linear

SPACE_TIME = {
    "S1": 2,
    "S2_RGB": 3,
    "S2_Red_Edge": 3,
    "S2_NIR_10m": 1,
    "S2_NIR_20m": 1,
    "S2_SWIR": 2,
    "NDVI": 1,
}
SPACE = {"SRTM": 2, "DW": 9, "WC": 5}
TIME = {"ERA5": 2, "TC": 3, "VIIRS": 1}
STATIC = {"LS": 1, "location": 3, "DW_static": 9, "WC_static": 5}
"""Channels of the groups of the published weights, in their order."""
GROUP_BANDS = {
    "S2_RGB": ("blue", "green", "red"),
    "S2_Red_Edge": ("rededge071", "rededge075", "rededge078"),
    "S2_NIR_10m": ("nir",),
    "S2_NIR_20m": ("nir08",),
    "S2_SWIR": ("swir16", "swir22"),
    "NDVI": ("red", "nir"),
    "SRTM": ("elevation", "slope"),
}
"""Bands that a group needs, in the order of its weights."""
MEAN_STD = {
    "blue": (1395.34, 917.70),
    "green": (1338.40, 913.30),
    "red": (1343.10, 1092.68),
    "rededge071": (1543.86, 1047.22),
    "rededge075": (2186.20, 1048.01),
    "rededge078": (2525.09, 1143.69),
    "nir": (2410.34, 1098.98),
    "nir08": (2750.29, 1204.47),
    "swir16": (2234.91, 1145.98),
    "swir22": (1474.53, 980.24),
    "elevation": (673.02, 983.07),
    "slope": (5.93, 8.17),
}
"""Statistics of the pre-training: reflectance of L1C times 10,000, metres and degrees."""
LORA_PATTERNS = ("encoder.blocks.*.attn.[qkv]", "encoder.blocks.*.attn.proj", "encoder.*.mlp.fc?")
_BASE_PX, _BASE_GSD_M, _FRAMES = 8, 10.0, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class GalileoSize:
    """A size of the encoder. Values of `nano` are those of its published `config.json`."""

    width: int = 128
    depth: int = 4
    heads: int = 8
    mlp_ratio: float = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GalileoConfig:
    """A size and how an image is cut."""

    size: GalileoSize = field(default_factory=GalileoSize)
    patch_px: int = 8
    """Side of a patch, 1 to 8 pixels. Half the side has four times the tokens."""
    month: int = 5
    """Month that the code of time is of, 0 is January. Scenes do not tell theirs to a graph."""
    detail_width: int = 16
    """Channels of the convolutions over the image that sharpen the map; 0 for none."""


class GalileoEncoder(nn.Module):
    """A map of the mean token of each patch.

    Args:
        config: size, patch and month.
        band_names: bands of the image. Those of no group are left out, and groups that miss a band.
        side_px: side of the image, a multiple of the patch.
        gsd_m: metres a pixel, for the code of place.

    Raises:
        ConfigError: if no group has all its bands, or the side does not fit.
    """

    fixed_1PD: Tensor

    def __init__(
        self, config: GalileoConfig, *, band_names: Sequence[str], side_px: int, gsd_m: float
    ) -> None:
        super().__init__()
        size, patch_px = config.size, config.patch_px
        self.groups = present(band_names)
        if not self.groups or side_px % patch_px or not 1 <= patch_px <= _BASE_PX:
            raise ConfigError(
                "image does not fit Galileo",
                "network inputs",
                expected="all bands of a group, and a side that is a multiple of the patch",
                got=f"bands {', '.join(band_names)}, side {side_px}, patch {patch_px}",
            )
        self.side, self.patch_px, self.width = side_px // patch_px, patch_px, size.width
        quarter = size.width // 4
        self.pos_embed = nn.Parameter(_frames(quarter), requires_grad=False)
        self.s_t_channel_embed = nn.Parameter(torch.zeros(len(SPACE_TIME), quarter))
        self.sp_channel_embed = nn.Parameter(torch.zeros(len(SPACE), quarter))
        self.t_channel_embed = nn.Parameter(torch.zeros(len(TIME), quarter))
        self.st_channel_embed = nn.Parameter(torch.zeros(len(STATIC), quarter))
        self.blocks = nn.ModuleList(
            Block(size.width, SplitAttention(size.width, size.heads), mlp_ratio=size.mlp_ratio)
            for _ in range(size.depth)
        )
        self.month_embed = nn.Embedding(12, quarter, _weight=_months(quarter))
        self.month_embed.requires_grad_(False)
        self.space_time_embed = _projections(SPACE_TIME, size.width, patch_px)
        self.space_embed = _projections(SPACE, size.width, patch_px)
        self.time_embed = nn.ModuleDict({n: nn.Linear(c, size.width) for n, c in TIME.items()})
        self.static_embed = nn.ModuleDict({n: nn.Linear(c, size.width) for n, c in STATIC.items()})
        self.norm = nn.LayerNorm(size.width)
        self.apply(start_linear)
        self.month = config.month
        place_PD = _places(quarter, self.side, gsd_m * patch_px / _BASE_GSD_M)
        self.register_buffer("fixed_1PD", place_PD[None], persistent=False)

    def forward(self, image_NBYX: Tensor) -> Tensor:
        """A map (N, width, y / patch, x / patch) of z-scores (N, band, y, x).

        Z-scores are taken as if the data had the statistics of the pre-training, `MEAN_STD`.
        """
        tokens_NTD = torch.cat(
            [self._tokens(group, image_NBYX, places) for group, places in self.groups.items()],
            dim=1,
        )
        for block in self.blocks:
            tokens_NTD = block(tokens_NTD)
        by_group = torch.unflatten(
            self.norm(tokens_NTD), 1, (len(self.groups), self.side, self.side)
        )
        mean_NYXD: Tensor = by_group.mean(1)
        return mean_NYXD.permute(0, 3, 1, 2)

    def _tokens(self, group: str, image_NBYX: Tensor, places: tuple[int, ...]) -> Tensor:
        """Tokens of one group with their codes, (N, P, width)."""
        scores = torch.cat([image_NBYX[:, p : p + 1] for p in places], dim=1)
        # The pre-training maps two standard deviations below and above the mean to 0 and 1.
        values = _ndvi(scores) if group == "NDVI" else scores / 4 + 0.5
        in_space = group in SPACE
        project = (self.space_embed if in_space else self.space_time_embed)[group]
        map_NDYX: Tensor = project(values)
        return map_NDYX.flatten(2).transpose(1, 2) + self._code(group)

    def _code(self, group: str) -> Tensor:
        """Code of group, time and place, (1, P, width)."""
        if group in SPACE:
            channel_D = self.sp_channel_embed[list(SPACE).index(group)]
            time_D = torch.zeros(2 * len(channel_D), device=channel_D.device)
        else:
            channel_D = self.s_t_channel_embed[list(SPACE_TIME).index(group)]
            time_D = torch.cat([self.pos_embed[0], self.month_embed.weight[self.month]])
        patches = self.fixed_1PD.shape[1]
        known = torch.cat([channel_D, time_D]).expand(1, patches, -1)
        return torch.cat([known, self.fixed_1PD], dim=-1)


class _Projection(nn.Module):
    """Patches of one group, with the kernel for 8 px resized to other sides (FlexiViT)."""

    shrink_PP: Tensor

    def __init__(self, channels: int, width: int, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.proj = nn.Conv2d(channels, width, _BASE_PX, stride=_BASE_PX)
        self.register_buffer("shrink_PP", _shrink(patch_px), persistent=False)

    def forward(self, values_NBYX: Tensor) -> Tensor:
        """A map (N, width, y / patch, x / patch)."""
        return nn.functional.conv2d(
            values_NBYX, self._kernel(), self.proj.bias, stride=self.patch_px
        )

    def folded(self) -> nn.Conv2d:
        """The convolution with the resized kernel."""
        channels, width = self.proj.in_channels, self.proj.out_channels
        conv = nn.Conv2d(channels, width, self.patch_px, stride=self.patch_px)
        conv.load_state_dict({"weight": self._kernel(), "bias": self.proj.bias})
        return conv.eval()

    def _kernel(self) -> Tensor:
        if self.patch_px == _BASE_PX:
            return self.proj.weight
        flat = self.proj.weight.flatten(2) @ self.shrink_PP.T
        return torch.unflatten(flat, 2, (self.patch_px, self.patch_px))


class Galileo(PixelNetwork):
    """Logits per pixel: Galileo's map, doubled until it has the side of the window.

    Args:
        inputs: bands by name, GSD, and the side of a window, `crop_px`.
        config: size, patch, and detail.
        dropout: share of channels that are dropped after each doubling.
    """

    encoder: GalileoEncoder

    def __init__(
        self, inputs: NetworkInputs, config: GalileoConfig, *, dropout: float = 0.0
    ) -> None:
        super().__init__(inputs, stride=config.patch_px)
        self.encoder = GalileoEncoder(
            config, band_names=self.band_names(), side_px=inputs.crop_px, gsd_m=inputs.gsd_m
        )
        if config.patch_px & (config.patch_px - 1):
            raise ConfigError("patch cannot be doubled to a pixel", "patch_px", expected="1 to 8")
        steps = config.patch_px.bit_length() - 1
        detail = config.detail_width
        self.detail = _details(inputs.bands, detail, steps) if detail else None
        widths = [max(16, config.size.width // 2**k) for k in range(steps + 1)]
        skip = detail if detail else 0
        self.decoder = nn.ModuleList(
            DoubleConv(a + skip, b, middle=b, bias=False) for a, b in pairwise(widths)
        )
        self.dropouts = nn.ModuleList(nn.Dropout2d(dropout) for _ in self.decoder)
        self.head = nn.Conv2d(widths[-1], inputs.outputs, 1)

    def forward(self, image_NBYX: Tensor) -> Tensor:
        """Logits (N, output, y, x) of z-scores (N, band, y, x).

        Raises:
            ShapeError: if the window is of another size.
        """
        self.check_image(image_NBYX, self.inputs.crop_px)
        x = self.encoder(image_NBYX)
        details = self._details(image_NBYX)
        steps = zip(self.decoder, self.dropouts, strict=True)
        for number, (conv, dropout) in enumerate(steps):
            x = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            if details:
                x = torch.cat([x, details[-1 - number]], dim=1)
            x = dropout(conv(x))
        logits: Tensor = self.head(x)
        return logits

    def _details(self, image_NBYX: Tensor) -> list[Tensor]:
        """Maps of the image from full resolution down; empty if there are none."""
        maps: list[Tensor] = []
        for conv in self.detail or ():
            maps.append(conv(maps[-1] if maps else image_NBYX))
        return maps

    def load_official(self, path: Path | None = None) -> ImportReport:
        """Loads the published encoder, `encoder.pt`.

        Raises:
            RequestError: if no path is given, or the file holds other weights.
        """
        if path is None:
            return super().load_official(path)
        return load_weights(self, read_weights(path), _LAYOUT, str(path))


_LAYOUT = Layout(
    network="this Galileo",
    renamed=((r"\.backbone", ""), (r"^", "encoder.")),
    part="encoder.*",
)


def present(band_names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Groups whose bands are all there, and the places of their bands."""
    names = list(band_names)
    return {
        group: tuple(names.index(band) for band in bands)
        for group, bands in GROUP_BANDS.items()
        if set(bands) <= set(names)
    }


def _ndvi(red_nir_N2YX: Tensor) -> Tensor:
    """NDVI (N, 1, y, x) of the z-scores of red and near infrared."""
    (red_mean, red_std), (nir_mean, nir_std) = MEAN_STD["red"], MEAN_STD["nir"]
    red = torch.relu(red_nir_N2YX[:, :1] * red_std + red_mean)
    nir = torch.relu(red_nir_N2YX[:, 1:] * nir_std + nir_mean)
    return (nir - red) / (nir + red).clamp(min=1.0)


def _projections(groups: Mapping[str, int], width: int, patch_px: int) -> nn.ModuleDict:
    return nn.ModuleDict({name: _Projection(n, width, patch_px) for name, n in groups.items()})


def _details(bands: int, width: int, levels: int) -> nn.ModuleList:
    return nn.ModuleList(
        nn.Sequential(
            nn.Conv2d(width if k else bands, width, 3, stride=2 if k else 1, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        for k in range(levels)
    )


def _published_frequencies(width: int) -> Tensor:
    """10,000^(-k / (2 · width)): the published code divides by the width twice over."""
    return 10_000.0 ** -(torch.arange(width // 2).double() / width / 2)


def _frames(width: int) -> Tensor:
    return sincos(torch.arange(_FRAMES), _published_frequencies(width))


def _months(width: int) -> Tensor:
    """Sine and cosine of the month, each repeated over half the width, (12, width)."""
    angle_T = torch.arange(12).double() * (2 * torch.pi / 12)
    parts = [wave[:, None].expand(-1, width // 2) for wave in (angle_T.sin(), angle_T.cos())]
    return torch.cat(parts, dim=1).float()


def _places(width: int, side: int, step: float) -> Tensor:
    """Code of columns, then of rows, (side², width); `step` is the side of a patch in 10 m."""
    code_XD = sincos(torch.arange(side).double() * step, _published_frequencies(width // 2))
    across = code_XD[None].expand(side, -1, -1)
    down = code_XD[:, None].expand(-1, side, -1)
    return torch.cat([across, down], dim=-1).flatten(0, 1)


def _shrink(patch_px: int) -> Tensor:
    """Takes a kernel of 8 × 8 to another side, (side², 64): the pseudo-inverse of resizing.

    A patch that is resized to 8 px and meets the kernel gives what the patch gives with the
    resized kernel.
    """
    basis = torch.eye(_BASE_PX**2, device="cpu").reshape(-1, 1, _BASE_PX, _BASE_PX)
    resized = nn.functional.interpolate(
        basis, size=(patch_px, patch_px), mode="bicubic", antialias=True
    )
    inverse: Tensor = torch.linalg.pinv(resized.flatten(1))
    return inverse.to(torch.get_default_device())
