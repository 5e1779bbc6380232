"""Reads vector files of any kind, layer and CRS; coordinates become EPSG:4326."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from pyproj.exceptions import CRSError, ProjError

from quakestream.errors import RequestError, StorageError
from quakestream.storage import MissingObjectError, StorageOptions, local_copy
from quakestream.vectors import contents, gdal_files
from quakestream.vectors.contents import KNOWN, Format, not_vectors
from quakestream.vectors.datasets import DataSet, open_data_sets
from quakestream.vectors.json_files import read_esri_json, read_xbd
from quakestream.vectors.parquet import read_parquet
from quakestream.vectors.selection import (
    LEFT_OUT,
    Attributes,
    Box,
    Layer,
    chosen,
    labelled,
)
from quakestream.vectors.tables import read_csv, read_wkt

_READERS: dict[Format, Callable[[Path, Attributes], gpd.GeoDataFrame]] = {
    contents.PARQUET: read_parquet,
    contents.TABLE: read_csv,
    contents.WKT: read_wkt,
    contents.ESRI_JSON: read_esri_json,
    contents.XBD: read_xbd,
}
"""Readers of files with one layer that are read without GDAL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorRequest:
    """A vector file, and what is read of it."""

    uri: str
    """A file, a folder, a .zip or a .gz, at a path or a URI."""
    layer: str | None = None
    attributes: Attributes = field(default_factory=Attributes)
    union: bool = False
    """Read all layers where none is named; else several layers are an error."""
    needs_geometry: bool = True
    """False: a table without geometry is read, too. Its geometries are None."""
    near: Box | None = None
    """Features apart from this box may be left out, where the file says which those are. They
    are counted in `attrs[LEFT_OUT]` of the result."""


def read_vectors(
    request: VectorRequest, options: StorageOptions, error: type[RequestError]
) -> gpd.GeoDataFrame:
    """Features of a vector file, in file order, geometries two-dimensional in EPSG:4326.

    The kind of the file is told by what it holds. A GeoJSON without `crs` is EPSG:4326 by its
    standard; so is a table whose coordinates can be degrees. Curves become lines. A geometry
    that cannot be decoded becomes None. Nothing is repaired or dropped.

    Raises:
        error: if the file is missing, is no vector file, has several layers, no CRS or lacks a
            column.
        StorageError: if the store fails for another reason.
    """
    try:
        with local_copy(request.uri, options) as path, open_data_sets(path) as sources:
            frame = _read(sources, request)
        left_out = frame.attrs.get(LEFT_OUT, 0)
        frame = _in_degrees(frame, request)
        frame.attrs[LEFT_OUT] = left_out
        return frame
    except MissingObjectError as cause:
        raise error.of(cause.problem) from cause
    except RequestError as cause:
        part = f"/{cause.where}" if cause.where else ""
        raise error.of(replace(cause.problem, where=f"{request.uri}{part}")) from cause
    except StorageError:
        raise
    except (DataSourceError, DataLayerError, pa.ArrowException, ValueError, OSError) as cause:
        said = gdal_files.first_line(cause)
        raise error("cannot be read as a vector file", request.uri, KNOWN, said) from cause


def _read(sources: list[DataSet], request: VectorRequest) -> gpd.GeoDataFrame:
    if len(sources) > 1:
        sources = [s for s in sources if _has_geometry(s)] or sources
    lines = contents.GEOJSON_LINES
    sources = [
        replace(s, path=gdal_files.expanded_lines(s.path)) if s.format is lines else s
        for s in sources
    ]
    layers = labelled([(source, name) for source in sources for name in _layer_names(source)])
    if not layers:
        raise not_vectors("a table without geometry", "name the file with the geometries")
    frames = [
        _layer(layer, request) for layer in chosen(layers, request.layer, union=request.union)
    ]
    if len(frames) == 1:
        return frames[0]
    return pd.concat([_in_degrees(frame, request) for frame in frames], ignore_index=True)


def _layer_names(source: DataSet) -> list[str]:
    return gdal_files.layer_names(source) if source.format.drivers else [""]


def _has_geometry(source: DataSet) -> bool:
    if source.format not in (contents.TABLE, contents.PARQUET):
        return True
    probe = _READERS[source.format](source.path, Attributes())
    return bool((~probe.geometry.isna()).any())


def _layer(layer: Layer, request: VectorRequest) -> gpd.GeoDataFrame:
    source = layer.source
    if source.format.drivers:
        return gdal_files.read_layer(source, layer.name, request.attributes, request.near)
    if source.format is contents.PARQUET:
        frame = read_parquet(source.path, request.attributes, request.near)
    else:
        frame = _READERS[source.format](source.path, request.attributes)
    if len(frame) == 0:
        raise RequestError("holds no features", "", "features with geometry")
    is_table = source.format in (contents.TABLE, contents.PARQUET)
    if request.needs_geometry and is_table and frame.crs is None and frame.geometry.isna().all():
        raise not_vectors(
            "a table without geometry",
            "add a column `geometry` with WKT, or columns `longitude` and `latitude`",
        )
    return frame


def _in_degrees(frame: gpd.GeoDataFrame, request: VectorRequest) -> gpd.GeoDataFrame:
    if frame.crs is None:
        if not request.needs_geometry and frame.geometry.isna().all():
            return frame
        raise RequestError("file has no CRS", remedy="add it with ogr2ogr -a_srs EPSG:...")
    shapes = shapely.force_2d(np.asarray(frame.geometry.values, object))
    frame = frame.set_geometry(gpd.GeoSeries(list(shapes), index=frame.index, crs=frame.crs))
    frame = frame.rename_geometry("geometry") if frame.geometry.name != "geometry" else frame
    try:
        if frame.crs.equals("EPSG:4326", ignore_axis_order=True):
            return frame
        return frame.to_crs(4326)
    except (CRSError, ProjError) as cause:
        raise RequestError("CRS is not on Earth", got=f"{frame.crs} ({cause})") from cause
