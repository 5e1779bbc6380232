"""Ground that scenes and rasters show, in EPSG:4326."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Issue, Scene

_EDGE_POINTS = 20


def polygons_of(geometry: BaseGeometry) -> BaseGeometry:
    """The polygonal part of a geometry; an empty polygon where it has none."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = [
        part
        for part in shapely.get_parts(shapely.get_parts(geometry))
        if part.geom_type == "Polygon"
    ]
    return shapely.union_all(parts) if parts else shapely.Polygon()


def scene_extent(scene: Scene) -> BaseGeometry:
    """Ground a scene shows, EPSG:4326: where its item's outline and its raster overlap.

    The raster's edges are densified, since straight lines of a UTM zone bend in
    degrees. Where the two do not meet the file wins (`extent_issues` says so).
    Before the header is known it is the outline alone.
    """
    outline = polygons_of(shapely.make_valid(scene.outline))
    raster = _raster_outline(scene)
    if raster is None:
        return outline
    both = polygons_of(shapely.intersection(outline, raster))
    return raster if both.is_empty else both


def extent_issues(scenes: Sequence[Scene]) -> list[Issue]:
    """Scenes whose file lies wholly outside the outline their item gives."""
    found = []
    for scene in scenes:
        raster = _raster_outline(scene)
        if raster is not None and not shapely.intersects(shapely.make_valid(scene.outline), raster):
            cause = "its file lies outside the outline of its item; the file is believed"
            found.append(Issue(subject=scene.id, kind="scene", cause=cause))
    return found


def _raster_outline(scene: Scene) -> BaseGeometry | None:
    if scene.transform is None or scene.shape is None or not scene.crs_wkt:
        return None
    height, width = scene.shape
    return raster_outline(scene.crs_wkt, tuple(scene.transform)[:6], height, width)


@lru_cache(maxsize=4096)
def raster_outline(
    crs_wkt: str, transform: tuple[float, ...], height: int, width: int
) -> BaseGeometry:
    """Outline of a raster in EPSG:4326, its edges densified."""
    a, b, c, d, e, f = transform
    step = np.linspace(0.0, 1.0, _EDGE_POINTS, endpoint=False)
    zero, one = np.zeros_like(step), np.ones_like(step)
    col = np.concatenate([step, one, 1 - step, zero]) * width
    row = np.concatenate([zero, step, one, 1 - step]) * height
    lon, lat = _to_degrees(crs_wkt).transform(a * col + b * row + c, d * col + e * row + f)
    return shapely.make_valid(shapely.Polygon(np.column_stack([lon, lat])))


@lru_cache(maxsize=64)
def _to_degrees(crs_wkt: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(crs_wkt, 4326, always_xy=True)
