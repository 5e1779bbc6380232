"""Frozen pre-trained encoders behind one call: RGB counts in, features in.

Every encoder gives a map of one sixteenth of the side, whatever its own patch is, so that a decoder
does not know which encoder it stands on. Weights that are installed or bundled need no path; all
others are read from one.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError, RequestError
from training.networks.dino import SIZES as DINO_SIZES
from training.networks.dino import Dino
from training.networks.efficientnet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EfficientNetLite,
    load_imagenet,
)
from training.networks.galileo import Galileo, GalileoConfig
from training.networks.inputs import of_bands
from training.networks.prithvi import SIZES as PRITHVI_SIZES
from training.networks.prithvi import Prithvi, PrithviConfig

STRIDE = 16
"""Pixels of the image along a side of one cell of the map."""
_RGB = ("red", "green", "blue")
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SATELLITE = ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))
"""Means and deviations of red, green and blue, as shares of 255. The second are those of the
SAT-493M weights of DINOv3."""


class FrozenEncoder(nn.Module):
    """Features of an image that are never trained.

    Args:
        channels: features of a cell.
        features: takes counts (N, 3, y, x) and gives (N, channels, y / 16, x / 16).
    """

    def __init__(self, channels: int, features: nn.Module) -> None:
        super().__init__()
        self.channels, self.features = channels, features.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, counts_NBYX: Tensor) -> Tensor:
        """A map (N, channels, y / 16, x / 16) of red, green and blue counts, 0 to 255."""
        self.features.eval()
        map_NDYX: Tensor = self.features(counts_NBYX.float())
        return map_NDYX


class _LiteFeatures(nn.Module):
    """All five levels of EfficientNet-Lite0, each normed over its channels, side by side."""

    def __init__(self, path: Path | None) -> None:
        super().__init__()
        self.encoder = EfficientNetLite(3)
        load_imagenet(self.encoder, _RGB, path)

    def forward(self, counts_NBYX: Tensor) -> Tensor:
        levels = self.encoder((counts_NBYX - IMAGENET_MEAN) / IMAGENET_STD)
        side = (counts_NBYX.shape[-2] // STRIDE, counts_NBYX.shape[-1] // STRIDE)
        pooled = [nn.functional.adaptive_avg_pool2d(level, side) for level in levels]
        return torch.cat([_normed(level) for level in pooled], dim=1)


class _TokenFeatures(nn.Module):
    """The tokens of a transformer; the image is resized so that a cell has one token per patch.

    Args:
        network: z-scores of three bands to a map.
        patch_px: side of a patch of the network.
        patches: patches along a side of a cell.
        mean_std: statistics of the pre-training in counts / 255, in the order of the network.
        order: places of red, green and blue that the network takes, in its order.
    """

    mean_B11: Tensor
    std_B11: Tensor

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        *,
        patch_px: int,
        patches: int = 1,
        mean_std: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET,
        order: tuple[int, int, int] = (0, 1, 2),
    ) -> None:
        super().__init__()
        self.network, self.order = network, list(order)
        self.patch_px, self.patches = patch_px, patches
        for name, values in zip(("mean_B11", "std_B11"), mean_std, strict=True):
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None])

    def forward(self, counts_NBYX: Tensor) -> Tensor:
        scores = ((counts_NBYX - self.mean_B11) / self.std_B11)[:, self.order]
        sides = [s // STRIDE * self.patches * self.patch_px for s in counts_NBYX.shape[-2:]]
        if sides != list(counts_NBYX.shape[-2:]):
            scores = nn.functional.interpolate(
                scores, size=sides, mode="bilinear", antialias=True, align_corners=False
            )
        return nn.functional.avg_pool2d(self.network(scores), self.patches)


def open_encoder(name: str, weights: str = "", *, side_px: int = 128) -> FrozenEncoder:
    """Opens a frozen encoder by name.

    Args:
        name: one of `ENCODERS`; a name with `_random` behind it has random weights, as a control.
        weights: path of the published file; may be empty for `lite0`.
        side_px: side of the images, which some transformers are built for.

    Raises:
        ConfigError: if there is no such encoder.
        MissingExtraError: if installed weights are asked for and absent.
        RequestError: if a path is needed, or the file holds other weights.
    """
    base = name.removesuffix("_random")
    if base not in ENCODERS:
        raise ConfigError(
            "unknown encoder", "encoder", expected=f"one of {', '.join(ENCODERS)}", got=repr(name)
        )
    random = name.endswith("_random")
    if not weights and not random and base != "lite0":
        raise RequestError(
            "encoder has no installed weights",
            f"encoder {name}",
            remedy="name the published file with --set weights=PATH",
        )
    path = Path(weights) if weights and not random else None
    return ENCODERS[base](base, path, random, side_px)


def _lite0(name: str, path: Path | None, random: bool, side_px: int) -> FrozenEncoder:
    features = _LiteFeatures(path)
    if random:
        features.encoder = EfficientNetLite(3)
    return FrozenEncoder(sum(features.encoder.channels), features)


def _dino(name: str, path: Path | None, random: bool, side_px: int) -> FrozenEncoder:
    size = DINO_SIZES[name.removesuffix("_sat")]
    network = Dino(size)
    if path:
        network.load_official(path)
    statistics = _SATELLITE if name.endswith("_sat") else _IMAGENET
    return FrozenEncoder(
        size.width, _TokenFeatures(network, patch_px=size.patch_px, mean_std=statistics)
    )


def _galileo(name: str, path: Path | None, random: bool, side_px: int) -> FrozenEncoder:
    bands = ("blue", "green", "red")
    network = Galileo(of_bands(*bands, crop_px=side_px, gsd_m=0.5), GalileoConfig(detail_width=0))
    if path:
        network.load_official(path)
    features = _TokenFeatures(network.encoder, patch_px=8, patches=2, order=(2, 1, 0))
    return FrozenEncoder(network.encoder.width, features)


def _prithvi(name: str, path: Path | None, random: bool, side_px: int) -> FrozenEncoder:
    size = PRITHVI_SIZES[name.removeprefix("prithvi_")]
    inputs = of_bands("blue", "green", "red", crop_px=side_px // STRIDE * size.patch_px)
    network = Prithvi(inputs, PrithviConfig(size=size, coordinates=False, inner_px=None))
    if path:
        network.load_official(path)
    features = _TokenFeatures(_LastMap(network.encoder), patch_px=size.patch_px, order=(2, 1, 0))
    return FrozenEncoder(size.width, features)


class _LastMap(nn.Module):
    """The map of the last block of Prithvi for images of one frame."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, image_NBYX: Tensor) -> Tensor:
        last: Tensor = self.encoder(image_NBYX[:, :, None])[-1]
        return last


def _normed(map_NDYX: Tensor) -> Tensor:
    """Features of each cell with mean 0 and deviation 1."""
    return nn.functional.layer_norm(map_NDYX.movedim(1, -1), map_NDYX.shape[1:2]).movedim(-1, 1)


ENCODERS: dict[str, Callable[[str, Path | None, bool, int], FrozenEncoder]] = {
    "lite0": _lite0,
    "galileo_nano": _galileo,
    **dict.fromkeys(DINO_SIZES, _dino),
    "dinov3_l_sat": _dino,
    **{f"prithvi_{size}": _prithvi for size in PRITHVI_SIZES},
}
"""Encoders by name. Lite0's ImageNet weights are installed with the extra `train`."""
