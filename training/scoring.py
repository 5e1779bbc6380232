"""Scores held-out buildings as inference does: lattice windows, core pixels, integer sums."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from quakestream.domain import Window
from quakestream.reduce.tally import PROBABILITY_ONE
from quakestream.tiling.lattice import Lattice
from training.data.pairs import Building, Image, LabelledPair, pixels_inside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuildingLogits:
    """Logits of one building's pixels, from which calibration needs no second pass."""

    pair: str
    building: Building
    logit_P: NDArray[np.float32]

    def probability(self, *, temperature: float = 1.0) -> float:
        """Mean over pixels of σ(logit / temperature), in steps of 1/65535 like a tally."""
        p_P = expit(self.logit_P.astype(np.float64) / temperature)
        return float(np.round(p_P * PROBABILITY_ONE).sum() / (PROBABILITY_ONE * len(p_P)))


def score_buildings(
    network: nn.Module, pair: LabelledPair, buildings: Sequence[Building], lattice: Lattice
) -> list[BuildingLogits]:
    """Logits of a network inside each building; buildings without a pixel are left out."""
    network.eval()

    def logits(window: Window) -> NDArray[np.float32]:
        with torch.inference_mode():
            output: Tensor = network(normalised(pair.pre, window), normalised(pair.post, window))
        logits_YX: NDArray[np.float32] = output[0, 0].numpy()
        return logits_YX

    return score_windows(logits, pair, buildings, lattice)


def score_windows(
    logits: Callable[[Window], NDArray[np.float32]],
    pair: LabelledPair,
    buildings: Sequence[Building],
    lattice: Lattice,
) -> list[BuildingLogits]:
    """Logits inside each building, given a function that scores one window, (y, x)."""
    if not buildings:
        return []
    logit_YX = np.full(pair.window.shape, np.nan, np.float32)
    bounds_N4 = np.array([b.geometry.bounds for b in buildings])
    for row, col in windows_over(bounds_N4, lattice):
        window = lattice.window(row, col)
        shared = _shared(lattice.core(row, col), pair.window)
        if shared is not None:  # Only the core counts.
            logit_YX[shared.slices_in(pair.window)] = logits(window)[shared.slices_in(window)]
    scored = []
    for building in buildings:
        rows, cols, inside_YX = pixels_of(building, pair)
        logit_P = logit_YX[rows, cols][inside_YX]
        if len(logit_P):
            scored.append(BuildingLogits(pair=pair.name, building=building, logit_P=logit_P))
    return scored


def normalised(image: Image, window: Window) -> Tensor:
    """A normalised window of an image, (1, band, y, x); the count of unseen ground is 0."""
    mean_B, std_B = (torch.tensor(v) for v in (image.statistics.mean_B, image.statistics.std_B))
    counts = torch.from_numpy(cut_out(image, window)).float()
    return ((counts - mean_B[:, None, None]) / std_B[:, None, None])[None]


def cut_out(image: Image, window: Window) -> NDArray[np.uint8]:
    """Pixels of a window; the count is 0 where it reaches beyond the image."""
    pixels_BYX = np.zeros((len(image.pixels_BYX), *window.shape), np.uint8)
    shared = _shared(image.window, window)
    if shared is not None:
        rows, cols = shared.slices_in(window)
        source_rows, source_cols = shared.slices_in(image.window)
        pixels_BYX[:, rows, cols] = image.pixels_BYX[:, source_rows, source_cols]
    return pixels_BYX


def windows_over(bounds_N4: NDArray[np.float64], lattice: Lattice) -> Iterator[tuple[int, int]]:
    """Row and column of each window whose core touches one of the bounds, in order, once each."""
    touches = lattice.touches(bounds_N4)
    yield from sorted({(int(r), int(c)) for r, c in zip(touches.row_T, touches.col_T, strict=True)})


def pixels_of(building: Building, pair: LabelledPair) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Rows and columns of a building in the arrays of its pair, and its pixels among them."""
    window = _shared(pair.grid.window(*building.geometry.bounds), pair.window)
    if window is None:
        return slice(0), slice(0), np.zeros((0, 0), bool)
    rows, cols = window.slices_in(pair.window)
    return rows, cols, pixels_inside(building.geometry, pair.grid, window)


def _shared(a: Window, b: Window) -> Window | None:
    row, col = max(a.row, b.row), max(a.col, b.col)
    height, width = min(a.row_end, b.row_end) - row, min(a.col_end, b.col_end) - col
    if height <= 0 or width <= 0:
        return None
    return Window(row=row, col=col, height=height, width=width)
