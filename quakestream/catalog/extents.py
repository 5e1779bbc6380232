"""Ground shown by scenes and rasters, in EPSG:4326."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Issue, Scene
from quakestream.tiling.antimeridian import cut_one_at_180

_EDGE_POINTS = 20
_SEAM_DEG = 4e-6
"""Width of the cracks between tiles that are closed, about 0.4 m: edges that two tiles share are
not the same in degrees, and catalogues round them."""


def polygons_of(geometry: BaseGeometry) -> BaseGeometry:
    """The polygons of a geometry; an empty polygon where it has none."""
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        return geometry
    parts = [
        part
        for part in shapely.get_parts(shapely.get_parts(geometry))
        if part.geom_type == "Polygon"
    ]
    return shapely.union_all(parts) if parts else shapely.Polygon()


def scene_extent(scene: Scene) -> BaseGeometry:
    """Ground shown by a scene, EPSG:4326: the overlap of its item's outline and its raster.

    The raster's edges are densified, since straight lines of a UTM zone bend in degrees.
    Where the two do not meet, the raster counts (`extent_issues` reports it). Before the
    header is known, the outline counts alone. The outline of an acquisition is made of its tiles
    (`tiles_extent`).
    """
    if scene.tiles:
        return scene.outline
    outline = polygons_of(shapely.make_valid(scene.outline))
    raster = _raster_outline(scene)
    if raster is None:
        return outline
    both = polygons_of(shapely.intersection(outline, raster))
    return raster if both.is_empty else both


def tiles_extent(tiles: Sequence[Scene]) -> BaseGeometry:
    """Ground shown by tiles, with narrow cracks between them closed and the outer edge as it is."""
    extents = [scene_extent(tile) for tile in tiles]
    wide = shapely.union_all(shapely.buffer(extents, _SEAM_DEG / 2, join_style="mitre"))
    # mitred outwards, so that corners stay; not inwards, where mitres cut across notches
    return polygons_of(shapely.buffer(wide, -_SEAM_DEG / 2, join_style="round"))


def extent_issues(scenes: Sequence[Scene]) -> list[Issue]:
    """Scenes whose file lies outside the outline of their item."""
    issues = []
    for scene in scenes:
        raster = _raster_outline(scene)
        if raster is not None and not shapely.intersects(shapely.make_valid(scene.outline), raster):
            cause = "file lies outside the outline of its item; the file's position is used"
            issues.append(Issue(subject=scene.id, kind="scene", cause=cause))
    return issues


def _raster_outline(scene: Scene) -> BaseGeometry | None:
    if scene.transform is None or scene.shape is None or not scene.crs_wkt:
        return None
    height, width = scene.shape
    return raster_outline(scene.crs_wkt, tuple(scene.transform)[:6], height, width)


@lru_cache(maxsize=4096)
def raster_outline(
    crs_wkt: str, transform: tuple[float, ...], height: int, width: int
) -> BaseGeometry:
    """Outline of a raster in EPSG:4326, with densified edges, cut at 180°.

    It is empty where the raster reaches beyond what its CRS can express.
    """
    a, b, c, d, e, f = transform
    step = np.linspace(0.0, 1.0, _EDGE_POINTS, endpoint=False)
    zero, one = np.zeros_like(step), np.ones_like(step)
    col = np.concatenate([step, one, 1 - step, zero]) * width
    row = np.concatenate([zero, step, one, 1 - step]) * height
    lon, lat = _to_degrees(crs_wkt).transform(a * col + b * row + c, d * col + e * row + f)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return shapely.Polygon()
    outline = shapely.Polygon(np.column_stack([lon, lat]))
    return polygons_of(shapely.make_valid(cut_one_at_180(outline)))


@lru_cache(maxsize=64)
def _to_degrees(crs_wkt: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(crs_wkt, 4326, always_xy=True)
