"""Graphs that bundles ship: a network with everything between counts and logits.

Inputs are uint8 pixels and hazard values in their own units, NaN where missing. Normalisation,
z-scores and the treatment of missing values are inside, so that all runtimes do the same.

Axis legend: N items, B bands, M hazard values, C classes, Y rows, X columns.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quakestream.domain import HazardInput
from quakestream.errors import ConfigError
from training.networks.folding import folded

Arrays = dict[str, NDArray[np.generic]]


class BundleGraph(nn.Module):
    """A graph that takes its inputs in the order of `names`, so that an exporter can name them."""

    names: tuple[str, ...]

    def example(self, *, count: int, seed: int = 0) -> Arrays:
        """A synthetic batch, inputs by name."""
        raise NotImplementedError

    def run(self, arrays: Arrays) -> NDArray[np.float32]:
        """Logits of arrays given by name, without gradients."""
        device = next(self.parameters()).device
        tensors = [torch.from_numpy(np.ascontiguousarray(arrays[n])).to(device) for n in self.names]
        with torch.inference_mode():
            logits: NDArray[np.float32] = self(*tensors).float().cpu().numpy()
        return logits


class SegmentationGraph(BundleGraph):
    """Turns a pair of windows into a logit per pixel, (N, 1, Y, X)."""

    names = ("pre", "post", "pre_mean_NB", "pre_std_NB", "post_mean_NB", "post_std_NB")

    def __init__(self, network: nn.Module, *, window_px: int) -> None:
        super().__init__()
        self.network, self.window_px = network, window_px

    def forward(
        self,
        pre: Tensor,
        post: Tensor,
        pre_mean_NB: Tensor,
        pre_std_NB: Tensor,
        post_mean_NB: Tensor,
        post_std_NB: Tensor,
    ) -> Tensor:
        logits: Tensor = self.network(
            normalised(pre, pre_mean_NB, pre_std_NB), normalised(post, post_mean_NB, post_std_NB)
        )
        return logits

    def example(self, *, count: int, seed: int = 0) -> Arrays:
        return example_images(("pre", "post"), self.window_px, count, np.random.default_rng(seed))


class LandslideGraph(BundleGraph):
    """Turns one window into a logit per pixel, (N, 1, Y, X).

    Args:
        network: takes z-scores (N, B, Y, X). The graph holds a copy with adapters merged.
        window_px: side of the window.
        mean_B: means of the bands, in the units of the input.
        std_B: standard deviations of the bands.
        dtype: `uint8` for counts, `float32` for reflectance, degrees and metres.
        platt: slope and offset of the logits, which make their sigmoid a probability.
    """

    names = ("post",)
    mean_B: Tensor
    std_B: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        window_px: int,
        mean_B: Sequence[float],
        std_B: Sequence[float],
        dtype: Literal["uint8", "float32"] = "float32",
        platt: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        super().__init__()
        self.network, self.window_px = folded(network), window_px
        self.dtype, self.platt = dtype, platt
        self.register_buffer("mean_B", torch.tensor(tuple(mean_B), dtype=torch.float32))
        self.register_buffer("std_B", torch.tensor(tuple(std_B), dtype=torch.float32))

    def forward(self, post: Tensor) -> Tensor:
        scores = self.network(normalised(post, self.mean_B[None], self.std_B[None]))
        slope, offset = self.platt
        logits: Tensor = slope * scores + offset
        return logits

    def example(self, *, count: int, seed: int = 0) -> Arrays:
        """Bands around their means, smooth and with noise; counts are whole numbers."""
        rng = np.random.default_rng(seed)
        mean_B, std_B = self.mean_B.cpu().numpy(), self.std_B.cpu().numpy()
        shape = (count, len(mean_B), self.window_px, self.window_px)
        wave_YX = np.sin(np.add.outer(*(np.arange(self.window_px) / 9.0,) * 2))
        score_NBYX = 0.7 * rng.normal(size=shape) + wave_YX * rng.normal(size=(*shape[:2], 1, 1))
        score_NBYX = np.round(8 * score_NBYX) / 8  # few values, so that the file packs well
        values = mean_B[:, None, None] + std_B[:, None, None] * score_NBYX
        if self.dtype == "uint8":
            return {"post": np.clip(np.rint(values), 0, 255).astype(np.uint8)}
        return {"post": values.astype(np.float32)}


class HazardScaling(nn.Module):
    """Turns hazard values into z-scores, 0 where missing.

    Raises:
        ConfigError: if the standard deviation of a value is not positive.
    """

    mean_M: Tensor
    std_M: Tensor

    def __init__(self, hazard: Sequence[HazardInput]) -> None:
        super().__init__()
        for value in hazard:
            if not value.std > 0:
                raise ConfigError(
                    "no spread to divide by",
                    f"hazard {value.name}",
                    expected="a std above 0",
                    got=str(value.std),
                )
        self.register_buffer("mean_M", torch.tensor([h.mean for h in hazard]))
        self.register_buffer("std_M", torch.tensor([h.std for h in hazard]))

    def forward(self, hazard_NM: Tensor) -> Tensor:
        score_NM = (hazard_NM - self.mean_M) / self.std_M
        return torch.where(torch.isnan(hazard_NM), torch.zeros_like(score_NM), score_NM)

    def example(self, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Random values around the means; a fifth is missing, and all of the last row."""
        mean_M, std_M = self.mean_M.cpu().numpy(), self.std_M.cpu().numpy()
        value_NM = mean_M + std_M * rng.normal(size=(count, len(mean_M)))
        value_NM[rng.random(value_NM.shape) < 0.2] = np.nan
        if count > 1:
            value_NM[-1] = np.nan
        return value_NM.astype(np.float32)


