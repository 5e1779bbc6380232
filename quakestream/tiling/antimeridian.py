"""Geometries at 180°: cut there, as RFC 7946 (3.1.9) asks, so that plain geometry holds.

Files write what lies across 180° in three ways: cut in two, on beyond 180° (181.2), or from 179.9
straight to -179.9, which plain geometry takes for a way round the Earth. Here all become the
first.
"""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

TURN, HALF_TURN = 360.0, 180.0
_FURTHEST = 540.0
"""Longitudes beyond are no degrees: the CRS is wrong, and is refused elsewhere."""


def cut_at_180(geometry_N: NDArray[np.object_]) -> NDArray[np.object_]:
    """Geometries (EPSG:4326) with all longitudes within ±180°; most are returned as they are.

    An edge that is longer than 180° is taken for the shorter way round the Earth, unless it runs
    from -180° to 180°.
    """
    bounds_N4 = shapely.bounds(geometry_N)
    west_N, east_N = bounds_N4[:, 0], bounds_N4[:, 2]
    with np.errstate(invalid="ignore"):
        beyond_N = (west_N < -HALF_TURN) | (east_N > HALF_TURN) | (east_N - west_N > HALF_TURN)
        beyond_N &= (west_N >= -_FURTHEST) & (east_N <= _FURTHEST)
    out_N = np.array(geometry_N, object)
    for n in np.flatnonzero(beyond_N).tolist():
        out_N[n] = _cut(geometry_N[n])
    return out_N


def cut_one_at_180(geometry: BaseGeometry) -> BaseGeometry:
    """One geometry, as `cut_at_180` does it."""
    one: BaseGeometry = cut_at_180(np.array([geometry], object))[0]
    return one


def box_of_degrees(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """A box, in two parts where it crosses 180°: west > east, or a longitude beyond."""
    return cut_one_at_180(box(west, south, east + TURN if west > east else east, north))


def bounds_of(geometry: BaseGeometry) -> tuple[float, float, float, float]:
    """West, south, east, north; west > east where it crosses 180° (RFC 7946, 5.2)."""
    west, south, east, north = geometry.bounds
    if west > -HALF_TURN or east < HALF_TURN:
        return west, south, east, north
    parts = shapely.bounds(shapely.get_parts(geometry))
    from_west = [part[2] for part in parts if part[0] == -HALF_TURN]
    from_east = [part[0] for part in parts if part[2] == HALF_TURN]
    if len(from_west) + len(from_east) < len(parts) or max(from_west) >= min(from_east):
        return west, south, east, north
    return float(min(from_east)), south, float(max(from_west)), north


def side_by_side(geometry_N: NDArray[np.object_]) -> NDArray[np.object_]:
    """Geometries for a flat map: those that lie on both sides of 180° go on beyond it."""
    lon_P = shapely.get_coordinates(geometry_N)[:, 0]
    if not len(lon_P) or not np.nanmax(lon_P) - np.nanmin(lon_P) > HALF_TURN:
        return geometry_N

    def moved(xy_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        return xy_N2 + np.column_stack([TURN * (xy_N2[:, 0] < 0), np.zeros(len(xy_N2))])

    out_N: NDArray[np.object_] = np.asarray(shapely.transform(geometry_N, moved), object)
    return out_N


def spans_side_by_side(
    west_N: NDArray[np.float64], east_N: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """West and east of boxes, as `side_by_side` moves what is in them.

    The box of a small thing that is cut at 180° goes round the Earth; it becomes that line.
    """
    cut_N = east_N - west_N > HALF_TURN
    west_N, east_N = np.where(cut_N, HALF_TURN, west_N), np.where(cut_N, HALF_TURN, east_N)
    if not np.nanmax(east_N, initial=-np.inf) - np.nanmin(west_N, initial=np.inf) > HALF_TURN:
        return west_N, east_N
    turn_N = TURN * (west_N < 0)
    return west_N + turn_N, east_N + turn_N


def turned(lon: float, near: float) -> float:
    """A longitude with whole turns added, so that it lies within half a turn of another."""
    return lon + TURN * round((near - lon) / TURN)


def _cut(geometry: Any) -> BaseGeometry:
    kind = geometry.geom_type
    if kind == "Polygon":
        return _cut_polygon(geometry) if _crosses(geometry) else shapely.Polygon(geometry)
    if kind == "MultiPolygon":
        parts = [part for one in geometry.geoms for part in shapely.get_parts(_cut(one))]
        return shapely.MultiPolygon(parts)
    if kind == "GeometryCollection":
        return shapely.GeometryCollection([_cut(one) for one in geometry.geoms])
    if kind in ("Point", "MultiPoint"):
        moved: BaseGeometry = shapely.transform(geometry, _wrapped)
        return moved
    whole: BaseGeometry = geometry
    return whole


def _wrapped(xy_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    out_N2 = xy_N2.copy()
    far_N = np.abs(out_N2[:, 0]) > HALF_TURN
    out_N2[far_N, 0] -= TURN * np.round(out_N2[far_N, 0] / TURN)
    return out_N2


def _crosses(polygon: shapely.Polygon) -> bool:
    for ring in shapely.get_rings(polygon):
        lon = shapely.get_coordinates(ring)[:, 0]
        if (np.abs(lon) > HALF_TURN).any() or _turns(lon).any():
            return True
    return False


def _turns(lon: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole turns that each edge takes the long way; none for one that goes round the Earth."""
    step = np.diff(lon)
    turns = np.round(step / TURN)
    return np.where(np.abs(step) % TURN == 0, 0.0, turns)


def _cut_polygon(polygon: shapely.Polygon) -> BaseGeometry:
    """The parts of a polygon in each turn of the Earth, moved to the first one."""
    shell = _unwrapped(polygon.exterior)
    west, east = shell[:, 0].min(), shell[:, 0].max()
    holes = []
    for ring in polygon.interiors:
        hole = _unwrapped(ring)
        hole[:, 0] -= TURN * np.round((hole[:, 0].mean() - (west + east) / 2) / TURN)
        holes.append(hole)
    whole = shapely.Polygon(shell, holes)
    first, last = (int(np.floor((lon + HALF_TURN) / TURN)) for lon in (west, east))
    parts = []
    for turn in range(first, last + 1):
        middle = turn * TURN
        side = box(middle - HALF_TURN, -90.0, middle + HALF_TURN, 90.0)
        try:
            part = shapely.intersection(whole, side)
        except shapely.GEOSException:  # an invalid outline is told of where it is used
            return polygon
        pieces = [p for p in shapely.get_parts(part) if p.geom_type == "Polygon"]
        parts += [translate(piece, -middle) for piece in pieces]
    return shapely.union_all(parts)


def _unwrapped(ring: BaseGeometry) -> NDArray[np.float64]:
    """A ring without jumps. One that goes round a pole is led over it."""
    xy_N2 = shapely.get_coordinates(ring)
    xy_N2[1:, 0] -= TURN * np.cumsum(_turns(xy_N2[:, 0]))
    if xy_N2[0, 0] == xy_N2[-1, 0]:
        return xy_N2
    pole = float(np.copysign(90.0, xy_N2[:, 1].mean()))
    over = [(xy_N2[-1, 0], pole), (xy_N2[0, 0], pole), xy_N2[0]]
    return np.vstack([xy_N2, over])
