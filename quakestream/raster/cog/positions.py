"""Maps grid pixels to scene pixels, by their position alone and never by the window.

The grid is cut into squares that are fixed to it. Within a square the mapping is an affine one,
fitted to the exact projection. Its error is measured at corners, edges and centre. Positions are
rounded to 1/256 pixel, which makes every product of the interpolation exact (8 bits of position
in each direction, 8 of counts), so a pixel has the same counts in every window.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import pyproj
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray

from quakestream.domain import Grid, Window
from quakestream.errors import SceneError

SQUARE_PX = 256
"""Side of a square. On a 0.5 m grid the affine is within 0.001 pixels of the projection."""
STEPS = 256
"""Steps that a pixel is divided into along each side."""
AFFINE_BOUND_PX = 0.01
"""Largest error of an affine, grid pixels. In a square above it every pixel is projected."""
POSITION_BOUND_PX = AFFINE_BOUND_PX + 0.01
"""Largest distance of a pixel from its exact position, rounding included: in pixels of the grid,
or of the scene if those are larger."""
_MAX_SQUARES = 4096
Array = NDArray[np.float64]
Map = NDArray[np.float32]
Coefficients = tuple[float, float, float, float, float, float]
"""An affine mapping a, b, c, d, e, f of (col, row) to (a col + b row + c, d col + e row + f)."""
_PROBES = np.array([(r / 2, c / 2) for r in range(3) for c in range(3)], np.float64) * SQUARE_PX
"""Rows and columns at which a square is projected: corners, edges, centre."""
_TERMS = np.column_stack([_PROBES[:, ::-1], np.ones(len(_PROBES))])
_FIT = np.linalg.pinv(_TERMS)
"""Least squares: maps values at the probes to the coefficients of column, row and one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowPart:
    """The part of a window that lies in one square."""

    window: Window
    """Pixels of the grid."""
    square: tuple[int, int]
    """Grid row and column of the square's first pixel."""
    affine: Coefficients
    """Maps grid pixels from the corner of the square's first pixel to the scene's (col, row)."""
    exact: bool
    """True if every pixel must be projected, as the affine is not accurate enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _SquareFit:
    """The affine of a square and its error."""

    affine: Coefficients
    error_px: float
    """Largest distance from the exact projection, grid pixels."""


@lru_cache(maxsize=64)
def _transformer(epsg: int, crs_wkt: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(epsg, pyproj.CRS.from_wkt(crs_wkt), always_xy=True)


class Positions:
    """The mapping from one grid to one scene. It changes only by its cache of squares.

    Raises:
        SceneError: if PROJ and GDAL project the scene to different places, or nowhere.
    """

    def __init__(self, grid: Grid, crs_wkt: str, transform: Affine, shape: tuple[int, int]) -> None:
        self._grid, self._shape = grid, shape
        self._to_metres = _coefficients(grid.transform)
        self._to_pixel = _coefficients(~transform)
        same = rasterio.CRS.from_wkt(crs_wkt) == rasterio.CRS.from_epsg(grid.epsg)
        self._project = None if same else _transformer(grid.epsg, crs_wkt)
        self._fits: dict[tuple[int, int], _SquareFit] = {}
        middle = transform @ (shape[1] / 2, shape[0] / 2)
        in_degrees = not same and pyproj.CRS.from_wkt(crs_wkt).is_geographic
        self._middle_lon = middle[0] if in_degrees else None
        if self._project is not None:
            middle = self._project.transform(*middle, direction="INVERSE")
            self._check_gdal(self._project, crs_wkt, transform)
        col, row = ~grid.transform @ middle
        if not (math.isfinite(col) and math.isfinite(row)):
            raise SceneError(f"middle of the image does not project to EPSG:{grid.epsg}")
        square = (int(row) // SQUARE_PX * SQUARE_PX, int(col) // SQUARE_PX * SQUARE_PX)
        fit = self._squares([square])[square]
        self.error_px = fit.error_px
        """Error of the affine in the square of the scene's middle, grid pixels."""
        self.ratio = _ratio(fit.affine)
        """Scene pixels per grid pixel, along a side, in the scene's middle."""
        if self.error_px > AFFINE_BOUND_PX:
            error = f"{self.error_px:.3f} px within {SQUARE_PX} px"
            raise SceneError(
                "projection is too curved", expected=f"at most {AFFINE_BOUND_PX} px", got=error
            )

    def _check_gdal(self, project: pyproj.Transformer, crs_wkt: str, transform: Affine) -> None:
        """Checks that GDAL, which other readers use, projects the scene to the same place.

        Another datum shift would move the scene.
        """
        shares = _PROBES / SQUARE_PX
        x, y = _apply(
            _coefficients(transform),
            self._shape[1] * shares[:, 1],
            self._shape[0] * shares[:, 0],
        )
        ours = np.stack(project.transform(x, y, direction="INVERSE"))
        crs = rasterio.CRS.from_wkt(crs_wkt), rasterio.CRS.from_epsg(self._grid.epsg)
        theirs = np.stack(rasterio.warp.transform(*crs, list(x), list(y))[:2])
        apart_px = float(np.abs(ours - theirs).max()) / self._grid.gsd_m
        if not apart_px <= AFFINE_BOUND_PX:
            raise SceneError(f"PROJ and GDAL project the image {apart_px:.3g} px apart")

    def parts(self, window: Window) -> list[WindowPart]:
        """A window cut along the squares. Squares that do not project to the scene's CRS are
        left out."""
        squares = list(_squares_of(window))
        fits = self._squares([square for square, _ in squares])
        return [
            WindowPart(
                window=part,
                square=square,
                affine=fits[square].affine,
                exact=fits[square].error_px > AFFINE_BOUND_PX,
            )
            for square, part in squares
            if math.isfinite(fits[square].error_px)
        ]

    def _squares(self, squares: list[tuple[int, int]]) -> dict[tuple[int, int], _SquareFit]:
        """The fits of squares; new ones are projected in one call."""
        cached = self._fits
        fits = {s: cached[s] for s in squares if s in cached}
        missing = [s for s in squares if s not in fits]
        if missing:
            probes = np.array(missing, np.float64)[:, None] + _PROBES
            scene_pixels = self.scene_pixels(probes[..., 1], probes[..., 0])
            new = dict(zip(missing, _fit_squares(*scene_pixels), strict=True))
            fits |= new
            # the dictionary is replaced and never changed, as other threads read it
            self._fits = {**cached, **new} if len(cached) < _MAX_SQUARES else new
        return fits

    def scene_pixels(self, col: Array, row: Array) -> tuple[Array, Array]:
        """Projects grid columns and rows (corners at integers) to scene columns and rows."""
        x, y = _apply(self._to_metres, col, row)
        if self._project is not None:
            x, y = self._project.transform(x, y)
        if self._middle_lon is not None:  # a scene in degrees may lie across 180°
            x = x + 360.0 * np.round((self._middle_lon - x) / 360.0)
        return _apply(self._to_pixel, x, y)

    def source_bounds(
        self, part: WindowPart, scale: tuple[float, float]
    ) -> tuple[int, int, int, int]:
        """Bounds of the level pixels that bilinear interpolation may need for a part.

        Args:
            scale: level pixels per scene pixel along columns and rows.

        Returns:
            top, left, bottom, right, the last two exclusive, one pixel more than is needed.
        """
        if part.exact:
            rows = np.arange(part.window.row, part.window.row_end) + 0.5
            cols = np.arange(part.window.col, part.window.col_end) + 0.5
            u, v = self.scene_pixels(*np.meshgrid(cols, rows))
            u, v = u * scale[0], v * scale[1]
            us, vs = (float(u.min()), float(u.max())), (float(v.min()), float(v.max()))
        else:
            a, b, c, d, e, f = _scale(part.affine, scale)
            top, left = part.window.row - part.square[0], part.window.col - part.square[1]
            bottom, right = top + part.window.height, left + part.window.width
            us = _extremes((a * left, a * right), (b * top, b * bottom), c)
            vs = _extremes((d * left, d * right), (e * top, e * bottom), f)
        first = math.floor(vs[0]) - 1, math.floor(us[0]) - 1
        return *first, math.ceil(vs[1]) + 1, math.ceil(us[1]) + 1

    def sample_positions(
        self,
        part: WindowPart,
        scale: tuple[float, float],
        finer: int,
        origin: tuple[int, int],
        out: tuple[Map, Map],
    ) -> None:
        """Columns and rows of a part's (sub-)pixel centres on a level of the scene.

        Args:
            scale: level pixels per scene pixel along columns and rows.
            finer: positions in a grid pixel along each side.
            origin: level (row, col) whose centre gets position 0; within 2,000 pixels of the part.
            out: two arrays (y, x) to be filled, level pixels, multiples of 1/256.
        """
        row_y = _centres(part.window.row - part.square[0], part.window.height, finer)
        col_x = _centres(part.window.col - part.square[1], part.window.width, finer)
        if part.exact:
            cols, rows = np.meshgrid(col_x + part.square[1], row_y + part.square[0])
            u, v = self.scene_pixels(cols, rows)
            np.rint((u * scale[0] - 0.5 - origin[1]) * STEPS, out=out[0], casting="same_kind")
            np.rint((v * scale[1] - 0.5 - origin[0]) * STEPS, out=out[1], casting="same_kind")
            for position_YX in out:
                position_YX /= STEPS
            return
        a, b, c, d, e, f = _scale(part.affine, scale)
        _add(a * col_x, b * row_y, c, origin[1], out[0])
        _add(d * col_x, e * row_y, f, origin[0], out[1])


