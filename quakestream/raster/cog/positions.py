"""Where on a scene a grid's pixels lie: a function of the position alone, never of the window.

The grid is cut into squares fixed to it. Within one the way to the scene is affine,
fitted to the exact way; how far the two are apart is measured at corners, edges and
centre. Positions are kept to 1/256 pixel, which makes every product in the interpolation
exact (8 bits of position each way, 8 of counts): whoever reads a pixel, within whatever
window, gets the same counts.
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
"""Side of a square. On a 0.5 m grid the affine is then within 0.001 pixels of the exact way."""
STEPS = 256
"""Positions a pixel is divided into."""
AFFINE_BOUND_PX = 0.01
"""Grid pixels: a square whose affine is further off has every pixel projected."""
POSITION_BOUND_PX = AFFINE_BOUND_PX + 0.01
"""How far from its exact position a pixel may be read, rounding included: in pixels of the
grid, or of the scene where those are larger."""
_REMEMBERED = 4096
Array = NDArray[np.float64]
Map = NDArray[np.float32]
Way = tuple[float, float, float, float, float, float]
"""Affine coefficients a, b, c, d, e, f: (col, row) to (a col + b row + c, d col + e row + f)."""
_PROBES = np.array([(r / 2, c / 2) for r in range(3) for c in range(3)], np.float64) * SQUARE_PX
"""Rows and columns at which a square's way is measured: corners, edges, centre."""
_TERMS = np.column_stack([_PROBES[:, ::-1], np.ones(len(_PROBES))])
_FIT = np.linalg.pinv(_TERMS)
"""Least squares: values at the probes to the coefficients of column, row and one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """The part of a window that lies in one square."""

    window: Window
    """Pixels of the grid."""
    square: tuple[int, int]
    """Grid row and column of the square's first pixel."""
    way: Way
    """From the corner of the square's first pixel, grid pixels, to the scene's (col, row)."""
    exact: bool
    """True if the affine is not good enough here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What was measured of a square."""

    way: Way
    error_px: float
    """How far the affine is from the exact way at most, grid pixels."""


