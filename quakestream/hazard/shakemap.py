"""Reads ShakeMap grid.xml: every measure on its grid, in the units of the product.

Format: https://usgs.github.io/shakemap/manual4_0/ug_products.html (grid.xml).
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

from quakestream.errors import HazardError
from quakestream.hazard.interpolation import Floats, bilinear, positions_on_axis
from quakestream.hazard.packed import unpacked_grid
from quakestream.hazard.triangles import on_triangles
from quakestream.hazard.units import MEASURES, keeps, to_standard
from quakestream.storage import StorageOptions, read_bytes
from quakestream.storage.limits import DOCUMENT

_MAX_NODES = 20_000_000
_OFF_NODE = 0.1
"""Largest distance of a row from its node, in steps: coordinates have four decimals."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShakeMap:
    """Shaking of one event on a grid of longitudes and latitudes."""

    uri: str
    event_id: str
    version: str
    process_timestamp: str
    """Time in the file: UTC, ISO 8601, sometimes without a zone."""
    map_status: str
    sha256: str
    """Digest of the unpacked grid.xml: two files of one version may still differ."""
    lon: Floats
    """Node longitudes, ascending, degrees; above 180 where the map crosses the antimeridian."""
    lat: Floats
    """Node latitudes, ascending, degrees."""
    fields: dict[str, Floats]
    """Values by ShakeMap field name, shape (lat, lon). PGA and PSA are in g, PGV in cm/s, SVEL
    in m/s; NaN where the file has no value."""
    ignored: tuple[str, ...] = ()
    """Fields of the file that are not read."""
    spreads: dict[str, float] = field(default_factory=dict)
    """Standard deviation of the logarithm of a measure over the whole event, by field name."""

    def at(
        self,
        field: str,
        lon_N: Floats,
        lat_N: Floats,
        rising_YX: NDArray[np.bool_] | None = None,
    ) -> Floats:
        """Values of a field at points (EPSG:4326); NaN outside the map or if absent.

        Args:
            field: name of the field.
            lon_N: longitudes.
            lat_N: latitudes.
            rising_YX: diagonals of the squares of nodes (`rising_squares`), for values on
                triangles; None: bilinear.
        """
        values = self.fields.get(field)
        if values is None:
            return np.full(lon_N.shape, np.nan)
        lon_step, lat_step = _step(self.lon), _step(self.lat)
        east_N = degrees_east(lon_N, float(self.lon[0]), float(self.lon[-1]))
        col_N = positions_on_axis(east_N, 0.0, lon_step)
        row_N = positions_on_axis(lat_N, float(self.lat[0]), lat_step)
        if rising_YX is not None:
            return on_triangles(values, rising_YX, row_N, col_N)
        return bilinear(values, row_N, col_N)


def degrees_east(lon_N: Floats, west: float, east: float) -> Floats:
    """Degrees east of `west`, for longitudes with any number of whole turns.

    A point just west of the map gets a small negative value, not one near 360°. Half of the
    circle outside the map counts as west of it.
    """
    free = max(360.0 - (east - west), 0.0) / 2
    off_N = lon_N - west
    turned_N: Floats = off_N - 360.0 * np.floor((off_N + free) / 360.0)
    return turned_N


def read_shakemap(uri: str, options: StorageOptions | None = None) -> ShakeMap:
    """Reads a ShakeMap grid.xml, also out of a .gz or .zip.

    Rows may have any order. Axes follow from the limits and counts of the header, since the
    nominal spacing in it is rounded. Every row is checked against the axes.

    Raises:
        HazardError: if it is not a complete ShakeMap grid.
        StorageError: if the file cannot be read.
    """
    return _read(uri, options, shaking=True)


def read_uncertainty(uri: str, options: StorageOptions | None = None) -> ShakeMap:
    """Reads a ShakeMap uncertainty.xml: standard deviations, such as the field STDPGV of ln(PGV).

    Raises:
        HazardError: if it is not a complete grid of uncertainties.
        StorageError: if the file cannot be read.
    """
    return _read(uri, options, shaking=False)


def _read(uri: str, options: StorageOptions | None, *, shaking: bool) -> ShakeMap:
    data = unpacked_grid(read_bytes(uri, options, DOCUMENT), uri)
    root = _root(data, uri)
    lon, lat = _axes(_child(root, "grid_specification", uri), uri)
    columns = _columns(root, uri)
    _check_kind(columns, uri, shaking)
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
        spreads=_spreads(root),
    )


def _root(data: bytes, uri: str) -> Element:
    try:
        # A ShakeMap has no document type; entity bombs need one.
        root: Element = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise HazardError(
            "file has a document type or entities, which no ShakeMap has",
            uri,
            got=type(error).__name__,
            remedy="download the file again from its source",
        ) from None
    except (ParseError, ValueError, LookupError) as error:
        raise HazardError(
            "not valid XML", uri, "a ShakeMap grid.xml", str(error), "download the file again"
        ) from None
    if _local(root) != "shakemap_grid":
        raise HazardError("not a ShakeMap", uri, "<shakemap_grid> (grid.xml)", f"<{_local(root)}>")
    return root


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _child(root: Element, name: str, uri: str) -> Element:
    for child in root:
        if _local(child) == name:
            return child
    raise HazardError(f"no <{name}>", uri, "a complete ShakeMap grid.xml")


