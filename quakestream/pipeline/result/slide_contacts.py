"""What landslides touch: buildings on or near them, and metres of road."""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from quakestream.config import RunFile
from quakestream.domain import Issue
from quakestream.errors import QuakestreamError, RequestError
from quakestream.outputs.landslides import REACH_M
from quakestream.pipeline.planning.plan import Plan
from quakestream.tiling import project
from quakestream.vectors import VectorRequest, read_vectors


def with_contacts(
    slides: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame, plan: Plan
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """Slides with the buildings and roads that they touch, and buildings with their slide.

    Args:
        slides: rows of the product.
        buildings: one row per footprint, in the order of the plan.
    """
    nearest = nearest_slides(slides, plan)
    names = np.array([*slides["landslide_id"], None], object)
    buildings = buildings.assign(
        landslide_id=names[nearest.slide_N], landslide_distance_m=nearest.distance_N
    )
    slides = slides.assign(
        buildings_touched=nearest.touched_G if len(plan.footprints.table) else None
    )
    return slides, buildings


def with_roads(
    slides: gpd.GeoDataFrame, run: RunFile
) -> tuple[gpd.GeoDataFrame, tuple[Issue, ...]]:
    """Slides with the metres of road in each; an issue where the file cannot be used."""
    if run.roads is None:
        return slides, ()
    request = VectorRequest(uri=run.roads.path, layer=run.roads.layer)
    try:
        lines = read_vectors(request, run.storage_options, RequestError)
    except (QuakestreamError, OSError) as error:
        then = "metres of road are not known"
        return slides, (Issue.of_error(error, run.roads.path, "roads", then),)
    return slides.assign(road_m=road_metres(slides, lines)), ()


def road_metres(slides: gpd.GeoDataFrame, lines: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """Metres of line inside each slide, on the ellipsoid. Lines side by side count each.

    Args:
        lines: EPSG:4326; geometries that are no lines do not count.
    """
    line_N = np.asarray(lines.geometry.values, object)
    line_N = line_N[shapely.get_dimensions(line_N) == 1]
    outline_G = np.asarray(slides.geometry.values, object)
    slide_A, line_A = shapely.STRtree(line_N).query(outline_G, predicate="intersects")
    inside_A = shapely.intersection(line_N[line_A], outline_G[slide_A])
    earth = pyproj.Geod(ellps="WGS84")
    metres = np.zeros(len(outline_G))
    for slide, inside in zip(slide_A.tolist(), inside_A, strict=True):
        metres[slide] += earth.geometry_length(inside)
    return np.round(metres, 2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NearestSlides:
    """The landslide of each of N footprints; the slides are G."""

    slide_N: NDArray[np.int64]
    """Row of the slide, -1 where none is within reach."""
    distance_N: NDArray[np.float64]
    """Metres; 0 on the slide, NaN where none is within reach."""
    touched_G: NDArray[np.int64]
    """Footprints that each slide touches."""


def nearest_slides(slides: gpd.GeoDataFrame, plan: Plan) -> NearestSlides:
    """The nearest slide within `REACH_M` of each footprint; of equals, the lowest id."""
    count = len(plan.footprints.table)
    slide_N = np.full(count, -1, np.int64)
    distance_N = np.full(count, np.nan)
    touched = np.zeros(len(slides), np.int64)
    outline_G = np.asarray(slides.geometry.values, object)
    ids = slides["landslide_id"].to_numpy(str)
    for epsg in np.unique(plan.zone_N).tolist() if len(slides) else ():
        here = np.flatnonzero(plan.zone_N == epsg)
        place_N = _places(plan, here, int(epsg))
        metres_G = project(outline_G, int(epsg))
        tree = shapely.STRtree(place_N)
        slide_A, place_A = tree.query(metres_G, predicate="dwithin", distance=REACH_M)
        distance_A = shapely.distance(metres_G[slide_A], place_N[place_A])
        np.add.at(touched, slide_A[distance_A == 0.0], 1)
        order = np.lexsort((ids[slide_A], distance_A, place_A))
        rows, first = np.unique(place_A[order], return_index=True)
        slide_N[here[rows]] = slide_A[order][first]
        distance_N[here[rows]] = np.round(distance_A[order][first], 2)
    return NearestSlides(slide_N=slide_N, distance_N=distance_N, touched_G=touched)


def _places(plan: Plan, here: NDArray[np.int64], epsg: int) -> NDArray[np.object_]:
    """Outlines of footprints in their zone's CRS; a point where the outline is invalid."""
    place_N = plan.polygon_N[here].copy()
    invalid = np.flatnonzero(shapely.is_missing(place_N))
    if len(invalid):
        points = np.asarray(plan.footprints.representative, object)[here[invalid]]
        place_N[invalid] = project(points, epsg)
    return place_N
