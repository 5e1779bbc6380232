"""Ground that looks like a landslide and is none: parcels, open pits, roads."""

import cv2
import numpy as np
from numpy.typing import NDArray

from quakestream.synthetic.hills import Hills
from quakestream.synthetic.noise import fractal

F32 = NDArray[np.float32]


def fields(rng: np.random.Generator, hills: Hills) -> tuple[F32, F32]:
    """Parcels on gentle ground: where they are, and which are bare."""
    angle, (height, width) = rng.uniform(0, np.pi), hills.layout.shape
    row, col = np.mgrid[0:height, 0:width].astype(np.float32)
    unit = _px(hills, 10.0)
    along = (col * np.cos(angle) + row * np.sin(angle)) / (unit * rng.uniform(8, 16))
    across = (row * np.cos(angle) - col * np.sin(angle)) / (unit * rng.uniform(5, 12))
    parcel = np.floor(along).astype(np.int64) * 7919 + np.floor(across).astype(np.int64)
    chance_YX = np.mod(parcel * 2654435761, 1000) / 1000.0
    gentle_YX = np.clip((13.0 - hills.slope_YX) / 4.0, 0.0, 1.0)
    used_YX = gentle_YX * (chance_YX < 0.75)
    return used_YX.astype(np.float32), (np.mod(chance_YX * 7.0, 1.0) < 0.45).astype(np.float32)


def quarries(rng: np.random.Generator, hills: Hills) -> F32:
    """One to three open pits with ragged rims, often cut into a slope."""
    height, width = hills.layout.shape
    row, col = np.mgrid[0:height, 0:width].astype(np.float32)
    unit = _px(hills, 10.0)
    ragged_YX = 1.0 + 0.18 * _noise(rng, hills, 100.0, 20.0)
    cover_YX = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        centre = rng.uniform(0.05, 0.95, 2) * (height, width)
        half = unit * rng.uniform(5.0, 15.0) * np.array([1.0, rng.uniform(0.5, 1.0)])
        off = np.hypot((row - centre[0]) / half[0], (col - centre[1]) / half[1]) * ragged_YX
        cover_YX = np.maximum(cover_YX, np.clip((1.1 - off) * 5.0, 0.0, 1.0))
    return np.asarray(cover_YX, np.float32)


def roads(rng: np.random.Generator, hills: Hills, width_m: float = 10.0) -> F32:
    """Winding roads, along valleys and across slopes."""
    half = 0.5 * _px(hills, width_m)
    cover_YX = np.zeros(hills.layout.shape, np.float32)
    for _ in range(int(rng.integers(2, 5))):
        field_YX = _noise(rng, hills, 1600.0, 240.0)
        per_row, per_col = np.gradient(field_YX)
        distance_px = np.abs(field_YX) / np.maximum(np.hypot(per_row, per_col), 1e-5)
        cover_YX = np.maximum(cover_YX, np.clip(half + 0.6 - distance_px, 0.0, 1.0))
    return np.asarray(cover_YX, np.float32)


def _noise(rng: np.random.Generator, hills: Hills, longest_m: float, shortest_m: float) -> F32:
    """Noise with detail between two lengths, made on a raster just fine enough and enlarged."""
    height, width = hills.layout.shape
    factor = max(int(_px(hills, shortest_m) / 3.0), 1)
    unit = _px(hills, 1.0) / factor
    shape = -(-height // factor) + 1, -(-width // factor) + 1
    coarse = fractal(rng, shape, longest_m * unit, max(shortest_m * unit, 1.0))
    size = shape[1] * factor, shape[0] * factor
    large = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC) if factor > 1 else coarse
    return np.asarray(large[:height, :width], np.float32)


def _px(hills: Hills, length_m: float) -> float:
    return length_m / hills.layout.gsd_m
