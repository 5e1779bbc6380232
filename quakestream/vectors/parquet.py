"""Reads Parquet: GeoParquet 1.0 and 1.1, Parquet's own geometry types, and WKB without metadata."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj

from quakestream.errors import RequestError
from quakestream.vectors.gdal_files import EXACT, first_line
from quakestream.vectors.nearby import read_near
from quakestream.vectors.selection import FID, Attributes, Box
from quakestream.vectors.tables import geometry_columns, with_geometry

_LON_LAT = "OGC:CRS84"


def read_parquet(path: Path, attributes: Attributes, near: Box | None = None) -> gpd.GeoDataFrame:
    """Rows of a Parquet file; without geometry where no column has any.

    Args:
        near: features apart from this box may be left out, and are counted in `attrs`.

    Raises:
        RequestError: if it is damaged or lacks a column.
    """
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise RequestError(
            "is damaged", "", "a Parquet file", first_line(error), "get the file again"
        ) from error
    with file:
        names = list(file.schema_arrow.names)
        metadata = file.schema_arrow.metadata or {}
        native = _native_geometry(file)
    if b"geo" in metadata:
        primary = str(json.loads(metadata[b"geo"])["primary_column"])
        present = [name for name in names if name != primary]
        columns = attributes.among(present)
        if near is not None and not attributes.wants_fid(present):
            nearby = read_near(path, near, columns)
            if nearby is not None:
                return nearby
        frame = gpd.read_parquet(path, columns=[*columns, primary], to_pandas_kwargs=EXACT)
        return _numbered(frame, attributes, present)
    geometry = [native[0]] if native else geometry_columns(names)
    present = [name for name in names if name not in geometry or len(geometry) == 2]
    columns = attributes.among(present)
    table = _storage(pq.read_table(path, columns=list(dict.fromkeys([*columns, *geometry]))))
    frame = with_geometry(table.to_pandas(**EXACT), columns, geometry, attributes)
    return frame.set_crs(native[1], allow_override=True) if native else frame


def _numbered(
    frame: gpd.GeoDataFrame, attributes: Attributes, present: list[str]
) -> gpd.GeoDataFrame:
    frame = frame.reset_index(drop=True)
    if attributes.wants_fid(present):
        frame[FID] = np.arange(len(frame))
    return frame


def _native_geometry(file: pq.ParquetFile) -> tuple[str, pyproj.CRS] | None:
    """The first column of Parquet's type GEOMETRY or GEOGRAPHY, and its CRS.

    Source: https://github.com/apache/parquet-format/blob/master/Geospatial.md
    """
    for index in range(len(file.schema)):
        column = file.schema.column(index)
        kind = json.loads(column.logical_type.to_json())
        if str(kind.get("Type", "")).lower() in ("geometry", "geography"):
            text = kind.get("crs") or _LON_LAT
            return column.path, _crs(text, file.schema_arrow.metadata or {})
    return None


def _crs(text: str, metadata: dict[bytes, bytes]) -> pyproj.CRS:
    if text.startswith("projjson:"):  # the name of a key of the file's metadata
        text = metadata.get(text.removeprefix("projjson:").encode(), b"").decode()
    return pyproj.CRS.from_user_input(text.removeprefix("srid:"))


def _storage(table: pa.Table) -> pa.Table:
    """A table without extension types: WKB as plain bytes."""
    for index, name in enumerate(table.column_names):
        column: Any = table.column(index)
        if isinstance(column.type, pa.BaseExtensionType):
            plain = pa.chunked_array(
                [chunk.storage for chunk in column.chunks], column.type.storage_type
            )
            table = table.set_column(index, name, plain)
    return table
