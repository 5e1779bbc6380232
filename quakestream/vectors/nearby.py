"""Reads only the features near a box from GeoParquet files with a column of bounds.

A file of a country holds a hundred times an AOI, and a decoded outline takes a kilobyte or two. The
bounds (`covering.bbox` of GeoParquet 1.1, as Overture writes it) take 16 bytes. They are not
believed blindly: where an outline that is read reaches beyond its bounds, the whole file is read.
"""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyproj
import shapely
from numpy.typing import NDArray

from quakestream.vectors.gdal_files import EXACT
from quakestream.vectors.selection import LEFT_OUT, MARGIN_DEG, Box

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_near(path: Path, box: Box, columns: list[str]) -> gpd.GeoDataFrame | None:
    """Features whose bounds meet a box, in file order; `attrs[LEFT_OUT]` counts the others.

    Returns:
        None where all features are to be read: the file has no usable bounds or another CRS than
        degrees, none or all are near, or a value of the columns is missing or not unique, whose
        meaning hangs on other rows.
    """
    with pq.ParquetFile(path) as file:
        geo = json.loads((file.schema_arrow.metadata or {})[b"geo"])
        primary = str(geo["primary_column"])
        about = geo["columns"][primary]
        sides = _covering(about, file)
        if sides is None or about.get("encoding") != "WKB" or not _in_degrees(about):
            return None
        values = file.read(columns=columns)
        if any(_repeats(values[name]) for name in columns):
            return None
        bounds_N4 = _bounds(file, sides)
        if bounds_N4 is None:
            return None
        near_N = _meets(bounds_N4, box)
        if near_N.all() or not near_N.any():
            return None
        wkb = _geometry_of(file, primary, near_N)
    shape_N = np.asarray(shapely.from_wkb(wkb, on_invalid="ignore"), object)
    if not _within(shape_N, bounds_N4[near_N]):
        return None
    frame = gpd.GeoDataFrame(
        values.filter(pa.array(near_N)).to_pandas(**EXACT), geometry=list(shape_N), crs=4326
    )
    frame.attrs[LEFT_OUT] = int((~near_N).sum())
    return frame


def _covering(about: dict[str, Any], file: pq.ParquetFile) -> list[str] | None:
    """Paths of the columns with the bounds; None where there are none."""
    try:
        paths = [".".join(about["covering"]["bbox"][side]) for side in _SIDES]
    except (KeyError, TypeError):
        return None
    known = {file.schema.column(n).path for n in range(len(file.schema))}
    return paths if set(paths) <= known else None


def _in_degrees(about: dict[str, Any]) -> bool:
    """True if a column is in longitude and latitude of WGS 84, which is GeoParquet's default."""
    if "crs" not in about:
        return True
    if about["crs"] is None:
        return False
    crs = pyproj.CRS.from_user_input(about["crs"])
    return bool(crs.equals(pyproj.CRS.from_epsg(4326), ignore_axis_order=True))


def _repeats(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count) or pc.count_distinct(column).as_py() < len(column)


def _bounds(file: pq.ParquetFile, paths: list[str]) -> NDArray[np.float64] | None:
    """Bounds of every row, shape (N, 4); NaN where the file says none."""
    table = file.read(columns=paths).flatten()
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    if set(paths) - set(table.column_names):
        return None
    numbers = [table[name].cast(pa.float64()).to_numpy() for name in paths]
    bounds_N4: NDArray[np.float64] = np.stack(numbers, axis=1)
    return bounds_N4


def _meets(bounds_N4: NDArray[np.float64], box: Box) -> NDArray[np.bool_]:
    """True for bounds that meet a box, and for those that are unknown or beyond 180°."""
    west, south, east, north = box
    margin = MARGIN_DEG
    minx_N, miny_N, maxx_N, maxy_N = bounds_N4.T
    with np.errstate(invalid="ignore"):
        apart_N = (minx_N > east + margin) | (maxx_N < west - margin)
        apart_N |= (miny_N > north + margin) | (maxy_N < south - margin)
        plain_N = (minx_N >= -180) & (maxx_N <= 180) & (maxx_N - minx_N < 180)
    near_N: NDArray[np.bool_] = ~(apart_N & plain_N)
    return near_N


def _geometry_of(
    file: pq.ParquetFile, primary: str, near_N: NDArray[np.bool_]
) -> NDArray[np.object_]:
    """The geometries of rows, as WKB. Row groups without any are not read."""
    parts, first = [], 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        here = near_N[first : first + rows]
        first += rows
        if here.any():
            column = file.read_row_group(group, columns=[primary])[primary]
            if isinstance(column.type, pa.BaseExtensionType):
                column = pa.chunked_array([chunk.storage for chunk in column.chunks])
            parts.append(column.filter(pa.array(here)).to_numpy())
    return np.concatenate(parts) if parts else np.empty(0, object)


def _within(shape_N: NDArray[np.object_], bounds_N4: NDArray[np.float64]) -> bool:
    """True if no outline reaches beyond its bounds."""
    own_N4 = shapely.bounds(shape_N)
    with np.errstate(invalid="ignore"):
        beyond_N = (own_N4[:, :2] < bounds_N4[:, :2] - MARGIN_DEG).any(axis=1)
        beyond_N |= (own_N4[:, 2:] > bounds_N4[:, 2:] + MARGIN_DEG).any(axis=1)
    return not bool(beyond_N.any())
