"""Where on a scene a grid's pixels lie: a function of the position alone, never of the window.

The grid is cut into squares fixed to it. Within one the way to the scene is affine,
fitted to the exact way at its corners; how far the two are apart is measured at corners,
edges and centre. Positions are kept to 1/128 pixel, which makes every product in the
interpolation exact: whoever reads a pixel, within whatever window, gets the same counts.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyproj
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray

from quakestream.domain import Grid, Window
from quakestream.errors import SceneError

SQUARE_PX = 256
"""Side of a square. On a 0.5 m grid the affine is then within 0.001 pixels of the exact way."""
STEPS = 128
"""Positions a pixel is divided into."""
_FINE = 32
"""Further division while positions are added up."""
AFFINE_BOUND_PX = 0.01
"""Grid pixels: a square whose affine is further off has every pixel projected."""
POSITION_BOUND_PX = AFFINE_BOUND_PX + 0.01
"""How far from its exact position a pixel may be read, rounding included: in pixels of the
grid, or of the scene where those are larger."""
_REMEMBERED = 4096
Array = NDArray[np.float64]
_PROBES = np.array([(r / 2, c / 2) for r in range(3) for c in range(3)], np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """The part of a window that lies in one square."""

    window: Window
    """Pixels of the grid."""
    square: tuple[int, int]
    """Grid row and column of the square's first pixel."""
    to_scene: Affine
    """(col, row) from the square's first pixel's corner to the scene's (col, row)."""
    exact: bool
    """True if the affine is not good enough here."""


