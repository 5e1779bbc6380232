"""Fixed shapes of runs, and noise to test graphs with.

Runtimes choose a kernel by the shape of its input, and kernels differ in the last bits. A crop or
row therefore scores the same in any batch only if every run has the same shape.
"""

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec
from quakestream.engines.base import PIXELS_AT_ONCE, Batch
from quakestream.errors import ShapeError

MOST_AT_ONCE = 32
ROWS_AT_ONCE = 1024
"""Rows of hazard values in one run; the last run is padded."""


def crops_at_once(spec: BundleSpec) -> int:
    """Crops of one run, for graphs that take several."""
    return min(max(PIXELS_AT_ONCE // spec.window_px**2, 1), MOST_AT_ONCE)


def padded_rows(batch: Batch) -> Batch:
    """Pads rows of hazard values to whole runs, with rows that lack every value.

    Raises:
        ShapeError: the batch holds no hazard values.
    """
    hazard_NM = batch.hazard_NM
    if hazard_NM is None:
        raise ShapeError("the batch holds no hazard values")
    rows, values = hazard_NM.shape
    padded_NM = np.full((-(-rows // ROWS_AT_ONCE) * ROWS_AT_ONCE, values), np.nan, np.float32)
    padded_NM[:rows] = hazard_NM
    return Batch(hazard_NM=padded_NM)


def noise(spec: BundleSpec, count: int) -> Batch:
    """A batch of noise, with hazard values around their means."""
    rng = np.random.default_rng(0)
    shape = (count, len(spec.bands), spec.window_px, spec.window_px)
    statistics = {}
    if spec.normalisation == "per_scene":
        for epoch in spec.epochs:
            statistics[f"{epoch}_mean_NB"] = rng.normal(110, 9, shape[:2]).astype(np.float32)
            statistics[f"{epoch}_std_NB"] = rng.normal(45, 3, shape[:2]).astype(np.float32)
    hazard_NM = np.array([[h.mean for h in spec.hazard]], np.float32).repeat(count, axis=0)
    hazard_NM += rng.normal(size=hazard_NM.shape).astype(np.float32)
    return Batch(
        images={e: _image_noise(rng, shape, spec) for e in spec.epochs},
        statistics=statistics,
        hazard_NM=hazard_NM if spec.hazard else None,
    )


def _image_noise(
    rng: np.random.Generator, shape: tuple[int, ...], spec: BundleSpec
) -> NDArray[np.generic]:
    if spec.takes_reflectance:
        return rng.random(shape, np.float32)
    return rng.integers(0, 256, shape).astype(np.uint8)