class BuildingGraph(BundleGraph):
    """Turns crops, and hazard values if the network takes any, into a logit per class, (N, C).

    Args:
        network: takes a crop (N, B, Y, X), with pre-event bands before post-event bands if it
            has both, and hazard values (N, M) if there are any.
        epochs: `("post",)` or `("pre", "post")`.
        crop_px: side of a crop.
        hazard: values in the network's order; empty for a network without hazard values.
        offset_C: added to the logits to move them to the prior that the manifest states.
    """

    offset_C: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        epochs: Sequence[str],
        crop_px: int,
        hazard: Sequence[HazardInput] = (),
        offset_C: Sequence[float] = (0.0,),
    ) -> None:
        super().__init__()
        self.network, self.crop_px, self.epochs = network, crop_px, tuple(epochs)
        self.scaling = HazardScaling(hazard) if hazard else None
        self.register_buffer("offset_C", torch.tensor(tuple(offset_C)))
        statistics = (f"{e}_{figure}_NB" for e in self.epochs for figure in ("mean", "std"))
        self.names = (*self.epochs, *statistics, *(("hazard",) if hazard else ()))

    def forward(self, *arrays: Tensor) -> Tensor:
        given = dict(zip(self.names, arrays, strict=True))
        crops = [
            normalised(given[e], given[f"{e}_mean_NB"], given[f"{e}_std_NB"]) for e in self.epochs
        ]
        image_NBYX = torch.cat(crops, dim=1) if len(crops) > 1 else crops[0]
        inputs = [image_NBYX] if self.scaling is None else [image_NBYX, self.scaling(arrays[-1])]
        logits: Tensor = self.network(*inputs)
        return logits + self.offset_C

    def example(self, *, count: int, seed: int = 0) -> Arrays:
        rng = np.random.default_rng(seed)
        arrays = example_images(self.epochs, self.crop_px, count, rng)
        if self.scaling is not None:
            arrays["hazard"] = self.scaling.example(count, rng)
        return arrays


class HazardGraph(BundleGraph):
    """Turns hazard values alone into a logit per class, (N, C)."""

    names = ("hazard",)
    offset_C: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        hazard: Sequence[HazardInput],
        offset_C: Sequence[float] = (0.0,),
    ) -> None:
        super().__init__()
        self.network, self.scaling = network, HazardScaling(hazard)
        self.register_buffer("offset_C", torch.tensor(tuple(offset_C)))

    def forward(self, hazard: Tensor) -> Tensor:
        logits: Tensor = self.network(self.scaling(hazard))
        return logits + self.offset_C

    def example(self, *, count: int, seed: int = 0) -> Arrays:
        return {"hazard": self.scaling.example(count, np.random.default_rng(seed))}


def normalised(counts_NBYX: Tensor, mean_NB: Tensor, std_NB: Tensor) -> Tensor:
    """(Counts - mean) / deviation, with the scene's statistics."""
    return (counts_NBYX.float() - mean_NB[:, :, None, None]) / std_NB[:, :, None, None]


def example_images(
    epochs: Sequence[str], side: int, count: int, rng: np.random.Generator
) -> Arrays:
    """Synthetic images: rectangles as roofs and streets, and after the event a pile of rubble."""
    pre = np.stack([_town(side, rng) for _ in range(count)])
    post = np.clip(pre * 0.8 + 20, 0, 255).astype(np.uint8)
    third = side // 3
    rubble = rng.integers(0, 16, (count, 3, third, third)) * 16
    post[:, :, third : 2 * third, third : 2 * third] = rubble
    arrays: Arrays = {e: {"pre": pre, "post": post}[e] for e in epochs}
    for epoch in epochs:
        arrays[f"{epoch}_mean_NB"] = np.full((count, 3), 110.0, np.float32)
        arrays[f"{epoch}_std_NB"] = np.full((count, 3), 45.0, np.float32)
    return arrays


def _town(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    image = np.full((3, side, side), 120, np.uint8)
    for _ in range(40):
        top, left = rng.integers(0, side, 2)
        height, width = rng.integers(side // 20 + 1, side // 8 + 2, 2)
        colour_B = rng.integers(60, 220, 3).astype(np.uint8)
        image[:, top : top + height, left : left + width] = colour_B[:, None, None]
    return image
