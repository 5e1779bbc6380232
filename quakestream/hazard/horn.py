"""Slope and aspect of an elevation raster by Horn's method, in metres on the ground.

Horn (1981), Proceedings of the IEEE 69(1), 14-47: the weighted differences of a pixel's eight
neighbours. The distances between pixels are measured on the ellipsoid, so that a raster in
degrees, in feet, in Web Mercator, rotated or with rows from south to north needs no case of its
own.
"""

from dataclasses import dataclass

import numpy as np
from affine import Affine
from pyproj import CRS, Transformer

from quakestream.domain import Window
from quakestream.hazard.frames import between_nodes, nodes_around
from quakestream.hazard.interpolation import Floats

_NODE_PX = 16
"""Distance between the nodes at which pixel sizes are measured."""
_AXIS_M = 6_378_137.0
_FLATTENING = 1 / 298.257223563
_ECCENTRICITY2 = _FLATTENING * (2 - _FLATTENING)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Steepness:
    """Slope and aspect of pixels; NaN where one of the nine pixels around has no elevation."""

    slope_YX: Floats
    """Degrees from level, 0 to 90."""
    aspect_YX: Floats
    """Direction in which water runs off, degrees clockwise from north; NaN on level ground."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelSizes:
    """Steps of one pixel on the ground: metres to the east and to the north."""

    east_col_YX: Floats
    north_col_YX: Floats
    east_row_YX: Floats
    north_row_YX: Floats

    @property
    def area_m2_YX(self) -> Floats:
        """Area of each pixel; negative where rows run from north to south, as they mostly do."""
        return self.east_col_YX * self.north_row_YX - self.north_col_YX * self.east_row_YX


def steepness(elevation_YX: Floats, sizes: PixelSizes) -> Steepness:
    """Slope and aspect of the inner pixels of a window of elevations in metres.

    Args:
        elevation_YX: elevations, with one pixel more on each side than `sizes`.
        sizes: of the inner pixels.
    """
    z = elevation_YX
    north, middle, south = z[:-2], z[1:-1], z[2:]
    rise_row = (south[:, :-2] + 2 * south[:, 1:-1] + south[:, 2:]) - (
        north[:, :-2] + 2 * north[:, 1:-1] + north[:, 2:]
    )
    rise_col = (north[:, 2:] + 2 * middle[:, 2:] + south[:, 2:]) - (
        north[:, :-2] + 2 * middle[:, :-2] + south[:, :-2]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        area = 8 * sizes.area_m2_YX
        east = (rise_col * sizes.north_row_YX - rise_row * sizes.north_col_YX) / area
        north = (rise_row * sizes.east_col_YX - rise_col * sizes.east_row_YX) / area
    # Horn's differences leave the pixel itself out: without an elevation it has no slope either.
    known = np.isfinite(middle[:, 1:-1]) & np.isfinite(east) & np.isfinite(north)
    slope = np.degrees(np.arctan(np.hypot(east, north)))
    aspect = np.degrees(np.arctan2(-east, -north)) % 360.0
    return Steepness(
        slope_YX=np.where(known, slope, np.nan),
        aspect_YX=np.where(known & (slope > 0), aspect, np.nan),
    )


def pixel_sizes(transform: Affine, crs: CRS, window: Window) -> PixelSizes:
    """Steps of the pixels of a window, whose values do not depend on where the window begins."""
    rows = nodes_around(window.row, window.row_end, _NODE_PX)
    cols = nodes_around(window.col, window.col_end, _NODE_PX)
    col_YX, row_YX = np.meshgrid(cols.node_N + 0.5, rows.node_N + 0.5)
    east_col, north_col = _step(transform, crs, col_YX, row_YX, (0.5, 0.0))
    east_row, north_row = _step(transform, crs, col_YX, row_YX, (0.0, 0.5))
    east_col, north_col, east_row, north_row = (
        between_nodes(nodes, rows, cols) for nodes in (east_col, north_col, east_row, north_row)
    )
    return PixelSizes(
        east_col_YX=east_col,
        north_col_YX=north_col,
        east_row_YX=east_row,
        north_row_YX=north_row,
    )


def _step(
    transform: Affine, crs: CRS, col: Floats, row: Floats, half: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Metres east and north from half a pixel before positions to half a pixel after them."""
    places = []
    for sign in (-1, 1):
        c, r = col + sign * half[0], row + sign * half[1]
        x = transform.a * c + transform.b * r + transform.c
        y = transform.d * c + transform.e * r + transform.f
        if not crs.is_geographic:
            to_degrees = Transformer.from_crs(crs, crs.geodetic_crs or 4326, always_xy=True)
            x, y = (np.asarray(v, np.float64) for v in to_degrees.transform(x, y))
        places.append((x, y))
    (west, south), (east, north) = places
    with np.errstate(invalid="ignore"):
        lon = (east - west + 180.0) % 360.0 - 180.0
        per_lon, per_lat = metres_per_degree((south + north) / 2)
        return lon * per_lon, (north - south) * per_lat


def metres_per_degree(lat: Floats) -> tuple[Floats, Floats]:
    """Metres of a degree of longitude and of latitude on the WGS 84 ellipsoid."""
    sine2 = np.sin(np.radians(lat)) ** 2
    root = np.sqrt(1 - _ECCENTRICITY2 * sine2)
    degree = np.pi / 180 * _AXIS_M
    return (
        degree * np.cos(np.radians(lat)) / root,
        degree * (1 - _ECCENTRICITY2) / root**3,
    )
