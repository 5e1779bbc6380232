"""Where the pixels of a raster lie: positions of points, of a model's grid, and of boxes."""

from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from quakestream.domain import Grid, Window
from quakestream.domain.grid import NORTHING_TOP_M, utm_zone_lon
from quakestream.hazard.interpolation import Floats, positions_on_axis

_WGS84 = CRS.from_epsg(4326)
_NODE_M = 320.0
"""Distance between the points of a grid that are transformed. Between them positions are
interpolated; a UTM zone bends by 2 mm over that distance."""
_EDGE = 5
"""Points along each side of a box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFrame:
    """Size and georeference of a raster."""

    crs: CRS
    transform: Affine
    """Column and row, from the north-west corner of the first pixel, to coordinates."""
    height: int
    width: int

    @property
    def turn_px(self) -> int:
        """Columns around the Earth, where column 0 follows the last one; 0 for other rasters."""
        turns = self.transform
        if not self.crs.is_geographic or turns.b or turns.d or not turns.a:
            return 0
        return self.width if abs(360.0 / abs(turns.a) - self.width) < 0.5 else 0

    def averaged(self, factor: int) -> "PixelFrame":
        """The frame of means over blocks of factor × factor pixels; part blocks are left out."""
        return PixelFrame(
            crs=self.crs,
            transform=self.transform @ Affine.scale(factor),
            height=self.height // factor,
            width=self.width // factor,
        )

    def inside(self, window: Window) -> Window:
        """The part of a window that has pixels."""
        width = 3 * self.turn_px or self.width
        part = Window(row=0, col=0, height=self.height, width=width).shared(window)
        return part if part.height and part.width else Window(row=0, col=0, height=0, width=0)

    def lonlat(self, window: Window) -> tuple[Floats, Floats]:
        """Longitude and latitude (EPSG:4326) of the pixels of a window."""
        col, row = np.meshgrid(
            np.arange(window.col, window.col_end) + 0.5,
            np.arange(window.row, window.row_end) + 0.5,
        )
        turns = self.transform
        x = turns.a * col + turns.b * row + turns.c
        y = turns.d * col + turns.e * row + turns.f
        if self._in_degrees():
            return x, y
        to_degrees = Transformer.from_crs(self.crs, 4326, always_xy=True)
        lon, lat = to_degrees.transform(x, y)
        return np.asarray(lon, np.float64), np.asarray(lat, np.float64)

    def positions(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """Rows and columns of points (EPSG:4326) from the centre of the first pixel.

        NaN outside the CRS. Arrays keep their shape.
        """
        x, y = self._coordinates(lon, lat)
        if self.crs.is_geographic:  # some files use longitudes of 0 to 360
            x = x - 360.0 * np.round((x - self._middle()) / 360.0)
        row, col = self._pixels(x, y)
        return positions_on_axis(row, 0.5, 1.0), positions_on_axis(col, 0.5, 1.0)

    def grid_positions(self, grid: Grid, window: Window) -> tuple[Floats, Floats]:
        """Rows and columns, from the centre of the first pixel, of the pixels of a UTM grid.

        A pixel has the same position in every window. Around the Earth, columns are those of
        the second turn, so that they go on to both sides.
        """
        step = max(1, int(_NODE_M // grid.gsd_m))
        rows = nodes_around(window.row, window.row_end, step)
        cols = nodes_around(window.col, window.col_end, step)
        east, north = np.meshgrid(
            (cols.node_N + 0.5) * grid.gsd_m, NORTHING_TOP_M - (rows.node_N + 0.5) * grid.gsd_m
        )
        to_frame = Transformer.from_crs(grid.epsg, self.crs, always_xy=True)
        x, y = (np.asarray(v, np.float64) for v in to_frame.transform(east, north))
        if self.crs.is_geographic:
            x = self._near(x, sum(utm_zone_lon(grid.epsg)) / 2)
        row, col = self._pixels(x, y)
        row_YX = positions_on_axis(between_nodes(row, rows, cols), 0.5, 1.0)
        col_YX = positions_on_axis(between_nodes(col, rows, cols), 0.5, 1.0)
        return row_YX, col_YX + self.turn_px

    def box_windows(self, boxes_N4: Floats) -> list[Window]:
        """The pixels under boxes in degrees (EPSG:4326: west, south, east, north).

        West may exceed east across the antimeridian. Around the Earth, columns are those of
        the second turn.
        """
        west_N, south_N, east_N, north_N = np.asarray(boxes_N4, np.float64).reshape(-1, 4).T
        east_N = np.where(east_N < west_N, east_N + 360.0, east_N)
        part_P = np.linspace(0.0, 1.0, _EDGE)
        along_P, up_P = (v.ravel() for v in np.meshgrid(part_P, part_P))
        lon_NP = west_N[:, None] + (east_N - west_N)[:, None] * along_P
        lat_NP = south_N[:, None] + (north_N - south_N)[:, None] * up_P
        x_NP, y_NP = self._coordinates(lon_NP, lat_NP)
        if self.crs.is_geographic:
            x_NP = self._near(x_NP, ((west_N + east_N) / 2)[:, None])
        row_NP, col_NP = self._pixels(x_NP, y_NP)
        return [
            _window(rows, cols + self.turn_px) for rows, cols in zip(row_NP, col_NP, strict=True)
        ]

    def _middle(self) -> float:
        """Longitude of the middle of a raster in degrees."""
        x, _ = self.transform @ (self.width / 2, self.height / 2)
        return float(x)

    def _near(self, x: Floats, centre: Floats | float) -> Floats:
        """Longitudes within half a turn of a centre, which is within half a turn of the raster."""
        turned = centre - 360.0 * np.round((centre - self._middle()) / 360.0)
        near: Floats = x - 360.0 * np.round((x - turned) / 360.0)
        return near

    def _in_degrees(self) -> bool:
        """True where coordinates are longitude and latitude of WGS 84."""
        return bool(self.crs == _WGS84 or (self.crs.is_geographic and self.crs.equals(_WGS84)))

    def _coordinates(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        if self._in_degrees():
            return lon, lat
        to_frame = Transformer.from_crs(4326, self.crs, always_xy=True)
        x, y = to_frame.transform(lon, lat)
        return np.asarray(x, np.float64), np.asarray(y, np.float64)

    def _pixels(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Rows and columns from the corner of the first pixel; NaN where not finite."""
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(finite, x, 0.0), np.where(finite, y, 0.0)
        inverse = ~self.transform
        col = inverse.a * x + inverse.b * y + inverse.c
        row = inverse.d * x + inverse.e * y + inverse.f
        return np.where(finite, row, np.nan), np.where(finite, col, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nodes:
    """Nodes along an axis, at multiples of a step, that enclose some pixels.

    The node before a pixel and the pixel's part of the way to the next one are the same in
    every window, so that a value between nodes is, too.
    """

    node_N: Floats
    """Pixels of the nodes."""
    before_P: NDArray[np.intp]
    """Index of the node before each pixel, or at it."""
    part_P: Floats
    """Part of the way from there to the next node, 0 to below 1."""


def nodes_around(start: int, end: int, step: int) -> Nodes:
    """The nodes that enclose the pixels from `start` to below `end`."""
    first, last = start // step, (end - 1) // step + 1
    pixels = np.arange(start, end)
    return Nodes(
        node_N=np.arange(first, last + 1, dtype=np.float64) * step,
        before_P=pixels // step - first,
        part_P=pixels % step / step,
    )


def between_nodes(values_YX: Floats, rows: Nodes, cols: Nodes) -> Floats:
    """Bilinear values of the pixels between nodes."""
    down, right = rows.part_P[:, None], cols.part_P[None, :]
    top, left = rows.before_P, cols.before_P
    lines = values_YX[top] * (1 - down) + values_YX[top + 1] * down
    found: Floats = lines[:, left] * (1 - right) + lines[:, left + 1] * right
    return found


def _window(rows: Floats, cols: Floats) -> Window:
    if not (np.isfinite(rows).all() and np.isfinite(cols).all()):
        return Window(row=0, col=0, height=0, width=0)
    top, left = int(np.floor(rows.min())), int(np.floor(cols.min()))
    bottom, right = int(np.ceil(rows.max())), int(np.ceil(cols.max()))
    return Window(row=top, col=left, height=max(bottom - top, 1), width=max(right - left, 1))
