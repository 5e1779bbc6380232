"""Assigns pixels to footprints, also where footprints overlap."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Grid, Window
from quakestream.raster.burn import burn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Owners:
    """Regions of a window, whose pixels belong to the same footprints.

    The overlap of footprints is a region of its own. Each footprint gets every pixel inside its
    outline, while a pixel is scored and summed once.
    """

    region_YX: NDArray[np.int32]
    """Region of each pixel, shape (y, x); -1 where there is no footprint."""
    region_A: NDArray[np.int64]
    """Region of each membership."""
    building_A: NDArray[np.int64]
    """Building of each membership."""
    regions: int


def find_owners(
    polygons_N: NDArray[np.object_], building_N: NDArray[np.int64], grid: Grid, window: Window
) -> Owners:
    """Rasterises footprints (in the grid's CRS) at pixel centres.

    Overlapping footprints are put into different layers, each of which is burnt in one call.
    Where layers overlap, every set of owners gets a region of its own.
    """
    region_YX = np.full(window.shape, -1, np.int32)
    members: list[tuple[int, ...]] = [(n,) for n in range(len(polygons_N))]
    for place, layer in enumerate(_layers(polygons_N)):
        burnt_YX = burn(polygons_N[layer], layer, grid, window)
        if place == 0:
            region_YX = burnt_YX
            continue
        pixel_P = np.flatnonzero(burnt_YX >= 0)
        new_P, old_P = burnt_YX.reshape(-1)[pixel_P], region_YX.reshape(-1)[pixel_P]
        both_P = old_P >= 0
        pair_P = old_P[both_P].astype(np.int64) * len(polygons_N) + new_P[both_P]
        pairs, place_P = np.unique(pair_P, return_inverse=True)
        new_P[both_P] = place_P + len(members)
        befores, laters = (v.tolist() for v in np.divmod(pairs, len(polygons_N)))
        members += [(*members[b], n) for b, n in zip(befores, laters, strict=True)]
        region_YX.reshape(-1)[pixel_P] = new_P
    sizes = np.array([len(m) for m in members], np.int64)
    flat = np.array([n for m in members for n in m], np.int64)
    return Owners(
        region_YX=region_YX,
        region_A=np.repeat(np.arange(len(members)), sizes),
        building_A=building_N[flat] if len(flat) else flat,
        regions=len(members),
    )


def inside(polygon: BaseGeometry, grid: Grid, window: Window) -> NDArray[np.bool_]:
    """True for the pixels of a window whose centres lie in a polygon (in the grid's CRS)."""
    if 0 in window.shape:
        return np.zeros(window.shape, np.bool_)
    one = np.zeros(1, np.int64)
    return np.asarray(burn(np.array([polygon], object), one, grid, window) == 0)


def _layers(polygons_N: NDArray[np.object_]) -> list[NDArray[np.int64]]:
    """Groups of indices by greedy colouring. The polygons of a group do not intersect."""
    if len(polygons_N) == 0:
        return []
    one, other = shapely.STRtree(polygons_N).query(polygons_N, predicate="intersects")
    earlier: list[list[int]] = [[] for _ in polygons_N]
    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        if b < a:
            earlier[a].append(b)
    colour = np.zeros(len(polygons_N), np.int64)
    for n, before in enumerate(earlier):
        taken = {int(colour[b]) for b in before}
        colour[n] = next(c for c in range(len(taken) + 1) if c not in taken)
    return [np.flatnonzero(colour == c) for c in range(int(colour.max()) + 1)]
