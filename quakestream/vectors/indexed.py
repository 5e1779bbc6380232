"""Reads only the features near a box from files with a spatial index: FlatGeobuf, GeoPackage."""

from collections.abc import Callable, Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
from pyproj.exceptions import ProjError

from quakestream.vectors import contents
from quakestream.vectors.datasets import DataSet
from quakestream.vectors.selection import LEFT_OUT, MARGIN_DEG, Box


def read_indexed(
    source: DataSet,
    info: Mapping[str, Any],
    box: Box,
    read: Callable[[dict[str, Any]], gpd.GeoDataFrame],
    request: Mapping[str, Any],
) -> gpd.GeoDataFrame | None:
    """Features whose bounds meet a box, in file order; `attrs[LEFT_OUT]` counts the others.

    The index of the frame is that of `read`: feature numbers where they are asked for.

    Args:
        source: the file.
        info: what pyogrio says of the layer.
        box: degrees.
        read: reads the layer as pyogrio's arguments say.
        request: the arguments for the whole layer.

    Returns:
        None where all features are to be read: there is no index, or features that are not in
        it; the place of the box is not known; none is near; or a value of the columns is missing
        or not unique, whose meaning hangs on other rows.
    """
    if not info["capabilities"]["fast_spatial_filter"] or not _index_has_all(source, info):
        return None
    place = _placed(box, info)
    if place is None:
        return None
    columns = request["columns"]
    if columns:
        values = pyogrio.read_dataframe(source.path, **request, read_geometry=False, use_arrow=True)
        if any(values[c].isna().any() or values[c].duplicated().any() for c in columns):
            return None
    frame = read({**request, "bbox": place, "fid_as_index": True})
    if frame.empty:
        return None
    frame = frame.sort_index()
    frame.attrs[LEFT_OUT] = int(info["features"]) - len(frame)
    return frame


def _index_has_all(source: DataSet, info: Mapping[str, Any]) -> bool:
    """True if each feature is in the index. Those without a geometry are not."""
    if source.format is contents.FLATGEOBUF:  # it takes no such features beside an index
        return True
    if source.format is not contents.GPKG:
        return False
    table = f"rtree_{info['layer_name']}_{info['geometry_name']}".replace('"', '""')
    query = f'SELECT count(*) AS n FROM "{table}"'  # noqa: S608  # quoted; the file is only read
    try:
        found = pyogrio.read_dataframe(source.path, sql=query, read_geometry=False)
    except pyogrio.errors.DataLayerError:
        return False
    return bool(found["n"].iloc[0] == info["features"])


def _placed(box: Box, info: Mapping[str, Any]) -> Box | None:
    """The box in the CRS of the layer; None where it is not known, or either passes 180°."""
    west, south, east, north = box
    margin = MARGIN_DEG
    wide = (west - margin, south - margin, east + margin, north + margin)
    if info["crs"] is None or wide[0] < -180 or wide[2] > 180:
        return None
    try:
        crs = pyproj.CRS.from_user_input(info["crs"])
        to_layer = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
        place: Box = to_layer.transform_bounds(*wide, densify_pts=101)
    except ProjError:
        return None
    first, _, last, _ = info["total_bounds"] or (-np.inf, 0, np.inf, 0)
    beyond = crs.is_geographic and not -180 <= first <= last <= 180
    return place if np.isfinite(place).all() and place[0] <= place[2] and not beyond else None
