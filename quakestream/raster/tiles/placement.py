"""The place of a scene on a grid."""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import rasterio
from affine import Affine
from rasterio.warp import transform_bounds

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import SceneError
from quakestream.raster.source import is_aligned, whole_offset

CHUNK_PX = 512
"""Side of a chunk. Chunks are squares of the grid's own lattice for every scene."""
SHARD_PX = 2048
"""Side of a shard, which one worker writes. Shards lie on a lattice, so none has two writers."""
WARP_MARGIN_PX = 3
"""Margin around a scene's warped outline for interpolation and averaging."""


class Raster(NamedTuple):
    """A raster's shape and georeference, named as in rasterio's datasets."""

    transform: Affine
    height: int
    width: int
    crs: Any


def raster_of(scene: Scene) -> Raster:
    """The shape and georeference of a probed scene.

    Raises:
        SceneError: if the scene was not probed.
    """
    if scene.transform is None or scene.shape is None or not scene.crs_wkt:
        where = f"{scene.href} (scene {scene.id})"
        raise SceneError("scene has no georeference", where, remedy="probe it first")
    crs = rasterio.CRS.from_wkt(scene.crs_wkt)
    return Raster(scene.transform, scene.shape[0], scene.shape[1], crs)


def has_whole_pixels(raster: Any, grid: Grid) -> bool:
    """True if the raster has the grid's pixels, moved by whole numbers of them."""
    return bool(raster.crs == rasterio.CRS.from_epsg(grid.epsg) and is_aligned(raster, grid))


def own_window(raster: Any, grid: Grid) -> Window:
    """The window that a raster with the grid's pixels covers."""
    row, col = whole_offset(raster.transform, grid)
    return Window(row=row, col=col, height=raster.height, width=raster.width)


def extent_on(scene: Scene, grid: Grid) -> Window:
    """The window of all grid pixels that may show a part of a scene.

    Raises:
        SceneError: if its outline cannot be projected to the grid.
    """
    raster_of(scene)
    assert scene.transform is not None
    assert scene.shape is not None
    try:
        return _extent_on(scene.crs_wkt, tuple(scene.transform)[:6], scene.shape, grid)
    except SceneError as error:
        raise SceneError.of(replace(error.problem, where=scene.href)) from error


@lru_cache(maxsize=16_384)
def _extent_on(
    crs_wkt: str, transform: tuple[float, ...], shape: tuple[int, int], grid: Grid
) -> Window:
    raster = Raster(Affine(*transform), *shape, rasterio.CRS.from_wkt(crs_wkt))
    if has_whole_pixels(raster, grid):
        return own_window(raster, grid)
    bounds = rasterio.transform.array_bounds(raster.height, raster.width, raster.transform)
    crs = rasterio.CRS.from_epsg(grid.epsg)
    try:
        moved = transform_bounds(raster.crs, crs, *bounds, densify_pts=101)
    except rasterio.errors.RasterioError as error:
        raise SceneError(f"cannot warp to EPSG:{grid.epsg}: {error}") from error
    if not all(math.isfinite(v) for v in moved):
        raise SceneError(f"bounds do not project to EPSG:{grid.epsg}", got=str(bounds))
    return grid.window(*moved).grown(WARP_MARGIN_PX)


def on_lattice(window: Window, side_px: int) -> Window:
    """The smallest window of whole lattice squares around a window."""
    row, col = window.row // side_px * side_px, window.col // side_px * side_px
    return Window(
        row=row,
        col=col,
        height=math.ceil((window.row_end - row) / side_px) * side_px,
        width=math.ceil((window.col_end - col) / side_px) * side_px,
    )


def squares(window: Window, side_px: int) -> list[Window]:
    """The lattice squares of a window, row by row."""
    return [
        Window(row=row, col=col, height=side_px, width=side_px)
        for row in range(window.row, window.row_end, side_px)
        for col in range(window.col, window.col_end, side_px)
    ]
