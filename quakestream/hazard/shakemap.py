"""ShakeMap grid.xml: every measure on its grid, in the product's units.

Format: https://usgs.github.io/shakemap/manual4_0/ug_products.html (grid.xml).
"""

import hashlib
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

from quakestream.errors import HazardError
from quakestream.hazard.interpolation import Floats, bilinear, positions_on_axis
from quakestream.hazard.units import MEASURES, keeps, to_standard
from quakestream.storage import StorageOptions, read_bytes

_MAX_NODES = 20_000_000
_OFF_NODE = 0.1
"""Steps a row may lie off its node; coordinates are written with four decimals."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShakeMap:
    """One event's shaking on a grid of longitudes and latitudes."""

    uri: str
    event_id: str
    version: str
    process_timestamp: str
    """As the file says it: UTC, ISO 8601, sometimes without a zone."""
    map_status: str
    sha256: str
    """Of the file's bytes: two files of one version may still differ."""
    lon: Floats
    """Node longitudes, ascending, degrees; may pass 180 where the map crosses it."""
    lat: Floats
    """Node latitudes, ascending, degrees."""
    fields: dict[str, Floats]
    """ShakeMap field name to values, shape (lat, lon): PGA and PSA in g, PGV in cm/s, SVEL in
    m/s; NaN where the file has no value."""
    ignored: tuple[str, ...] = ()
    """Fields of the file that are not read."""

    def at(self, field: str, lon_N: Floats, lat_N: Floats) -> Floats:
        """A field at points (EPSG:4326), bilinear; NaN outside the map or without the field."""
        values = self.fields.get(field)
        if values is None:
            return np.full(lon_N.shape, np.nan)
        lon_step, lat_step = _step(self.lon), _step(self.lat)
        east_N = degrees_east(lon_N, float(self.lon[0]), float(self.lon[-1]))
        col_N = positions_on_axis(east_N, 0.0, lon_step)
        row_N = positions_on_axis(lat_N, float(self.lat[0]), lat_step)
        return bilinear(values, row_N, col_N)


def degrees_east(lon_N: Floats, west: float, east: float) -> Floats:
    """Degrees east of `west`, for longitudes written in any turn of the circle.

    Negative up to half of what the map leaves free, so that a point just west of the map
    is not one almost 360° east of it.
    """
    free = max(360.0 - (east - west), 0.0) / 2
    off_N = lon_N - west
    turned_N: Floats = off_N - 360.0 * np.floor((off_N + free) / 360.0)
    return turned_N


def read_shakemap(uri: str, options: StorageOptions | None = None) -> ShakeMap:
    """Reads a ShakeMap grid.xml.

    Rows may come in any order. Axes are made from the limits and counts of the header,
    since its nominal spacing is rounded, and every row is checked against them.

    Raises:
        HazardError: if it is no complete ShakeMap grid.
        StorageError: if the file cannot be read.
    """
    data = read_bytes(uri, options)
    root = _root(data, uri)
    lon, lat = _axes(_child(root, "grid_specification", uri), uri)
    columns = _columns(root, uri)
    table = _table(root, columns, (len(lat), len(lon)), uri)
    node_N = _nodes(table[:, columns["LON"][0]], table[:, columns["LAT"][0]], lon, lat, uri)
    fields = {}
    for name, (column, unit) in columns.items():
        if keeps(name):
            flat = np.empty(len(lat) * len(lon))
            flat[node_N] = to_standard(table[:, column], name, unit, uri)
            fields[name] = flat.reshape(len(lat), len(lon))
    return ShakeMap(
        uri=uri,
        event_id=root.get("event_id") or root.get("shakemap_id") or "",
        version=root.get("shakemap_version", ""),
        process_timestamp=root.get("process_timestamp", ""),
        map_status=root.get("map_status", ""),
        sha256=hashlib.sha256(data).hexdigest(),
        lon=lon,
        lat=lat,
        fields=fields,
        ignored=tuple(n for n in columns if not keeps(n) and n not in ("LON", "LAT")),
    )


def _root(data: bytes, uri: str) -> Element:
    try:
        # No document type at all: a ShakeMap has none, and entities live there.
        root: Element = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise HazardError(
            f"{uri}: has a document type or entities ({type(error).__name__}), which no ShakeMap "
            "has; it was not opened. Get the file from its source again"
        ) from None
    except (ParseError, ValueError, LookupError) as error:
        raise HazardError(
            f"{uri}: not valid XML ({error}); expected a ShakeMap grid.xml, download it again"
        ) from None
    if _local(root) != "shakemap_grid":
        raise HazardError(f"{uri}: expected a shakemap_grid (grid.xml), got <{_local(root)}>")
    return root


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _child(root: Element, name: str, uri: str) -> Element:
    for child in root:
        if _local(child) == name:
            return child
    raise HazardError(f"{uri}: no <{name}>; expected a complete ShakeMap grid.xml")


