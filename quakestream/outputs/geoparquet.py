"""Writes GeoParquet 1.1 with exact Arrow types. The same rows give the same bytes."""

import io
from collections.abc import Mapping

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from quakestream.errors import ShapeError

ROWS_PER_GROUP = 50_000
"""Rows of a row group: few enough for bbox filters to skip, many enough to compress."""


def hilbert_sorted(frame: gpd.GeoDataFrame, key: str) -> gpd.GeoDataFrame:
    """Rows sorted along a Hilbert curve, ties by `key`; rows without a geometry are last."""
    has_shape = ~(frame.geometry.isna() | frame.geometry.is_empty).to_numpy()
    distance = np.full(len(frame), np.iinfo(np.uint64).max, dtype=np.uint64)
    if has_shape.any():
        distance[has_shape] = frame.geometry[has_shape].hilbert_distance().to_numpy()
    order = np.lexsort((frame[key].astype(str).to_numpy(dtype=str), distance))
    return frame.iloc[order].reset_index(drop=True)


def geoparquet_bytes(frame: gpd.GeoDataFrame, types: Mapping[str, pa.DataType]) -> bytes:
    """The frame as GeoParquet 1.1: the columns of `types` in order, then `geometry` and `bbox`.

    geopandas writes the geometry with its metadata and bounding box. The other columns are
    written with their exact types, which pandas would lose (empty lists, all-null strings,
    nullable int8).

    Raises:
        ShapeError: if the frame is not EPSG:4326, or a column does not fit its type.
    """
    if frame.crs is None or frame.crs.to_epsg() != 4326:
        raise ShapeError(
            "wrong CRS", "product", "EPSG:4326", str(frame.crs), "reproject before publishing"
        )
    shapes = gpd.GeoDataFrame(geometry=frame.geometry.array, crs=frame.crs)
    buffer = io.BytesIO()
    shapes.to_parquet(buffer, index=False, write_covering_bbox=True, schema_version="1.1.0")
    written = pq.read_table(buffer)
    geo = {b"geo": written.schema.metadata[b"geo"]}
    names = list(types)
    columns = [arrow_column(frame[name], types[name]) for name in names]
    for name in ("geometry", "bbox"):
        names.append(name)
        columns.append(written.column(name).combine_chunks())
    return parquet_bytes(
        pa.table(dict(zip(names, columns, strict=True))).replace_schema_metadata(geo)
    )


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as one Parquet object with zstd compression."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=ROWS_PER_GROUP)
    return buffer.getvalue()


def arrow_column(column: pd.Series, kind: pa.DataType) -> pa.Array:
    """A pandas column with exactly the type `kind`; missing values become null.

    Raises:
        ShapeError: if the values do not fit the type.
    """
    try:
        if pa.types.is_list(kind):
            values = [list(v) if isinstance(v, (list, tuple, np.ndarray)) else [] for v in column]
            return pa.array(values, type=kind)
        if pa.types.is_floating(kind):
            return pa.array(column.astype("float64").to_numpy(), from_pandas=True).cast(kind)
        if pa.types.is_integer(kind):
            return pa.array(column.astype("Int64"), from_pandas=True).cast(kind)
        if pa.types.is_timestamp(kind):
            times = pd.to_datetime(column, utc=True).dt.as_unit("us")
            return pa.array(times, from_pandas=True).cast(kind)
        return pa.array(column.astype(object), from_pandas=True).cast(kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
        raise ShapeError(
            "values do not fit the type", f"column {column.name!r}", str(kind), str(error)
        ) from error
