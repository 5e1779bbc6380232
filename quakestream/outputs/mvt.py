"""Encodes Mapbox vector tiles, specification 2.1: layers of polygons and points with attributes.

A tile is a protobuf message of a few fields, so that no library of protobuf is needed.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

EXTENT = 4096
"""Width and height of a tile in its own units."""
BUFFER = 64
"""Units around a tile that its polygons keep, so that no outline shows on its edge."""
_VERSION = 2
_POINT, _POLYGON = 1, 3
_MOVE_TO, _LINE_TO, _CLOSE_PATH = 1, 2, 7
_VARINT, _EIGHT_BYTES, _LENGTH = 0, 1, 2
"""Wire types of protobuf."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileLayer:
    """N features of one layer. What lies outside the tile is cut off, or left out."""

    name: str
    geometry_N: NDArray[np.object_]
    """Polygons, multipolygons or points in units of the tile, y downwards."""
    id_N: Sequence[int]
    """Whole numbers from 0."""
    attributes: Mapping[str, Sequence[Any]]
    """Texts, numbers and truth values by name, N each; None for no value."""


def encoded(layers: Iterable[TileLayer]) -> bytes:
    """The tile; empty where no layer has a feature in it."""
    return b"".join(_field(3, body) for body in map(_layer, layers) if body)


def _layer(layer: TileLayer) -> bytes:
    keys = {name: n for n, name in enumerate(layer.attributes)}
    values: dict[tuple[type, Any], int] = {}
    columns = [(keys[name], column) for name, column in layer.attributes.items()]
    features = bytearray()
    for n, geometry in enumerate(_cut(layer.geometry_N)):
        kind, commands = _commands(geometry)
        if not commands:
            continue
        tags: list[int] = []
        for key, column in columns:
            if (value := column[n]) is not None:
                tags += (key, values.setdefault((type(value), value), len(values)))
        body = _number(1, int(layer.id_N[n])) + _field(2, _varints(tags))
        features += _field(2, body + _number(3, kind) + _field(4, _varints(commands)))
    if not features:
        return b""
    return b"".join(
        (
            _number(15, _VERSION),
            _field(1, layer.name.encode()),
            bytes(features),
            *(_field(3, name.encode()) for name in keys),
            *(_field(4, _value(value)) for _, value in values),
            _number(5, EXTENT),
        )
    )


def _cut(geometry_N: NDArray[np.object_]) -> NDArray[np.object_]:
    """Geometries within the tile and its buffer."""
    low, high = -BUFFER, EXTENT + BUFFER
    west, south, east, north = shapely.bounds(geometry_N).T
    over_N = (west < low) | (south < low) | (east > high) | (north > high)
    cut_N = geometry_N.copy()
    cut_N[over_N] = shapely.clip_by_rect(geometry_N[over_N], low, low, high, high)
    return cut_N


def _commands(geometry: BaseGeometry | None) -> tuple[int, list[int]]:
    """Kind of a geometry, and what draws it; nothing where nothing is left of it."""
    if geometry is None or geometry.is_empty:
        return _POLYGON, []
    if geometry.geom_type == "Point":
        (place,) = np.rint(shapely.get_coordinates(geometry)).astype(int).tolist()
        return _POINT, [_MOVE_TO | 1 << 3, *map(_zigzag, place)]
    commands: list[int] = []
    at = [0, 0]
    for polygon in shapely.get_parts(geometry):
        if polygon.geom_type != "Polygon":
            continue
        shell, *holes = shapely.get_rings(polygon)
        if _add_ring(commands, shell, at, outer=True):
            for hole in holes:
                _add_ring(commands, hole, at, outer=False)
    return _POLYGON, commands


def _add_ring(commands: list[int], ring: BaseGeometry, at: list[int], *, outer: bool) -> bool:
    """Adds a ring of whole units; False for one without an area.

    The shell has a positive area by the surveyor's formula, a hole a negative one.
    """
    xy_N2 = np.rint(shapely.get_coordinates(ring)[:-1]).astype(np.int64)
    moved_N = (xy_N2 != np.roll(xy_N2, 1, axis=0)).any(axis=1)
    xy_N2 = xy_N2[moved_N]
    ahead_N2 = np.roll(xy_N2, -1, axis=0)
    area = int((xy_N2[:, 0] * ahead_N2[:, 1] - ahead_N2[:, 0] * xy_N2[:, 1]).sum())
    if area == 0:
        return False
    if (area > 0) != outer:
        xy_N2 = xy_N2[::-1]
    steps_N2 = np.diff(xy_N2, axis=0, prepend=[at])
    steps = ((steps_N2 << 1) ^ (steps_N2 >> 63)).ravel().tolist()
    line = _LINE_TO | (len(xy_N2) - 1) << 3
    commands += [_MOVE_TO | 1 << 3, *steps[:2], line, *steps[2:], _CLOSE_PATH | 1 << 3]
    at[:] = xy_N2[-1].tolist()
    return True


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return _number(7, int(value))
    if isinstance(value, int):
        return _number(6, _zigzag(value))
    if isinstance(value, float):
        return _varints([3 << 3 | _EIGHT_BYTES]) + struct.pack("<d", value)
    return _field(1, str(value).encode())


def _number(field: int, value: int) -> bytes:
    return _varints([field << 3 | _VARINT, value])


def _field(field: int, body: bytes) -> bytes:
    return _varints([field << 3 | _LENGTH, len(body)]) + body


def _varints(numbers: Iterable[int]) -> bytes:
    """Whole numbers from 0, seven bits a byte, the lowest first."""
    out = bytearray()
    for number in numbers:
        while number > 0x7F:
            out.append(number & 0x7F | 0x80)
            number >>= 7
        out.append(number)
    return bytes(out)