@lru_cache(maxsize=64)
def _transformer(epsg: int, crs_wkt: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(epsg, pyproj.CRS.from_wkt(crs_wkt), always_xy=True)


class Positions:
    """The way from one grid to one scene. Immutable apart from what it remembers.

    Raises:
        SceneError: if PROJ and GDAL do not agree on the way, or there is none.
    """

    def __init__(self, grid: Grid, crs_wkt: str, transform: Affine, shape: tuple[int, int]) -> None:
        self._grid, self._shape = grid, shape
        self._to_metres, self._to_pixel = _way(grid.transform), _way(~transform)
        same = rasterio.CRS.from_wkt(crs_wkt) == rasterio.CRS.from_epsg(grid.epsg)
        self._project = None if same else _transformer(grid.epsg, crs_wkt)
        self._known: dict[tuple[int, int], _Known] = {}
        middle = transform @ (shape[1] / 2, shape[0] / 2)
        if self._project is not None:
            middle = self._project.transform(*middle, direction="INVERSE")
            self._check(crs_wkt, transform)
        col, row = ~grid.transform @ middle
        if not (math.isfinite(col) and math.isfinite(row)):
            raise SceneError(f"its middle is not on EPSG:{grid.epsg}")
        square = (int(row) // SQUARE_PX * SQUARE_PX, int(col) // SQUARE_PX * SQUARE_PX)
        found = self._squares([square])[square]
        self.error_px = found.error_px
        """Of the affine in the square of the scene's middle, grid pixels."""
        self.ratio = _ratio(found.way)
        """Scene pixels in a grid pixel, along a side, in the scene's middle."""
        if self.error_px > AFFINE_BOUND_PX:
            raise SceneError(f"an affine is {self.error_px:.3f} px off within {SQUARE_PX} px")

    def _check(self, crs_wkt: str, transform: Affine) -> None:
        """GDAL is who everyone else reads with: another datum shift would move the scene."""
        assert self._project is not None
        share_P2 = _PROBES / SQUARE_PX
        x_P, y_P = _moved(
            _way(transform), self._shape[1] * share_P2[:, 1], self._shape[0] * share_P2[:, 0]
        )
        ours = np.stack(self._project.transform(x_P, y_P, direction="INVERSE"))
        crs = rasterio.CRS.from_wkt(crs_wkt), rasterio.CRS.from_epsg(self._grid.epsg)
        theirs = np.stack(rasterio.warp.transform(*crs, list(x_P), list(y_P))[:2])
        apart_px = float(np.abs(ours - theirs).max()) / self._grid.gsd_m
        if not apart_px <= AFFINE_BOUND_PX:
            raise SceneError(f"PROJ and GDAL project it {apart_px:.3g} px apart")

    def patches(self, window: Window) -> list[Patch]:
        """A window cut along the squares; those the scene's CRS does not reach are left out."""
        places = list(_squares_of(window))
        known = self._squares([square for square, _ in places])
        return [
            Patch(
                window=part,
                square=square,
                way=known[square].way,
                exact=known[square].error_px > AFFINE_BOUND_PX,
            )
            for square, part in places
            if math.isfinite(known[square].error_px)
        ]

    def _squares(self, squares: list[tuple[int, int]]) -> dict[tuple[int, int], _Known]:
        """Affine and its error of each square; those not known yet projected all at once."""
        known = self._known
        found = {s: known[s] for s in squares if s in known}
        missing = [s for s in squares if s not in found]
        if missing:
            origin_K2 = np.array(missing, np.float64)
            probe_KP2 = origin_K2[:, None] + _PROBES
            made = dict(
                zip(
                    missing,
                    _fitted(*self.scene_pixels(probe_KP2[..., 1], probe_KP2[..., 0])),
                    strict=True,
                )
            )
            found |= made
            # replaced, never changed: other threads read it
            self._known = {**known, **made} if len(known) < _REMEMBERED else made
        return found

    def scene_pixels(self, col: Array, row: Array) -> tuple[Array, Array]:
        """The exact way: scene columns and rows of grid columns and rows (corners at integers)."""
        x, y = _moved(self._to_metres, col, row)
        if self._project is not None:
            x, y = self._project.transform(x, y)
        return _moved(self._to_pixel, x, y)

    def reach(self, patch: Patch, scale: tuple[float, float]) -> tuple[int, int, int, int]:
        """First and last level row and column that bilinear interpolation may take for a patch.

        Args:
            scale: level pixels per scene pixel along columns and rows.

        Returns:
            top, left, bottom, right, the last two not included; a pixel more than is needed.
        """
        if patch.exact:
            rows = np.arange(patch.window.row, patch.window.row_end) + 0.5
            cols = np.arange(patch.window.col, patch.window.col_end) + 0.5
            u, v = self.scene_pixels(*np.meshgrid(cols, rows))
            u, v = u * scale[0], v * scale[1]
            us, vs = (float(u.min()), float(u.max())), (float(v.min()), float(v.max()))
        else:
            a, b, c, d, e, f = _scaled(patch.way, scale)
            top, left = patch.window.row - patch.square[0], patch.window.col - patch.square[1]
            bottom, right = top + patch.window.height, left + patch.window.width
            us = _extremes((a * left, a * right), (b * top, b * bottom), c)
            vs = _extremes((d * left, d * right), (e * top, e * bottom), f)
        first = math.floor(vs[0]) - 1, math.floor(us[0]) - 1
        return *first, math.ceil(vs[1]) + 1, math.ceil(us[1]) + 1

    def places(
        self,
        patch: Patch,
        scale: tuple[float, float],
        finer: int,
        origin: tuple[int, int],
        out: tuple[Map, Map],
    ) -> None:
        """Columns and rows of a patch's (sub-)pixel centres on a level of the scene.

        Args:
            scale: level pixels per scene pixel along columns and rows.
            finer: a grid pixel is read at so many places along each side.
            origin: level (row, col) whose centre is to be 0; within 2,000 pixels of the patch.
            out: two arrays (y, x) to be filled, level pixels, multiples of 1/256.
        """
        row_y = _centres(patch.window.row - patch.square[0], patch.window.height, finer)
        col_x = _centres(patch.window.col - patch.square[1], patch.window.width, finer)
        if patch.exact:
            cols, rows = np.meshgrid(col_x + patch.square[1], row_y + patch.square[0])
            u, v = self.scene_pixels(cols, rows)
            np.rint((u * scale[0] - 0.5 - origin[1]) * STEPS, out=out[0], casting="same_kind")
            np.rint((v * scale[1] - 0.5 - origin[0]) * STEPS, out=out[1], casting="same_kind")
            for place_YX in out:
                place_YX /= STEPS
            return
        a, b, c, d, e, f = _scaled(patch.way, scale)
        _add(a * col_x, b * row_y, c, origin[1], out[0])
        _add(d * col_x, e * row_y, f, origin[0], out[1])


def _way(transform: Affine) -> Way:
    a, b, c, d, e, f = (float(v) for v in tuple(transform)[:6])
    return a, b, c, d, e, f


def _scaled(way: Way, scale: tuple[float, float]) -> Way:
    """A way to a level instead of the full resolution."""
    (a, b, c, d, e, f), (x, y) = way, scale
    return a * x, b * x, c * x, d * y, e * y, f * y


def _moved(way: Way, x: Array, y: Array) -> tuple[Array, Array]:
    a, b, c, d, e, f = way
    return a * x + b * y + c, d * x + e * y + f


def _ratio(way: Way) -> float:
    """Scene pixels per grid pixel, along a side."""
    a, b, _, d, e, _ = way
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


def _fitted(col_KP: Array, row_KP: Array) -> list[_Known]:
    """The affine through each square's probes, and how far it is from them."""
    made = []
    for col_P, row_P in zip(col_KP, row_KP, strict=True):
        if not (np.isfinite(col_P).all() and np.isfinite(row_P).all()):
            made.append(_Known(way=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), error_px=math.inf))
            continue
        across_3, down_3 = _FIT @ col_P, _FIT @ row_P
        off_P = np.hypot(_TERMS @ across_3 - col_P, _TERMS @ down_3 - row_P)
        (a, b, c), (d, e, f) = across_3.tolist(), down_3.tolist()
        way = (a, b, c, d, e, f)
        made.append(_Known(way=way, error_px=float(off_P.max()) / (_ratio(way) or math.nan)))
    return made


def _centres(start: int, count: int, finer: int) -> Array:
    return (np.arange(start * finer, (start + count) * finer) + 0.5) / finer


def _add(along_x: Array, along_y: Array, start: float, origin: int, out: Map) -> None:
    """The sum of what a column and a row contribute. Each is rounded by itself, to a step, and
    their sum is exact, so that it is the same whatever is computed beside it."""
    whole = math.floor(start)
    down_Y2 = np.ones((len(along_y), 2), np.float32)
    across_2X = np.ones((2, len(along_x)), np.float32)
    down_Y2[:, 0] = np.rint(along_y * STEPS) / STEPS
    across_2X[1] = np.rint((along_x + (start - whole - 0.5)) * STEPS) / STEPS + (whole - origin)
    # a product of matrices that adds: a third of the time that `np.add.outer` takes
    cv2.gemm(down_Y2, across_2X, 1.0, out, 0.0, out)