@lru_cache(maxsize=64)
def _transformer(epsg: int, crs_wkt: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(epsg, pyproj.CRS.from_wkt(crs_wkt), always_xy=True)


class Positions:
    """The way from one grid to one scene. Immutable apart from what it remembers.

    Raises:
        SceneError: if PROJ and GDAL do not agree on the way, or there is none.
    """

    def __init__(self, grid: Grid, crs_wkt: str, transform: Affine, shape: tuple[int, int]) -> None:
        self._grid, self._to_pixel, self._shape = grid, ~transform, shape
        same = rasterio.CRS.from_wkt(crs_wkt) == rasterio.CRS.from_epsg(grid.epsg)
        self._project = None if same else _transformer(grid.epsg, crs_wkt)
        self._known: dict[tuple[int, int], tuple[Affine, float]] = {}
        middle = transform @ (shape[1] / 2, shape[0] / 2)
        if self._project is not None:
            middle = self._project.transform(*middle, direction="INVERSE")
            self._check(crs_wkt, transform)
        col, row = ~grid.transform @ middle
        if not (math.isfinite(col) and math.isfinite(row)):
            raise SceneError(f"its middle is not on EPSG:{grid.epsg}")
        square = (int(row) // SQUARE_PX * SQUARE_PX, int(col) // SQUARE_PX * SQUARE_PX)
        affine, self.error_px = self._squares([square])[square]
        self.ratio = math.sqrt(abs(affine.determinant))
        """Scene pixels in a grid pixel, along a side, in the scene's middle."""
        if self.error_px > AFFINE_BOUND_PX:
            raise SceneError(f"an affine is {self.error_px:.3f} px off within {SQUARE_PX} px")

    def _check(self, crs_wkt: str, transform: Affine) -> None:
        """GDAL is who everyone else reads with: another datum shift would move the scene."""
        assert self._project is not None
        rows, cols = self._shape[0] * _PROBES[:, 0], self._shape[1] * _PROBES[:, 1]
        x_P, y_P = _moved(transform, cols, rows)
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
        patches = []
        for square, part in places:
            affine, error_px = known[square]
            if math.isfinite(error_px):
                exact = error_px > AFFINE_BOUND_PX
                patches.append(Patch(window=part, square=square, to_scene=affine, exact=exact))
        return patches

    def _squares(
        self, squares: list[tuple[int, int]]
    ) -> dict[tuple[int, int], tuple[Affine, float]]:
        """Affine and its error, grid pixels, of each square; projected all at once."""
        found = {s: self._known[s] for s in squares if s in self._known}
        missing = [s for s in squares if s not in found]
        if missing:
            origin_K2 = np.array(missing, np.float64)
            probe_KP2 = origin_K2[:, None] + _PROBES * SQUARE_PX
            col_KP, row_KP = self.scene_pixels(probe_KP2[..., 1], probe_KP2[..., 0])
            made = {s: _fit(col_KP[n], row_KP[n]) for n, s in enumerate(missing)}
            found |= made
            # replaced, never changed: other threads read it
            kept = self._known if len(self._known) < _REMEMBERED else {}
            self._known = {**kept, **made}
        return found

    def scene_pixels(self, col: Array, row: Array) -> tuple[Array, Array]:
        """The exact way: scene columns and rows of grid columns and rows (corners at integers)."""
        x, y = _moved(self._grid.transform, col, row)
        if self._project is not None:
            x, y = self._project.transform(x, y)
        return _moved(self._to_pixel, x, y)

    def reach(self, patch: Patch, scale: tuple[float, float]) -> tuple[int, int, int, int]:
        """First and last level row and column that bilinear interpolation may take for a patch.

        Args:
            scale: level pixels per scene pixel along columns and rows.

        Returns:
            top, left, bottom, right; a pixel more than is needed, on every side.
        """
        if patch.exact:
            u, v = (p / STEPS for p in self.steps(patch, scale, 1, (0, 0)))
        else:
            top, left = (
                a - b
                for a, b in zip((patch.window.row, patch.window.col), patch.square, strict=True)
            )
            col = np.array([left, left + patch.window.width] * 2, np.float64)
            row = np.repeat([top, top + patch.window.height], 2).astype(np.float64)
            u, v = _moved(Affine.scale(*scale) @ patch.to_scene, col, row)
        first = math.floor(v.min()) - 1, math.floor(u.min()) - 1
        return *first, math.ceil(v.max()) + 1, math.ceil(u.max()) + 1

    def steps(
        self, patch: Patch, scale: tuple[float, float], finer: int, origin: tuple[int, int]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Columns and rows, in steps, of a patch's (sub-)pixel centres on a level of the scene.

        Args:
            scale: level pixels per scene pixel along columns and rows.
            finer: a grid pixel is read at so many places along each side.
            origin: level (row, col) that is to be 0.

        Returns:
            Two arrays of (y, x), or of (1, x) and (y, 1) where the grid and the scene are
            parallel; in steps from the centre of the pixel at `origin`.
        """
        row_y = _centres(patch.window.row - patch.square[0], patch.window.height, finer)
        col_x = _centres(patch.window.col - patch.square[1], patch.window.width, finer)
        if patch.exact:
            cols, rows = np.meshgrid(col_x + patch.square[1], row_y + patch.square[0])
            u, v = self.scene_pixels(cols, rows)
            u, v = u * scale[0] - 0.5 - origin[1], v * scale[1] - 0.5 - origin[0]
            return _stepped(u), _stepped(v)
        way = Affine.scale(*scale) @ patch.to_scene
        return (
            _added(way.a * col_x, way.b * row_y, way.c, origin[1]),
            _added(way.d * col_x, way.e * row_y, way.f, origin[0]),
        )


def _squares_of(window: Window) -> Iterator[tuple[tuple[int, int], Window]]:
    side = SQUARE_PX
    for top in range(window.row // side * side, window.row_end, side):
        for left in range(window.col // side * side, window.col_end, side):
            row, col = max(top, window.row), max(left, window.col)
            yield (
                (top, left),
                Window(
                    row=row,
                    col=col,
                    height=min(top + side, window.row_end) - row,
                    width=min(left + side, window.col_end) - col,
                ),
            )


def _fit(col_P: Array, row_P: Array) -> tuple[Affine, float]:
    """The affine through a square's probes, and how far it is from them, grid pixels."""
    if not (np.isfinite(col_P).all() and np.isfinite(row_P).all()):
        return Affine.identity(), math.inf
    terms = np.column_stack([_PROBES[:, ::-1] * SQUARE_PX, np.ones(len(_PROBES))])
    (a, b, c), (d, e, f) = (np.linalg.lstsq(terms, v, rcond=None)[0] for v in (col_P, row_P))
    affine = Affine(a, b, c, d, e, f)
    off = terms @ np.array([[a, d], [b, e], [c, f]]) - np.column_stack([col_P, row_P])
    ratio = math.sqrt(abs(affine.determinant)) or math.inf
    return affine, float(np.hypot(*off.T).max()) / ratio


def _centres(start: int, count: int, finer: int) -> Array:
    return (np.arange(start * finer, (start + count) * finer) + 0.5) / finer


def _moved(way: Affine, x: Array, y: Array) -> tuple[Array, Array]:
    return way.a * x + way.b * y + way.c, way.d * x + way.e * y + way.f


def _stepped(position: Array) -> NDArray[np.int32]:
    return np.rint(np.clip(position, -1e6, 1e6) * STEPS).astype(np.int32)


def _added(along_x: Array, along_y: Array, start: float, origin: int) -> NDArray[np.int32]:
    """The sum of what a column and a row contribute, in steps; rounded by each alone, so that
    it is the same whatever else is computed beside it."""
    whole = math.floor(start)
    fine = STEPS * _FINE
    x_int = np.rint((along_x + (start - whole - 0.5)) * fine).astype(np.int32)
    y_int = np.rint(along_y * fine).astype(np.int32)
    moved = np.int32((whole - origin) * STEPS)
    half, shift = np.int32(_FINE // 2), int(math.log2(_FINE))
    if not y_int.any():
        return ((x_int + half) >> shift)[None, :] + moved
    if not x_int.any():
        return ((y_int + half) >> shift)[:, None] + moved
    return ((x_int[None, :] + (y_int + half)[:, None]) >> shift) + moved
