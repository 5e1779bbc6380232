"""Which footprint owns which pixel, also where footprints overlap."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Grid, Window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Owners:
    """Regions of a window: a region's pixels belong to the same footprints.

    Overlapping footprints make regions of their own, so that each footprint
    gets every pixel inside its outline while a pixel is scored and summed once.
    """

    region_YX: NDArray[np.int32]
    """Region of each pixel, -1 where no footprint lies."""
    region_M: NDArray[np.int64]
    """Memberships: region ..."""
    building_M: NDArray[np.int64]
    """... and the building it counts for."""
    regions: int


def find_owners(
    polygons_N: NDArray[np.object_], building_N: NDArray[np.int64], grid: Grid, window: Window
) -> Owners:
    """Rasterises footprints (grid's CRS) at pixel centres."""
    region_YX = np.full(window.shape, -1, np.int32)
    crossing_N = _crossing(polygons_N)
    alone = np.flatnonzero(~crossing_N)
    members: list[tuple[int, ...]] = [(int(i),) for i in alone]
    transform = grid.window_transform(window)
    if len(alone):
        region_YX = rasterize(
            [(polygons_N[i], r) for r, i in enumerate(alone)],
            out_shape=window.shape,
            fill=-1,
            transform=transform,
            dtype=np.int32,
        )
    for i in np.flatnonzero(crossing_N):
        rows, cols = _pixels(polygons_N[i], grid, window)
        for before in np.unique(region_YX[rows, cols]):
            here = region_YX[rows, cols] == before
            region_YX[rows[here], cols[here]] = len(members)
            members.append((*(members[before] if before >= 0 else ()), int(i)))
    sizes = np.array([len(m) for m in members], np.int64)
    flat = np.array([i for m in members for i in m], np.int64)
    return Owners(
        region_YX=region_YX,
        region_M=np.repeat(np.arange(len(members)), sizes),
        building_M=building_N[flat] if len(flat) else flat,
        regions=len(members),
    )


def _pixels(
    polygon: BaseGeometry, grid: Grid, window: Window
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of a window whose centres lie in one polygon."""
    box = grid.window(*polygon.bounds)
    row, col = max(box.row, window.row), max(box.col, window.col)
    height, width = min(box.row_end, window.row_end) - row, min(box.col_end, window.col_end) - col
    if height <= 0 or width <= 0:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    part = Window(row=row, col=col, height=height, width=width)
    inside_YX = rasterize(
        [(polygon, 1)], out_shape=part.shape, transform=grid.window_transform(part)
    )
    rows, cols = np.nonzero(inside_YX)
    return rows + (row - window.row), cols + (col - window.col)


def _crossing(polygons_N: NDArray[np.object_]) -> NDArray[np.bool_]:
    """True for polygons whose bounding box meets another's: they may share pixels."""
    crossing_N = np.zeros(len(polygons_N), np.bool_)
    if len(polygons_N) > 1:
        one, other = shapely.STRtree(polygons_N).query(polygons_N)
        pairs = one != other
        one, other = one[pairs], other[pairs]
        really = shapely.intersects(polygons_N[one], polygons_N[other])
        crossing_N[one[really]] = True
    return crossing_N