def _number(element: Element, name: str, uri: str) -> float:
    text = element.get(name)
    try:
        value = float(text or "")
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise HazardError(
            f"{_local(element)} {name} is not a number",
            uri,
            expected="a number",
            got=repr(text),
            remedy="download the file again from its source",
        )
    return value


def _axes(grid: Element, uri: str) -> tuple[Floats, Floats]:
    west, east = _number(grid, "lon_min", uri), _number(grid, "lon_max", uri)
    south, north = _number(grid, "lat_min", uri), _number(grid, "lat_max", uri)
    counts = _number(grid, "nlon", uri), _number(grid, "nlat", uri)
    if east < west:  # written as -180 to 180 across the antimeridian
        east += 360.0
    if not (-360 <= west < east <= 540 and east - west <= 360 and -90 <= south < north <= 90):
        raise HazardError(
            "limits are not a box on the Earth",
            uri,
            got=f"{west:g}, {south:g}, {east:g}, {north:g}",
        )
    nlon, nlat = (int(count) for count in counts)
    if min(counts) < 2 or counts != (nlon, nlat) or nlon * nlat > _MAX_NODES:
        raise HazardError(
            "wrong number of nodes",
            uri,
            expected=f"2 × 2 to {_MAX_NODES:,} nodes",
            got=f"nlon={counts[0]:g}, nlat={counts[1]:g}",
        )
    return np.linspace(west, east, nlon), np.linspace(south, north, nlat)


def _columns(root: Element, uri: str) -> dict[str, tuple[int, str]]:
    """Column and unit of each field, by name.

    Raises:
        HazardError: if columns are missing.
    """
    columns: dict[str, tuple[int, str]] = {}
    for element in root:
        if _local(element) == "grid_field":
            name = element.get("name", "").strip().upper()
            columns[name] = (int(_number(element, "index", uri)) - 1, element.get("units", ""))
    if sorted(column for column, _ in columns.values()) != list(range(len(columns))):
        raise HazardError("grid_field indices are wrong", uri, f"1 to {len(columns)}, each once")
    if "LON" not in columns or "LAT" not in columns:
        raise HazardError("no coordinates", uri, "grid_field LON and LAT", ", ".join(columns))
    return columns


def _check_kind(columns: dict[str, tuple[int, str]], uri: str, shaking: bool) -> None:
    """Raises HazardError where no column is a measure, or no column is a standard deviation."""
    if shaking and not any(name in MEASURES for name in columns):
        raise HazardError(
            "no measure of shaking",
            uri,
            expected=f"one of {', '.join(MEASURES)}",
            got=", ".join(columns),
            remedy="give the event's grid.xml, not its uncertainty.xml",
        )
    if not shaking and not any(name.startswith("STD") for name in columns):
        raise HazardError(
            "no uncertainty of shaking",
            uri,
            expected="a field STDPGV",
            got=", ".join(columns),
            remedy="give the event's uncertainty.xml",
        )


def _spreads(root: Element) -> dict[str, float]:
    """Standard deviations over the whole event; fields without a number are left out."""
    spreads = {}
    for element in root:
        if _local(element) != "event_specific_uncertainty":
            continue
        try:
            value = float(element.get("value", ""))
        except ValueError:
            continue
        if 0 <= value < np.inf:
            spreads[element.get("name", "").strip().upper()] = value
    return spreads


def _table(
    root: Element, columns: dict[str, Any], shape: tuple[int, int], uri: str
) -> NDArray[np.float64]:
    tokens = (_child(root, "grid_data", uri).text or "").split()
    nlat, nlon = shape
    rows, rest = divmod(len(tokens), len(columns))
    if rest or rows != nlon * nlat:
        raise HazardError(
            "grid is truncated",
            uri,
            expected=f"{nlon} × {nlat} = {nlon * nlat:,} rows",
            got=f"{rows:,} rows" + (f" and {rest} more values" if rest else ""),
            remedy="download the file again",
        )
    try:
        return np.fromiter(map(float, tokens), np.float64, len(tokens)).reshape(rows, -1)
    except ValueError as error:
        raise HazardError(
            "grid_data holds other text", uri, expected="numbers or NaN", got=str(error)
        ) from None


def _nodes(lon_N: Floats, lat_N: Floats, lon: Floats, lat: Floats, uri: str) -> NDArray[np.intp]:
    """Flat index of the node of each row.

    Raises:
        HazardError: if a row lies off the nodes, or two rows lie on one node.
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
            f"{int(bad_N.sum()):,} of {len(bad_N):,} rows lie off the grid of the header",
            uri,
            got=f"row {first + 1} at {lon_N[first]}, {lat_N[first]}",
            remedy="download the file again: its header and rows belong to different grids",
        )
    node_N: NDArray[np.intp] = (np.round(row_N) * len(lon) + np.round(col_N)).astype(np.intp)
    if len(np.unique(node_N)) != len(node_N):
        raise HazardError("several rows have the same node", uri, remedy="download the file again")
    return node_N


def _step(axis: Floats) -> float:
    return float(axis[-1] - axis[0]) / (len(axis) - 1)