def _number(element: Element, name: str, uri: str) -> float:
    text = element.get(name)
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise HazardError(
            f"{uri}: {_local(element)} {name}: expected a number, got {text!r}; "
            "get the file from its source again"
        )
    return value


def _axes(grid: Element, uri: str) -> tuple[Floats, Floats]:
    west, east = _number(grid, "lon_min", uri), _number(grid, "lon_max", uri)
    south, north = _number(grid, "lat_min", uri), _number(grid, "lat_max", uri)
    counts = _number(grid, "nlon", uri), _number(grid, "nlat", uri)
    if east < west:  # written as -180 to 180 across the antimeridian
        east += 360.0
    if not (-360 <= west < east <= 540 and east - west <= 360 and -90 <= south < north <= 90):
        raise HazardError(f"{uri}: limits {west}, {south}, {east}, {north} are no map")
    nlon, nlat = (int(count) for count in counts)
    if min(counts) < 2 or counts != (nlon, nlat) or nlon * nlat > _MAX_NODES:
        raise HazardError(
            f"{uri}: expected 2 × 2 to {_MAX_NODES:,} nodes, got nlon={counts[0]:g}, "
            f"nlat={counts[1]:g}"
        )
    return np.linspace(west, east, nlon), np.linspace(south, north, nlat)


def _columns(root: Element, uri: str) -> dict[str, tuple[int, str]]:
    """Field name to column and unit.

    Raises:
        HazardError: if columns are missing, or none is a measure.
    """
    columns: dict[str, tuple[int, str]] = {}
    for element in root:
        if _local(element) == "grid_field":
            name = element.get("name", "").strip().upper()
            columns[name] = (int(_number(element, "index", uri)) - 1, element.get("units", ""))
    if sorted(column for column, _ in columns.values()) != list(range(len(columns))):
        raise HazardError(f"{uri}: grid_field indices are not 1 to {len(columns)}, each once")
    if "LON" not in columns or "LAT" not in columns:
        raise HazardError(f"{uri}: expected grid_field LON and LAT, got {', '.join(columns)}")
    if not any(name in MEASURES for name in columns):
        raise HazardError(
            f"{uri}: none of {', '.join(MEASURES)} in it, got {', '.join(columns)}; "
            "give the event's grid.xml, not its uncertainty.xml"
        )
    return columns


def _table(
    root: Element, columns: dict[str, Any], shape: tuple[int, int], uri: str
) -> NDArray[np.float64]:
    tokens = (_child(root, "grid_data", uri).text or "").split()
    nlat, nlon = shape
    rows, rest = divmod(len(tokens), len(columns))
    if rest or rows != nlon * nlat:
        got = f"{rows:,} rows" + (f" and {rest} values more" if rest else "")
        raise HazardError(
            f"{uri}: the header says {nlon} × {nlat} = {nlon * nlat:,} rows, the file has {got}; "
            "it is cut off, download it again"
        )
    try:
        return np.array([float(token) for token in tokens]).reshape(rows, len(columns))
    except ValueError as error:
        raise HazardError(f"{uri}: grid_data: {error}; expected numbers or NaN") from None


def _nodes(lon_N: Floats, lat_N: Floats, lon: Floats, lat: Floats, uri: str) -> NDArray[np.intp]:
    """Flat index of each row's node.

    Raises:
        HazardError: if a row lies off the nodes, or two lie on one.
    """
    col_N = degrees_east(lon_N, float(lon[0]), float(lon[-1])) / _step(lon)
    row_N = (lat_N - lat[0]) / _step(lat)
    off_N = np.maximum(np.abs(col_N - np.round(col_N)), np.abs(row_N - np.round(row_N)))
    outside_N = (np.round(col_N) < 0) | (np.round(col_N) >= len(lon))
    outside_N |= (np.round(row_N) < 0) | (np.round(row_N) >= len(lat))
    bad_N = outside_N | ~(off_N <= _OFF_NODE)
    if bad_N.any():
        first = int(np.argmax(bad_N))
        raise HazardError(
            f"{uri}: {int(bad_N.sum())} rows lie on no node of the header's grid, first row "
            f"{first + 1} at {lon_N[first]}, {lat_N[first]}; header and rows are of two files"
        )
    node_N: NDArray[np.intp] = (np.round(row_N) * len(lon) + np.round(col_N)).astype(np.intp)
    if len(np.unique(node_N)) != len(node_N):
        raise HazardError(f"{uri}: several rows have the same node; download the file again")
    return node_N


def _step(axis: Floats) -> float:
    return float(axis[-1] - axis[0]) / (len(axis) - 1)
