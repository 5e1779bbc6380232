"""Fractal noise on a raster by repeated smooth doubling, cheap and without lattice lines."""

import math

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def _doubled(values_YX: F32, axis: int) -> F32:
    """Values with twice the samples along `axis`, by Chaikin's rule (quadratic B-spline)."""
    left = np.roll(values_YX, 1, axis=axis)
    right = np.roll(values_YX, -1, axis=axis)
    shape = list(values_YX.shape)
    shape[axis] *= 2
    out = np.empty(shape, np.float32)
    even: list[slice] = [slice(None), slice(None)]
    odd: list[slice] = [slice(None), slice(None)]
    even[axis], odd[axis] = slice(0, None, 2), slice(1, None, 2)
    out[tuple(even)] = np.float32(0.75) * values_YX + np.float32(0.25) * left
    out[tuple(odd)] = np.float32(0.75) * values_YX + np.float32(0.25) * right
    return out


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    coarsest_px: float,
    finest_px: float = 1.0,
    gain: float = 0.6,
) -> F32:
    """Noise of mean 0 and deviation 1 with detail from `coarsest_px` down to `finest_px`.

    Args:
        rng: source of randomness.
        shape: (height, width) of the result.
        coarsest_px: size of the largest blobs, pixels.
        finest_px: size of the smallest ones.
        gain: amplitude of each size relative to twice that size.
    """
    levels = max(round(math.log2(max(coarsest_px, 1.0))), 0)
    size = [-(-side // 2**levels) + 2 for side in shape]
    field = rng.standard_normal(size, dtype=np.float32)
    amplitude = 1.0
    for level in range(levels):
        field = _doubled(_doubled(field, 0), 1)
        amplitude *= gain
        if coarsest_px / 2 ** (level + 1) >= finest_px:
            white = rng.standard_normal(field.shape, dtype=np.float32)
            field += np.float32(amplitude) * white
    field = field[2 : shape[0] + 2, 2 : shape[1] + 2] if levels else field[: shape[0], : shape[1]]
    field = field - field.mean(dtype=np.float64).astype(np.float32)
    return np.asarray(field / max(float(field.std(dtype=np.float64)), 1e-6), dtype=np.float32)
