"""Geometry out of the columns of a table: WKT, WKB, or longitude and latitude."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import shapely
from numpy.typing import NDArray

from quakestream.errors import RequestError
from quakestream.vectors.gdal_files import EXACT, first_line, not_utf8, text_is_utf8
from quakestream.vectors.selection import FID, Attributes

_GEOMETRY = ("geometry", "wkt", "geom", "the_geom", "wkb_geometry", "wkb", "geometry_wkt", "shape")
_LON = ("lon", "longitude", "long", "lng", "x")
_LAT = ("lat", "latitude", "y")
_BLOCK_BYTES = 64 << 20
"""Largest row of a table, and what is parsed at once."""


def read_csv(path: Path, attributes: Attributes) -> gpd.GeoDataFrame:
    """Rows of a CSV file; without geometry where no column has any.

    The separator is a comma, a semicolon, a tab or a bar. Text columns stay text ("007").

    Raises:
        RequestError: if it cannot be parsed or lacks a column.
    """
    header, separator = _header(path)
    geometry = geometry_columns(header)
    columns = attributes.among([n for n in header if n not in geometry or len(geometry) == 2])
    try:
        table = pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=list(dict.fromkeys([*columns, *geometry])),
                column_types=_types(attributes, geometry),
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowException as error:
        if text_is_utf8(path) == "no":
            raise not_utf8(path, error) from error
        said = first_line(error)
        raise RequestError("cannot be read as a table", "", "CSV with a header", said) from error
    return with_geometry(table.to_pandas(**EXACT), columns, geometry, attributes)


def read_wkt(path: Path, attributes: Attributes) -> gpd.GeoDataFrame:
    """Geometries of a text of WKT, one a line."""
    lines = path.read_text("utf-8-sig").splitlines()
    frame = pd.DataFrame({"wkt": [line for line in lines if line.strip()]})
    return with_geometry(frame, attributes.among([]), ["wkt"], attributes)


def geometry_columns(names: Sequence[str]) -> list[str]:
    """The columns that hold places: one of WKT or WKB, longitude and latitude, or none."""
    lower = {str(name).strip().lower(): name for name in reversed(names)}
    for name in _GEOMETRY:
        if name in lower:
            return [lower[name]]
    lon = [lower[name] for name in _LON if name in lower][:1]
    lat = [lower[name] for name in _LAT if name in lower][:1]
    return [*lon, *lat] if lon and lat else []


def with_geometry(
    frame: pd.DataFrame, columns: Sequence[str], geometry: Sequence[str], attributes: Attributes
) -> gpd.GeoDataFrame:
    """A table with the geometry of its columns; all None where there are no such columns.

    The CRS is that of EWKT and EWKB, else EPSG:4326 if every coordinate can be degrees, else
    None.
    """
    if len(geometry) == 2:
        degrees = [pd.to_numeric(frame[c], errors="coerce").to_numpy(float) for c in geometry]
        known = np.isfinite(degrees[0]) & np.isfinite(degrees[1])
        shapes = np.full(len(frame), None, object)
        shapes[known] = shapely.points(degrees[0][known], degrees[1][known])
    elif geometry:
        shapes = _decoded(frame[geometry[0]])
    else:
        shapes = np.full(len(frame), None, object)
    found = gpd.GeoDataFrame(frame[list(columns)])
    found = found.set_geometry(gpd.GeoSeries(list(shapes), index=found.index))
    if attributes.wants_fid(list(frame.columns)):
        found[FID] = np.arange(len(found))
    crs = _crs(shapes)
    return found.set_crs(crs) if crs is not None else found


def _decoded(values: pd.Series) -> NDArray[np.object_]:
    """Shapes of WKT, EWKT, WKB or its hexadecimal digits; None where a value is none of them."""
    first = next((v for v in values if isinstance(v, (str, bytes)) and v), "")
    raw: list[Any] = [None if pd.isna(value) else value for value in values]
    if isinstance(first, bytes) or re.fullmatch(r"[0-9A-Fa-f]{10,}", first[:64]):
        return np.asarray(shapely.from_wkb(raw, on_invalid="ignore"), object)
    srid = re.match(r"\s*SRID=(\d+);", first, re.IGNORECASE)
    if srid is None:
        return np.asarray(shapely.from_wkt(raw, on_invalid="ignore"), object)
    texts = [None if v is None else v.rpartition(";")[2] for v in raw]
    shapes = shapely.from_wkt(texts, on_invalid="ignore")
    return np.asarray(shapely.set_srid(shapes, int(srid.group(1))), object)


def _crs(shapes: NDArray[np.object_]) -> int | None:
    srids = set(shapely.get_srid(shapes[~shapely.is_missing(shapes)]).tolist()) - {0}
    if len(srids) == 1:
        return int(srids.pop())
    if srids:
        raise RequestError("mixes CRSs", "", "one SRID", ", ".join(map(str, sorted(srids))))
    if shapely.is_missing(shapes).all():
        return None
    bounds = np.abs(shapely.bounds(shapes))
    with np.errstate(invalid="ignore"):
        beyond = (bounds > (360.0, 90.0, 360.0, 90.0)).any()
    return None if beyond else 4326


def _types(attributes: Attributes, geometry: Sequence[str]) -> dict[str, Any]:
    """Columns that are named are read as they are written: an id of 007 stays 007."""
    named = (*attributes.required, *attributes.optional)
    text = {name: pa.string() for name in named if name not in geometry}
    return text | ({geometry[0]: pa.string()} if len(geometry) == 1 else {})


def _header(path: Path) -> tuple[list[str], str]:
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise not_utf8(path, error) from error
    separator = max(",;\t|", key=text.count)
    names = next(csv.reader([text], delimiter=separator), [])
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise RequestError("has a column twice", "", "distinct names", ", ".join(twice))
    return names, separator