def _coefficients(transform: Affine) -> Coefficients:
    a, b, c, d, e, f = (float(v) for v in tuple(transform)[:6])
    return a, b, c, d, e, f


def _scale(affine: Coefficients, scale: tuple[float, float]) -> Coefficients:
    """The mapping to a level instead of the full resolution."""
    (a, b, c, d, e, f), (x, y) = affine, scale
    return a * x, b * x, c * x, d * y, e * y, f * y


def _apply(affine: Coefficients, x: Array, y: Array) -> tuple[Array, Array]:
    a, b, c, d, e, f = affine
    return a * x + b * y + c, d * x + e * y + f


def _ratio(affine: Coefficients) -> float:
    """Scene pixels per grid pixel, along a side."""
    a, b, _, d, e, _ = affine
    return math.sqrt(abs(a * e - b * d))


def _extremes(
    one: tuple[float, float], other: tuple[float, float], start: float
) -> tuple[float, float]:
    return min(one) + min(other) + start, max(one) + max(other) + start


def _squares_of(window: Window) -> Iterator[tuple[tuple[int, int], Window]]:
    side = SQUARE_PX
    for top in range(window.row // side * side, window.row_end, side):
        for left in range(window.col // side * side, window.col_end, side):
            row, col = max(top, window.row), max(left, window.col)
            height = min(top + side, window.row_end) - row
            width = min(left + side, window.col_end) - col
            yield (top, left), Window(row=row, col=col, height=height, width=width)


def _fit_squares(cols: Array, rows: Array) -> list[_SquareFit]:
    """Fits an affine to each square's probes."""
    fits = []
    for col, row in zip(cols, rows, strict=True):
        if not (np.isfinite(col).all() and np.isfinite(row).all()):
            fits.append(_SquareFit(affine=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), error_px=math.inf))
            continue
        across_3, down_3 = _FIT @ col, _FIT @ row
        off = np.hypot(_TERMS @ across_3 - col, _TERMS @ down_3 - row)
        (a, b, c), (d, e, f) = across_3.tolist(), down_3.tolist()
        affine = (a, b, c, d, e, f)
        error_px = float(off.max()) / (_ratio(affine) or math.nan)
        fits.append(_SquareFit(affine=affine, error_px=error_px))
    return fits


def _centres(start: int, count: int, finer: int) -> Array:
    return (np.arange(start * finer, (start + count) * finer) + 0.5) / finer


def _add(along_x: Array, along_y: Array, start: float, origin: int, out: Map) -> None:
    """Adds the contributions of columns and rows.

    Each contribution is rounded to a step and the sums are exact, so a position does not depend
    on the window around it.
    """
    whole = math.floor(start)
    down_Y2 = np.ones((len(along_y), 2), np.float32)
    across_2X = np.ones((2, len(along_x)), np.float32)
    down_Y2[:, 0] = np.rint(along_y * STEPS) / STEPS
    across_2X[1] = np.rint((along_x + (start - whole - 0.5)) * STEPS) / STEPS + (whole - origin)
    # this matrix product is a sum, and takes a third of the time of `np.add.outer`
    cv2.gemm(down_Y2, across_2X, 1.0, out, 0.0, out)
