"""Puts windows together from several rasters: the first one that sees a pixel gives it."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import lru_cache
from typing import Self

import numpy as np
import rasterio
from numpy.typing import NDArray

from quakestream.domain import Grid, Scene, Window, sheets_of
from quakestream.raster.source import Pixels, RasterioSource, RasterSource
from quakestream.raster.tiles.placement import extent_on
from quakestream.storage import StorageOptions

Part = tuple[Window, Callable[[Window], Pixels]]
"""The window of the grid that a raster may reach, and its reader."""


def paste(window: Window, parts: Iterable[Part], *, layers: int = 0) -> Pixels:
    """A window out of parts, in order of rank.

    A part is not read where those before it show all of its ground.

    Args:
        layers: layers of scenes of physical values; 0 for counts of red, green and blue.
    """
    pixels = nothing_in(window, layers=layers)
    counts_BYX, valid_YX, quality_YX = pixels.counts_BYX, pixels.valid_YX, pixels.quality_YX
    for extent, read in parts:
        inside = window.shared(extent)
        if inside.height <= 0 or inside.width <= 0:
            continue
        at = inside.slices_in(window)
        if valid_YX[at].all():
            continue
        new = read(inside)
        fill_YX = new.valid_YX & ~valid_YX[at]
        np.copyto(counts_BYX[:, *at], new.counts_BYX, where=fill_YX)
        if quality_YX is not None and new.quality_YX is not None:
            np.copyto(quality_YX[at], new.quality_YX, where=fill_YX)
        valid_YX[at] |= new.valid_YX
    return pixels


def nothing_in(window: Window, *, layers: int = 0) -> Pixels:
    """A window without valid pixels, to be filled.

    Args:
        layers: layers of scenes of physical values; 0 for counts of red, green and blue.
    """
    return Pixels(
        counts_BYX=np.zeros((layers or 3, *window.shape), np.float32 if layers else np.uint8),
        valid_YX=np.zeros(window.shape, np.bool_),
        quality_YX=np.zeros(window.shape, np.uint8) if layers else None,
    )


def parts_in(scene: Scene, grid: Grid, window: Window) -> tuple[Scene, ...]:
    """The files of a scene that may show a part of a window, in order."""
    if not scene.tiles:
        return (scene,)
    top_T, left_T, bottom_T, right_T = _edges(scene, grid).T
    inside_T = (top_T < window.row_end) & (bottom_T > window.row)
    inside_T &= (left_T < window.col_end) & (right_T > window.col)
    return tuple(scene.tiles[n] for n in np.flatnonzero(inside_T).tolist())


@lru_cache(maxsize=256)  # scenes are compared by identity
def _edges(scene: Scene, grid: Grid) -> NDArray[np.int64]:
    """First and last rows and columns of tiles on a grid: (top, left, bottom, right)."""
    windows = [extent_on(tile, grid) for tile in scene.tiles]
    return np.array([(w.row, w.col, w.row_end, w.col_end) for w in windows], np.int64)


def bounds_in(tiles: Iterable[Scene], crs_wkt: str) -> tuple[float, float, float, float]:
    """Bounds (west, south, east, north) of those tiles that lie in a CRS; empty if none does."""
    boxes = [
        rasterio.transform.array_bounds(*tile.shape, tile.transform)
        for tile in tiles
        if tile.crs_wkt == crs_wkt and tile.shape is not None and tile.transform is not None
    ]
    if not boxes:
        return 0.0, 0.0, 0.0, 0.0
    west, south, east, north = np.array(boxes).T
    return float(west.min()), float(south.min()), float(east.max()), float(north.max())


class SheetsSource:
    """Reads the sheets of one acquisition through GDAL, such as those of two UTM zones."""

    def __init__(
        self, scene: Scene, grid: Grid, options: StorageOptions, *, overviews: bool = True
    ) -> None:
        self._parts = [
            (RasterioSource(sheet, grid, options, overviews=overviews), _extent(sheet, grid))
            for sheet in sheets_of(scene)
        ]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for source, _ in self._parts:
                stack.enter_context(source)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def seamless(self) -> bool:
        return all(source.seamless for source, _ in self._parts)

    def read(self, window: Window) -> Pixels:
        """Counts and validity on the grid.

        Raises:
            ReadError: if a tile cannot be read.
        """
        return paste(window, ((extent, source.read) for source, extent in self._parts))


def open_reference(
    scene: Scene, grid: Grid, options: StorageOptions, *, overviews: bool = True
) -> RasterSource:
    """A scene or an acquisition, read through GDAL; without overviews from full resolution."""
    if len(sheets_of(scene)) == 1:
        return RasterioSource(scene, grid, options, overviews=overviews)
    return SheetsSource(scene, grid, options, overviews=overviews)


def _extent(sheet: Scene, grid: Grid) -> Window:
    first, *others = (extent_on(tile, grid) for tile in sheet.parts)
    for window in others:
        first = first.union(window)
    return first


_: type[RasterSource] = SheetsSource
