"""Outlines of buildings: digests that name them, and repairs that keep them."""

import hashlib

import numpy as np
import shapely
from numpy.typing import NDArray

_DIGITS = 9
"""Decimals of a degree that name an outline, about 0.1 mm: reprojection differs below that."""
_ID_BYTES = 8
_SAME_AREA = 0.01
"""Largest change of area by a repair, as a share. A bow-tie or an outline that covers itself
twice changes more: what its author meant is not known."""
_POLYGON, _MULTIPOLYGON, _COLLECTION = 3, 6, 7


def outline_digests(geometry_N: NDArray[np.object_]) -> NDArray[np.object_]:
    """An id for each outline (EPSG:4326), 16 hexadecimal digits; None where there is no outline.

    It depends on the outline alone: not on the order of rows, the start or direction of a ring,
    the order of parts, or on whether one polygon is written as a multipolygon.
    """
    single = np.where(
        shapely.get_num_geometries(geometry_N) == 1, shapely.get_geometry(geometry_N, 0), geometry_N
    )
    with np.errstate(invalid="ignore"):  # coordinates may be NaN
        rounded = shapely.transform(single, lambda xy: np.round(xy, _DIGITS) + 0.0)
        wkb_N = shapely.to_wkb(shapely.normalize(rounded), byte_order=1)
    names = [
        None if wkb is None else hashlib.blake2b(wkb, digest_size=_ID_BYTES).hexdigest()
        for wkb in wkb_N
    ]
    return np.array(names, object)


def repaired(geometry_N: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Outlines with those mended that can be without a change of area, and True for these.

    Collections of polygons become multipolygons. Invalid polygons (a ring that touches itself,
    a spike, a hole on the edge) are mended by GEOS. Others stay as they are.
    """
    mended_N = np.zeros(len(geometry_N), np.bool_)
    type_N = shapely.get_type_id(geometry_N)
    suspect_N = (type_N == _COLLECTION) | (
        np.isin(type_N, (_POLYGON, _MULTIPOLYGON)) & ~shapely.is_valid(geometry_N)
    )
    if not suspect_N.any():
        return geometry_N, mended_N
    out_N = geometry_N.copy()
    for row in np.flatnonzero(suspect_N).tolist():
        given = geometry_N[row]
        if not np.isfinite(shapely.get_coordinates(given)).all():
            continue
        parts = shapely.get_parts(given)
        if not np.isin(shapely.get_type_id(parts), (_POLYGON, _MULTIPOLYGON)).all():
            continue
        outline = shapely.make_valid(
            shapely.multipolygons(shapely.get_parts(parts)),
            method="structure",
            keep_collapsed=False,
        )
        area = float(shapely.area(outline))
        if area > 0 and abs(area - float(shapely.area(given))) <= _SAME_AREA * area:
            out_N[row] = outline
            mended_N[row] = True
    return out_N, mended_N
