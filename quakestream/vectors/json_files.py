"""Reads JSON that is not GeoJSON: features of ArcGIS services (Esri JSON), and xBD labels."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from quakestream.errors import RequestError
from quakestream.storage.limits import DOCUMENT
from quakestream.vectors.contents import parsed_json
from quakestream.vectors.selection import FID, Attributes

_WEB_MERCATOR = {102100: 3857, 102113: 3857, 900913: 3857}
"""Esri's numbers of CRSs that have another one in the EPSG register."""


def read_esri_json(path: Path, attributes: Attributes) -> gpd.GeoDataFrame:
    """Features of an answer of an ArcGIS feature service.

    Source: https://developers.arcgis.com/rest/services-reference/enterprise/geometry-objects/

    Raises:
        RequestError: if it is damaged, too large, lacks a column, or was cut by its service.
    """
    document = _document(path)
    features = document.get("features")
    if not isinstance(features, list) or not all(isinstance(f, dict) for f in features):
        raise RequestError("is damaged", "", "a list of features", "none")
    if document.get("exceededTransferLimit"):
        raise RequestError(
            "is cut: its service gives no more features at once",
            got=f"{len(features):,} features",
            remedy="ask for the rest too (resultOffset), or export the layer",
        )
    rows = pd.DataFrame([f.get("attributes") or {} for f in features])
    columns = attributes.among(list(rows.columns))
    shapes = [_shape(f.get("geometry")) for f in features]
    frame = gpd.GeoDataFrame(rows[columns], geometry=shapes)
    if attributes.wants_fid(list(rows.columns)):
        frame[FID] = np.arange(len(frame))
    reference = document.get("spatialReference") or {}
    code = reference.get("latestWkid") or reference.get("wkid")
    if code is None:
        return frame.set_crs(reference["wkt"]) if reference.get("wkt") else frame
    return frame.set_crs(_crs_name(int(code)))


def read_xbd(path: Path, attributes: Attributes) -> gpd.GeoDataFrame:
    """Buildings of an xBD label file: WKT in degrees with `subtype` and `uid`.

    Source: https://arxiv.org/abs/1911.09296
    """
    rows = _document(path).get("features", {}).get("lng_lat", [])
    try:
        shapes = shapely.from_wkt([row["wkt"] for row in rows], on_invalid="ignore")
        table = pd.DataFrame([row["properties"] for row in rows])
    except (TypeError, KeyError) as error:
        raise RequestError("is damaged", "", "xBD labels", f"no {error}") from error
    if "subtype" in table:
        table["subtype"] = table["subtype"].fillna("un-classified")
    elif attributes.every:
        table["subtype"] = "un-classified"
    columns = attributes.among(list(table.columns))
    return gpd.GeoDataFrame(table[columns], geometry=list(shapes), crs=4326)


def _document(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > DOCUMENT.most_bytes:
        raise RequestError(
            "is too large", "", f"at most {DOCUMENT.most_bytes:,} bytes", f"{size:,}"
        )
    document = parsed_json(path.read_bytes())
    if not isinstance(document, dict):
        raise RequestError("is damaged", "", "JSON", "text that ends too early or is no JSON")
    return document


def _crs_name(code: int) -> str:
    code = _WEB_MERCATOR.get(code, code)
    # Esri's own numbers begin at 37000 and 102000
    return f"ESRI:{code}" if code >= 37_000 and code != 900_913 else f"EPSG:{code}"


def _shape(geometry: Any) -> BaseGeometry | None:
    """A shape of Esri's members; None where there is none, or it cannot be decoded."""
    if not isinstance(geometry, dict):
        return None
    try:
        if "rings" in geometry:
            return _polygon([_line(ring) for ring in geometry["rings"]])
        if "paths" in geometry:
            return shapely.MultiLineString([_line(path) for path in geometry["paths"]])
        if "points" in geometry:
            return shapely.MultiPoint(_line(geometry["points"]))
        if geometry.get("x") is not None:
            return shapely.Point(float(geometry["x"]), float(geometry["y"]))
    except (TypeError, ValueError, IndexError, KeyError, shapely.GEOSException):
        return None
    return None


def _line(points: list[list[float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y, *_ in points]


def _polygon(rings: list[list[tuple[float, float]]]) -> BaseGeometry:
    """Rings in any order and direction: a ring inside another is its hole, as ArcGIS draws it."""
    if len(rings) == 1:
        return shapely.Polygon(rings[0])
    area: BaseGeometry = shapely.build_area(shapely.MultiLineString(rings))
    return area
