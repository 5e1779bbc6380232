"""Reads whole vector files of any format and CRS; coordinates become EPSG:4326."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj.exceptions import CRSError, ProjError

from quakestream.errors import MissingExtraError, RequestError, StorageError
from quakestream.storage import MissingObjectError, StorageOptions, local_copy

_PARQUET = (".parquet", ".geoparquet", ".pq")
# Integers stay integers where some are missing: long ids lose digits as floats.
_EXACT = {"integer_object_nulls": True}


def read_vector(
    uri: str, options: StorageOptions, error: type[RequestError], columns: Sequence[str] = ()
) -> gpd.GeoDataFrame:
    """Features of a vector file, in file order, geometries two-dimensional in EPSG:4326.

    A GeoJSON without `crs` is EPSG:4326 by its standard. A geometry that cannot be decoded
    becomes None. Nothing is repaired or dropped.

    Args:
        uri: any format GDAL knows, or GeoParquet.
        options: how to reach it.
        error: the class to raise.
        columns: attributes to read.

    Raises:
        error: if the file is missing, unreadable, has no CRS or lacks a column.
        StorageError: if the store fails for another reason.
    """
    try:
        with local_copy(uri, options) as path:
            frame = _read(path, columns, uri, error)
    except MissingObjectError as cause:
        raise error.of(cause.problem) from cause
    except (DataSourceError, DataLayerError, pa.ArrowException, ValueError, OSError) as cause:
        if isinstance(cause, (RequestError, StorageError, MissingExtraError)):
            raise
        raise error(
            "cannot be read as a vector file",
            uri,
            expected="GeoJSON, GeoPackage, FlatGeobuf, GeoParquet, a shapefile or another format "
            "that GDAL knows",
            got=str(cause),
        ) from cause
    return _in_degrees(frame, uri, error)


def _read(
    path: Path, columns: Sequence[str], uri: str, error: type[RequestError]
) -> gpd.GeoDataFrame:
    if path.is_file() and path.stat().st_size == 0:
        raise error("file is empty", uri, "a vector file with polygons", "0 bytes")
    if path.suffix.lower() in _PARQUET:
        _check_columns(columns, pq.read_schema(path).names, uri, error)
        selected = [*columns, _geometry_column(path, uri, error)]
        return gpd.read_parquet(path, columns=selected, to_pandas_kwargs=_EXACT)
    layer = _layer(path, uri, error)
    info = pyogrio.read_info(path, layer=layer)
    if info["features"] == 0:  # before the check of columns, which an empty GeoJSON lacks
        raise error("holds no features", uri, "polygons")
    from_fid = [c for c in columns if c not in info["fields"] and c == info.get("fid_column")]
    from_json = _feature_ids(path, info, columns)
    present = [*info["fields"], *from_fid, *from_json]
    _check_columns(columns, present, uri, error)
    with warnings.catch_warnings():
        # GDAL makes its own feature ids unique. Our ids are a column, and are checked later.
        warnings.filterwarnings("ignore", message="Several features with id")
        frame = pyogrio.read_dataframe(
            path,
            layer=layer,
            columns=[c for c in columns if c in info["fields"]],
            force_2d=True,
            fid_as_index=bool(from_fid),
            use_arrow=True,
            on_invalid="ignore",
            arrow_to_pandas_kwargs=_EXACT,
        )
    for name in from_fid:
        frame[name] = frame.index.to_numpy()
    for name, ids in from_json.items():
        frame[name] = ids
    return frame.reset_index(drop=True)


def _layer(path: Path, uri: str, error: type[RequestError]) -> str:
    """The one layer with geometry. A GeoPackage often holds tables of styles beside it."""
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if not layers:
        raise error("holds no geometry", uri, "polygons", "a table")
    if len(layers) > 1:
        raise error(
            f"holds {len(layers)} layers",
            uri,
            expected="one layer",
            got=", ".join(layers),
            remedy="write the right one to a file of its own",
        )
    return layers[0]


def _feature_ids(path: Path, info: dict[str, Any], columns: Sequence[str]) -> dict[str, list[Any]]:
    """The `id` members of GeoJSON features. GDAL makes no column of numeric ones."""
    if "id" not in columns or "id" in info["fields"] or info["driver"] != "GeoJSON":
        return {}
    features = json.loads(path.read_bytes()).get("features", [])
    ids = [feature.get("id") for feature in features]
    return {"id": ids} if any(i is not None for i in ids) else {}


def _geometry_column(path: Path, uri: str, error: type[RequestError]) -> str:
    metadata = pq.read_schema(path).metadata or {}
    if b"geo" not in metadata:
        raise error(
            "Parquet without GeoParquet metadata",
            uri,
            got="no CRS",
            remedy="write it as GeoParquet",
        )
    return str(json.loads(metadata[b"geo"])["primary_column"])


def _check_columns(
    columns: Sequence[str], present: Sequence[str], uri: str, error: type[RequestError]
) -> None:
    for name in columns:
        if name not in present:
            known = ", ".join(sorted(present)) or "none"
            raise error(f"has no column {name!r}", uri, got=f"columns {known}")


def _in_degrees(frame: gpd.GeoDataFrame, uri: str, error: type[RequestError]) -> gpd.GeoDataFrame:
    if frame.crs is None:
        raise error("file has no CRS", uri, remedy="add it with ogr2ogr -a_srs EPSG:...")
    frame = frame.set_geometry(shapely.force_2d(frame.geometry.values), crs=frame.crs)
    frame = frame.rename_geometry("geometry") if frame.geometry.name != "geometry" else frame
    try:
        return (
            frame if frame.crs.equals("EPSG:4326", ignore_axis_order=True) else frame.to_crs(4326)
        )
    except (CRSError, ProjError) as cause:
        raise error("CRS is not on Earth", uri, got=f"{frame.crs} ({cause})") from cause
