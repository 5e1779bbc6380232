"""Pixel grids on the ground: one per UTM zone and GSD, the same in every run."""

from dataclasses import dataclass
from typing import Self

from affine import Affine

from quakestream.errors import ShapeError

NORTHING_TOP_M = 10_000_000.0
"""Northing of row 0: above every UTM northing, so rows are never negative."""


def utm_epsg(lon: float, lat: float) -> int:
    """EPSG code of the WGS 84 / UTM zone of a point (6° zones, no Norway exceptions)."""
    zone = int((lon + 180.0) // 6.0) % 60 + 1
    return (32600 if lat >= 0 else 32700) + zone


def utm_zone_lon(epsg: int) -> tuple[float, float]:
    """West and east longitude of a UTM zone."""
    west = (epsg % 100 - 1) * 6.0 - 180.0
    return west, west + 6.0


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Window:
    """A rectangle of grid pixels. Rows grow southward, columns eastward."""

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 0 or self.width < 0:
            raise ShapeError("window has a negative size", got=str(self))

    @property
    def row_end(self) -> int:
        return self.row + self.height

    @property
    def col_end(self) -> int:
        return self.col + self.width

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    def grown(self, margin: int) -> "Window":
        """The window with `margin` more pixels on each side."""
        return Window(
            row=self.row - margin,
            col=self.col - margin,
            height=self.height + 2 * margin,
            width=self.width + 2 * margin,
        )

    def moved(self, shift: "Shift") -> "Window":
        return Window(
            row=self.row + shift.rows,
            col=self.col + shift.cols,
            height=self.height,
            width=self.width,
        )

    def union(self, other: "Window") -> "Window":
        """The smallest window that holds both."""
        row, col = min(self.row, other.row), min(self.col, other.col)
        return Window(
            row=row,
            col=col,
            height=max(self.row_end, other.row_end) - row,
            width=max(self.col_end, other.col_end) - col,
        )

    def shared(self, other: "Window") -> "Window":
        """The overlap of two windows; its height or width is 0 where they do not overlap."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        return Window(
            row=row,
            col=col,
            height=max(min(self.row_end, other.row_end) - row, 0),
            width=max(min(self.col_end, other.col_end) - col, 0),
        )

    def slices_in(self, outer: "Window") -> tuple[slice, slice]:
        """Row and column slices of this window inside an array that holds `outer`.

        Raises:
            ShapeError: if `outer` does not contain this window.
        """
        top, left = self.row - outer.row, self.col - outer.col
        if top < 0 or left < 0 or self.row_end > outer.row_end or self.col_end > outer.col_end:
            raise ShapeError(
                "window is not inside another", expected=f"inside {outer}", got=str(self)
            )
        return slice(top, top + self.height), slice(left, left + self.width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """Offset of the pre-event image from the post-event image, whole pixels.

    A post pixel (row, col) shows the ground that the pre image shows at
    (row + rows, col + cols).
    """

    rows: int = 0
    cols: int = 0
    quality: float = 0.0
    """Probability, by the correlations around, that the shift is right to 2 m; 0: not measured."""

    def metres(self, gsd_m: float) -> float:
        return float((self.rows**2 + self.cols**2) ** 0.5 * gsd_m)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Grid:
    """The pixels of a UTM zone at one ground sampling distance.

    The origin is (0 m E, 10 000 000 m N) in every zone, so pixel indices are a
    pure function of position and GSD.
    """

    epsg: int
    gsd_m: float

    @property
    def transform(self) -> Affine:
        """Pixel (col, row) to projected metres."""
        return Affine(self.gsd_m, 0.0, 0.0, 0.0, -self.gsd_m, NORTHING_TOP_M)

    def window_transform(self, window: Window) -> Affine:
        return self.transform @ Affine.translation(window.col, window.row)

    def bounds(self, window: Window) -> tuple[float, float, float, float]:
        """(west, south, east, north) in metres of the grid's CRS."""
        west, north = window.col * self.gsd_m, NORTHING_TOP_M - window.row * self.gsd_m
        return (
            west,
            north - window.height * self.gsd_m,
            west + window.width * self.gsd_m,
            north,
        )

    def window(self, west: float, south: float, east: float, north: float) -> Window:
        """The smallest window that covers bounds given in metres of the grid's CRS."""
        row = int((NORTHING_TOP_M - north) // self.gsd_m)
        col = int(west // self.gsd_m)
        row_end = -int(-(NORTHING_TOP_M - south) // self.gsd_m)
        col_end = -int(-east // self.gsd_m)
        return Window(row=row, col=col, height=max(row_end - row, 0), width=max(col_end - col, 0))

    def with_gsd(self, gsd_m: float) -> Self:
        return type(self)(epsg=self.epsg, gsd_m=gsd_m)
