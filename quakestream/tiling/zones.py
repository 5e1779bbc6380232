"""UTM zones of points and areas, and geometries in their CRS."""

from functools import lru_cache

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Grid, Window, utm_epsg
from quakestream.domain.grid import utm_zone_lon

DENSE_DEG = 0.01
"""Spacing of vertices on long edges before projection (about 1 km)."""


def zones_of(lon_N: NDArray[np.float64], lat_N: NDArray[np.float64]) -> NDArray[np.int64]:
    """EPSG code of the UTM zone of each point, from its position alone."""
    zone_N = np.floor((np.asarray(lon_N) + 180.0) / 6.0).astype(np.int64) % 60 + 1
    return np.where(np.asarray(lat_N) >= 0, 32600, 32700) + zone_N


def project(geometry_N: NDArray[np.object_], epsg: int) -> NDArray[np.object_]:
    """Geometries from EPSG:4326 to a zone's CRS."""
    return _transformed(geometry_N, 4326, epsg)


def unproject(geometry_N: NDArray[np.object_], epsg: int) -> NDArray[np.object_]:
    """Geometries from a zone's CRS to EPSG:4326."""
    return _transformed(geometry_N, epsg, 4326)


def split_by_zone(area: BaseGeometry) -> dict[int, BaseGeometry]:
    """Parts of an area (EPSG:4326) by UTM zone, each in the CRS of its zone.

    The area is cut along zone borders and the equator, so that the parts cover it once.
    """
    west, south, east, north = area.bounds
    parts: dict[int, BaseGeometry] = {}
    for low, high in ((-80.0, 0.0), (0.0, 84.0)):
        if high <= south or low >= north:
            continue
        for zone in range(int((west + 180) // 6), int((east + 180) // 6) + 1):
            epsg = utm_epsg(min(zone * 6.0 - 177.0, 179.0), (low + high) / 2)
            left, right = utm_zone_lon(epsg)
            part = shapely.intersection(area, box(left, low, right, high))
            if part.area > 0:
                dense = shapely.segmentize(part, DENSE_DEG)
                parts[epsg] = project(np.array([dense], object), epsg)[0]
    return parts


def foreign_ground(grid: Grid, window: Window) -> NDArray[np.bool_] | None:
    """True for pixels of a window whose ground belongs to another zone; None where none does.

    Windows on the border of a zone reach into its neighbour, whose own grid shows that ground.
    """
    west, south, east, north = grid.bounds(window)
    corners = _lonlat(
        grid, np.array([west, east, west, east]), np.array([south, south, north, north])
    )
    if (zones_of(*corners) == grid.epsg).all():
        return None
    x_X = west + (np.arange(window.width) + 0.5) * grid.gsd_m
    y_Y = north - (np.arange(window.height) + 0.5) * grid.gsd_m
    x_YX, y_YX = np.meshgrid(x_X, y_Y)
    return np.asarray(zones_of(*_lonlat(grid, x_YX, y_YX)) != grid.epsg)


def _lonlat(
    grid: Grid, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lon, lat = _transformer(grid.epsg, 4326).transform(x, y)
    return lon, lat


@lru_cache(maxsize=256)
def _transformer(source: int, target: int) -> pyproj.Transformer:
    """Opened once: that takes longer than to move a few outlines. Threads may share it."""
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def _transformed(geometry_N: NDArray[np.object_], source: int, target: int) -> NDArray[np.object_]:
    transformer = _transformer(source, target)

    def moved(xy_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(transformer.transform(xy_N2[:, 0], xy_N2[:, 1]), axis=1)

    out_N: NDArray[np.object_] = np.asarray(shapely.transform(geometry_N, moved), object)
    return out_N
