"""Elevation and slope on a model's grid, from a DEM in any CRS, unit and format of grids."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, Issue, Window
from quakestream.errors import HazardError, QuakestreamError
from quakestream.hazard.dem_files import open_dem_files
from quakestream.hazard.frames import PixelFrame
from quakestream.hazard.horn import pixel_sizes, steepness
from quakestream.hazard.interpolation import Floats, bilinear
from quakestream.hazard.tiled_layers import OpenLayer
from quakestream.storage import StorageOptions

FILLS = (-32768.0, -32767.0, -9999.0, -99999.0)
"""Elevations that mark voids in files without a nodata tag."""
HIGHEST_M, LOWEST_M = 9_000.0, -12_000.0
"""Bounds of the Earth's surface. Values beyond them are in another unit, or are no elevations."""
CHOICE_PX_M = 10.0
"""Finest pixels whose slopes choose boxes: single steps of a lidar DEM are walls and kerbs."""
_STRIP_PX = 4_000_000
"""Pixels of a DEM that are read at once where a finer DEM is averaged."""
_ROWS = 256
"""Rows of a window that are resampled at once, so that positions take little memory."""
_TILE_PX = 512
"""Side of the tiles in which boxes are read together."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """Terrain of a window of a model's grid."""

    elevation_YX: NDArray[np.float32]
    """Metres above the DEM's zero; 0 where not valid."""
    slope_YX: NDArray[np.float32]
    """Degrees from level; 0 where not valid."""
    aspect_YX: NDArray[np.float32]
    """Direction in which water runs off, degrees clockwise from north; NaN where level."""
    valid_YX: NDArray[np.bool_]
    """True where the DEM has an elevation and a slope."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dem:
    """An open DEM, for use in one thread.

    Slopes are taken on the DEM's own pixels and then brought to the model's pixels by bilinear
    interpolation. A DEM with much finer pixels is first averaged to about the size of the model's
    pixels. Pixels do not depend on the window in which they are read.
    """

    layer: OpenLayer
    metres_per_unit: float
    """Metres of one unit of elevation."""

    @property
    def note(self) -> str:
        """An assumption that was made about the file; empty without one."""
        return self.layer.note

    def read(self, grid: Grid, window: Window) -> Ground:
        """Terrain of a window of a grid. A window may reach beyond the DEM.

        Raises:
            HazardError: if the DEM cannot be read there, or holds impossible elevations.
        """
        shape = window.shape
        elevation_YX = np.zeros(shape, np.float32)
        slope_YX = np.zeros(shape, np.float32)
        aspect_YX = np.full(shape, np.nan, np.float32)
        valid_YX = np.zeros(shape, np.bool_)
        with _named(self.layer.uri):
            pixels = DemPixels.of(self, grid.gsd_m)
            for top in range(0, window.height, _ROWS):
                rows = slice(top, min(top + _ROWS, window.height))
                strip = replace(window, row=window.row + top, height=rows.stop - top)
                row_YX, col_YX = pixels.frame.grid_positions(grid, strip)
                found = pixels.at(row_YX, col_YX)
                if found is None:
                    continue
                valid = np.isfinite(found[0]) & np.isfinite(found[1])
                elevation_YX[rows] = np.where(valid, found[0], 0.0)
                slope_YX[rows] = np.where(valid, found[1], 0.0)
                aspect_YX[rows] = np.where(valid, found[2], np.nan)
                valid_YX[rows] = valid
        return Ground(
            elevation_YX=elevation_YX, slope_YX=slope_YX, aspect_YX=aspect_YX, valid_YX=valid_YX
        )

    def max_slope(self, boxes_N4: Floats) -> NDArray[np.float32]:
        """The steepest slope inside boxes, degrees; NaN where the DEM has no slope in a box.

        Args:
            boxes_N4: west, south, east, north in degrees (EPSG:4326); west may exceed east
                across the antimeridian.

        Raises:
            HazardError: if the DEM cannot be read there, or holds impossible elevations.
        """
        slope_N = np.full(len(boxes_N4), np.nan, np.float32)
        with _named(self.layer.uri):
            pixels = DemPixels.of(self, CHOICE_PX_M)
            windows = [pixels.frame.inside(w) for w in pixels.frame.box_windows(boxes_N4)]
            for numbers in _tiles(windows):
                union = windows[numbers[0]]
                for number in numbers[1:]:
                    union = union.union(windows[number])
                slope_YX = pixels.terrain(union)[1]
                for number in numbers:
                    part = slope_YX[windows[number].slices_in(union)]
                    if not np.isnan(part).all():
                        slope_N[number] = np.nanmax(part)
        return slope_N


@contextmanager
def open_dem(uri: str, options: StorageOptions | None = None) -> Iterator[Dem]:
    """Opens a DEM: a raster of elevations of one band, in any format of grids, or tiles of one.

    Elevations are in metres, or in the unit that the band, the vertical CRS or the source states.
    They are converted to metres.

    Args:
        uri: a raster, or the text of a `DemSource`.
        options: endpoints of the stores that hold the files.

    Raises:
        HazardError: if it cannot be opened, has no georeference, or states no usable unit.
        StorageError: if it cannot be fetched.
    """
    with open_dem_files(uri, options or StorageOptions()) as (layer, metres):
        yield Dem(layer=layer, metres_per_unit=metres)


def uncovered_issue(uri: str, slope_N: NDArray[np.floating[Any]]) -> Issue | None:
    """The issue of a DEM that does not cover some boxes; None where it covers all.

    Args:
        uri: the DEM.
        slope_N: what `Dem.max_slope` gave for the boxes.
    """
    missing = int(np.isnan(slope_N).sum())
    if not missing:
        return None
    covered = "DEM covers no cell" if missing == len(slope_N) else "DEM does not cover all cells"
    cause = f"{covered}: {missing:,} of {len(slope_N):,} have no slope"
    return Issue(subject=uri, kind="terrain", cause=f"{cause}; give a DEM of the whole AOI")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemPixels:
    """The pixels of a DEM, averaged over blocks where they are finer than is needed."""

    dem: Dem
    factor: int
    """Side of the blocks, pixels."""
    frame: PixelFrame

    @classmethod
    def of(cls, dem: Dem, gsd_m: float) -> Self:
        """The pixels for a ground sampling distance."""
        full = dem.layer.frame
        factor = max(1, int(gsd_m / _pixel_m(full)))
        while full.turn_px % factor:  # blocks must fit around the Earth
            factor -= 1
        return cls(dem=dem, factor=factor, frame=full.averaged(factor))

    def at(self, row_YX: Floats, col_YX: Floats) -> tuple[Floats, Floats, Floats] | None:
        """Elevation, slope and aspect at positions; None where no position is on the DEM.

        Elevation and slope are bilinear, aspect is that of the nearest pixel.
        """
        known = np.isfinite(row_YX) & np.isfinite(col_YX)
        if not known.any():
            return None
        rows, cols = row_YX[known], col_YX[known]
        top, left = int(np.floor(rows.min())), int(np.floor(cols.min()))
        window = self.frame.inside(
            Window(
                row=top,
                col=left,
                height=int(np.ceil(rows.max())) + 1 - top,
                width=int(np.ceil(cols.max())) + 1 - left,
            )
        )
        if not window.height:
            return None
        elevation, slope, aspect = self.terrain(window)
        row, col = row_YX - window.row, col_YX - window.col
        return (
            bilinear(elevation, row, col),
            bilinear(slope, row, col),
            _nearest(aspect, row, col),
        )

    def terrain(self, window: Window) -> tuple[Floats, Floats, Floats]:
        """Elevation in metres, slope and aspect in degrees of a window; NaN where missing."""
        around = self.elevation(window.grown(1))
        steep = steepness(around, pixel_sizes(self.frame.transform, self.frame.crs, window))
        return around[1:-1, 1:-1], steep.slope_YX, steep.aspect_YX

    def elevation(self, window: Window) -> Floats:
        """Metres; NaN for voids. A block has a mean where half of its pixels have a value."""
        if self.factor == 1:
            return self._metres(window)
        side = self.factor
        mean_YX = np.full(window.shape, np.nan)
        rows = max(1, _STRIP_PX // (side * side * max(window.width, 1)))
        for top in range(0, window.height, rows):
            height = min(rows, window.height - top)
            fine = Window(
                row=(window.row + top) * side,
                col=window.col * side,
                height=height * side,
                width=window.width * side,
            )
            blocks = self._metres(fine).reshape(height, side, window.width, side)
            count = np.isfinite(blocks).sum(axis=(1, 3))
            total = np.nansum(blocks, axis=(1, 3))
            mean_YX[top : top + height] = np.where(
                2 * count >= side * side, total / np.maximum(count, 1), np.nan
            )
        return mean_YX

    def _metres(self, window: Window) -> Floats:
        values = self.dem.layer.read(window)
        values = np.where(np.isin(values, FILLS), np.nan, values * self.dem.metres_per_unit)
        known = values[np.isfinite(values)]
        if known.size and (known.max() > HIGHEST_M or known.min() < LOWEST_M):
            raise HazardError(
                "elevations are impossible",
                self.dem.layer.uri,
                expected=f"{LOWEST_M:,.0f} to {HIGHEST_M:,.0f} m",
                got=f"{known.min():,.0f} to {known.max():,.0f}",
                remedy="state the unit (terrain.unit: ft), or mark voids with gdal_edit -a_nodata",
            )
        return values


def _pixel_m(frame: PixelFrame) -> float:
    """Side of a square of the size of the middle pixel, metres."""
    middle = Window(row=frame.height // 2, col=frame.width // 2, height=1, width=1)
    area_m2_YX = pixel_sizes(frame.transform, frame.crs, middle).area_m2_YX
    side = float(np.sqrt(np.abs(area_m2_YX[0, 0])))
    return side if side > 0 else np.inf


def _nearest(values_YX: Floats, row_YX: Floats, col_YX: Floats) -> Floats:
    height, width = values_YX.shape
    inside = (row_YX > -0.5) & (row_YX < height - 0.5) & (col_YX > -0.5) & (col_YX < width - 0.5)
    row = np.rint(np.where(inside, row_YX, 0.0)).astype(np.intp)
    col = np.rint(np.where(inside, col_YX, 0.0)).astype(np.intp)
    return np.where(inside, values_YX[row, col], np.nan)


def _tiles(windows: Sequence[Window]) -> Iterator[list[int]]:
    """Numbers of windows that lie near each other; windows without pixels are left out."""
    tiles: dict[tuple[int, int], list[int]] = {}
    for number, window in enumerate(windows):
        if window.height:
            place = window.row // _TILE_PX, window.col // _TILE_PX
            tiles.setdefault(place, []).append(number)
    yield from tiles.values()


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Names the DEM in errors of GDAL and PROJ, which come in many types."""
    try:
        yield
    except QuakestreamError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise HazardError("DEM cannot be read", uri, got=got, remedy="check the file") from error
