"""The area of interest: a vector file, WKT or a box."""

from dataclasses import replace

import numpy as np
import shapely
from shapely import GEOSException
from shapely.geometry.base import BaseGeometry

from quakestream.catalog.extents import polygons_of
from quakestream.config import LAYER_MARK, aoi_bbox, aoi_kind
from quakestream.errors import AoiError, ConfigError
from quakestream.storage import StorageOptions
from quakestream.tiling.antimeridian import box_of_degrees, cut_one_at_180
from quakestream.vectors import VectorRequest, read_vectors


def read_aoi(aoi: str, options: StorageOptions | None = None) -> BaseGeometry:
    """One valid (multi)polygon in EPSG:4326, from a vector file, WKT, or `west,south,east,north`.

    Several polygons become one, those of all layers unless one is named; lines and points are
    left out. A box whose west is larger than its east crosses 180° and becomes two parts.

    Raises:
        AoiError: if it cannot be read, has no CRS, or holds no area.
        StorageError: if the store fails.
    """
    kind = aoi_kind(aoi)
    if kind == "bbox":
        return _from_bbox(aoi)
    if kind == "wkt":
        return _area([_from_wkt(aoi)], "aoi")
    uri, _, layer = aoi.partition(LAYER_MARK)
    request = VectorRequest(uri=uri, layer=layer or None, union=True)
    frame = read_vectors(request, options or StorageOptions(), AoiError)
    return _area(list(frame.geometry), aoi)


def _from_bbox(text: str) -> BaseGeometry:
    try:
        west, south, east, north = aoi_bbox(text)
    except ConfigError as error:
        raise AoiError.of(replace(error.problem, where="aoi")) from error
    return box_of_degrees(west, south, east, north)


def _from_wkt(text: str) -> BaseGeometry:
    srid, _, rest = text.strip().rpartition(";")
    if srid and srid.upper().replace(" ", "") != "SRID=4326":
        raise AoiError(
            "WKT in another CRS",
            "aoi",
            "EPSG:4326",
            srid,
            "write the polygons to a file with that CRS",
        )
    try:
        return shapely.force_2d(shapely.from_wkt(rest))
    except GEOSException as error:
        raise AoiError("not valid WKT", "aoi", got=str(error)) from error


def _area(geometries: list[BaseGeometry], source: str) -> BaseGeometry:
    usable = [g for g in geometries if g is not None and not g.is_empty and _is_finite(g)]
    union = shapely.union_all([polygons_of(shapely.make_valid(cut_one_at_180(g))) for g in usable])
    if union.is_empty or union.area == 0:
        raise AoiError("holds no area", source, "polygons", _without_area(geometries))
    west, south, east, north = union.bounds
    if west < -180.0 or east > 180.0 or south < -90.0 or north > 90.0:
        bounds = ", ".join(f"{v:g}" for v in union.bounds)
        raise AoiError("reaches beyond the Earth", source, got=bounds, remedy="check its CRS")
    return union


def _without_area(geometries: list[BaseGeometry]) -> str:
    """What is there instead of an area: `Point`, `an empty geometry`, `Polygon without area`."""
    kinds = sorted({g.geom_type for g in geometries if g is not None and not g.is_empty})
    if not kinds:
        return "an empty geometry" if any(g is not None for g in geometries) else "nothing"
    return ", ".join(f"{k} without area" if "Polygon" in k else k for k in kinds)


def _is_finite(geometry: BaseGeometry) -> bool:
    return bool(np.isfinite(shapely.get_coordinates(geometry)).all())
