"""From the commits of landslides to the rows of the product.

The whole numbers of all parts say which of them are one slide. Outlines are read in a second pass,
commit by commit: a slide is held only until the last of its parts was read.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.domain import BundleSpec, Grid
from quakestream.domain.grid import utm_zone_lon
from quakestream.outputs.buildings import TILES_JOINT
from quakestream.outputs.layout import SCORES
from quakestream.outputs.left_out import LEFT_OUT
from quakestream.outputs.products import LargeProduct
from quakestream.outputs.rasters import STEPS, RasterBand, RasterProduct
from quakestream.pipeline.kinds.landslides import LandslideKind, least_pixels
from quakestream.pipeline.kinds.slopes import SLOPE_STEPS
from quakestream.pipeline.planning.jobs import lattices
from quakestream.pipeline.result.buildings import imaged_ground
from quakestream.pipeline.result.context import KindProducts, RunContext
from quakestream.pipeline.result.rasters import raster_products
from quakestream.pipeline.result.reduce import failure_issues
from quakestream.pipeline.result.rows import coverage_rows
from quakestream.pipeline.result.slide_parts import SlideParts, read_parts
from quakestream.pipeline.work.ledger import read_commit
from quakestream.reduce.polygons import (
    Columns,
    dissolved,
    groups_of_parts,
    simplified,
    summed_by_group,
)
from quakestream.storage import Store
from quakestream.tiling import split_by_zone, unproject
from quakestream.tiling.antimeridian import cut_at_180

SIMPLIFY_PX = 1.0
"""Largest distance of a simplified outline from the sides of pixels, pixels."""
BORDER_GAP_PX = 2.0
"""Slides of two zones that come this near to each other at the border are one."""
ID_DIGITS = 12
TOO_FLAT = "too_flat"
"""Status of cells in which no window is steep enough."""


def landslide_products(
    store: Store,
    commits: Iterable[str],
    keys: set[str],
    context: RunContext,
    kind: LandslideKind,
) -> KindProducts:
    """The slides as rows, and the probabilities as rasters where the run asks for them."""
    keys_of_commits = list(commits)
    parts = read_parts(store, keys_of_commits, keys, context)
    large: dict[str, LargeProduct] = {}
    if kind.keeps_scores:
        text = "probability of landslide"
        band = RasterBand(name="landslide", description=text, scale=1.0 / STEPS)
        product = RasterProduct(name="scores", prefix=SCORES, bands=(band,))
        large = dict(raster_products(store, keys_of_commits, keys, context, product).large)
    rows = landslide_rows(find_slides(store, parts, context.job.bundle.spec), context)
    steep, record = without_flat(rows, kind.least_slope_deg)
    return KindProducts(
        landslides=steep,
        coverage=_coverage(parts, context),
        large=large,
        issues=tuple(failure_issues(parts.records)),
        record=record,
    )


def _coverage(parts: SlideParts, context: RunContext) -> gpd.GeoDataFrame:
    """One row per cell of the AOI on the lattice of the landslide bundle."""
    plan, job = context.plan, context.job
    area = plan.area_cells
    if job.bundle.spec.gsd_m != plan.bundle.spec.gsd_m:
        lattice_of, zones = lattices(plan.run, job.kind, job.bundle.spec), split_by_zone(plan.aoi)
        area = tuple(c for epsg in sorted(zones) for c in lattice_of(epsg).cells_over(zones[epsg]))
    # Scenes over flat ground alone have no unit. Their cells are too flat, not without imagery.
    return coverage_rows(context, parts.records, imaged_ground(job.posts), area, TOO_FLAT)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slides:
    """S slides of the whole run, one row each, in the order of their places."""

    columns: Columns
    """Sums, as `PolygonParts` has them."""
    outline_N: NDArray[np.object_]
    """Simplified outlines, EPSG:4326."""
    views: list[list[str]]
    """Ids of the views that show each, the one that shows most first."""


def find_slides(store: Store, parts: SlideParts, spec: BundleSpec) -> Slides:
    """Joins parts to slides, leaves out small ones, and joins slides across zones."""
    group_P = groups_of_parts(len(parts), parts.all_runs)
    columns, slide_P = summed_by_group(parts.whole_columns, group_P)
    large_N = columns["pixels_N"] >= least_pixels(spec)
    large_N |= columns["zone_edge_N"] > 0
    number_N = np.where(large_N, np.cumsum(large_N) - 1, -1)
    slide_P = number_N[slide_P] if len(slide_P) else slide_P
    columns = {name: values[large_N] for name, values in columns.items()}
    outline_N = np.empty(int(large_N.sum()), object)
    for slide, outline in _outlines(store, parts, slide_P):
        grid = Grid(epsg=int(columns["zone_N"][slide]), gsd_m=spec.gsd_m)
        outline_N[slide] = _on_earth(outline, grid)
        if columns["zone_edge_N"][slide]:
            outline_N[slide] = _within_zone(outline_N[slide], grid.epsg)
    pixels_P = parts.whole_columns["pixels_N"]
    shown: list[dict[str, int]] = [defaultdict(int) for _ in outline_N]
    for part, slide in enumerate(slide_P.tolist()):
        if slide >= 0:
            shown[slide][parts.views[part]] += int(pixels_P[part])
    return _across_zones(columns, outline_N, shown, spec)


def _outlines(
    store: Store, parts: SlideParts, slide_P: NDArray[np.int64]
) -> Iterator[tuple[int, BaseGeometry]]:
    """Whole outlines in pixels; each slide as soon as its last part was read."""
    left = np.bincount(slide_P[slide_P >= 0], minlength=int(slide_P.max(initial=-1)) + 1)
    held: dict[int, list[Any]] = defaultdict(list)
    of_commit: dict[str, list[int]] = defaultdict(list)
    for part, slide in enumerate(slide_P.tolist()):
        if slide >= 0:
            of_commit[parts.places[part].commit].append(part)
    for name, members in of_commit.items():
        content = read_commit(store, name, ["outline"]).rows.column("outline") if name else None
        for part in members:
            row, slide = parts.places[part].row, int(slide_P[part])
            outline = (
                parts.outlines[row] if content is None else shapely.from_wkb(content[row].as_py())
            )
            held[slide].append(outline)
            left[slide] -= 1
            if not left[slide]:
                yield slide, dissolved(np.array(held.pop(slide), object))


def _on_earth(outline: BaseGeometry, grid: Grid) -> BaseGeometry:
    """An outline in pixels as a simplified one in EPSG:4326."""
    smooth = simplified(outline, SIMPLIFY_PX)
    affine = grid.transform
    metres = shapely.transform(smooth, lambda xy: np.column_stack(affine @ tuple(xy.T)))
    lonlat = unproject(np.array([metres], object), grid.epsg)
    whole: BaseGeometry = cut_at_180(lonlat)[0]
    return whole


def _within_zone(outline: BaseGeometry, epsg: int) -> BaseGeometry:
    """An outline without the little that simplification moved over the border of its zone."""
    south, north = (0.0, 90.0) if epsg < 32700 else (-90.0, 0.0)
    west, east = utm_zone_lon(epsg)
    inside = shapely.intersection(outline, shapely.box(west, south, east, north))
    pieces = [p for p in shapely.get_parts(inside) if p.geom_type == "Polygon" and p.area > 0]
    return shapely.MultiPolygon(pieces) if pieces else outline


def _across_zones(
    columns: Columns,
    outline_N: NDArray[np.object_],
    shown: list[dict[str, int]],
    spec: BundleSpec,
) -> Slides:
    """Slides with those of two zones joined that meet at the border between them.

    Each keeps its outline, which ends there. They are parts of one row.
    """
    group_N = np.arange(len(outline_N))
    for one, other in _meetings(columns, outline_N, spec):
        low, high = sorted((int(group_N[one]), int(group_N[other])))
        group_N[group_N == high] = low
    summed, slide_N = summed_by_group(columns, group_N)
    members: list[list[int]] = [[] for _ in summed["pixels_N"]]
    for n, slide in enumerate(slide_N.tolist()):
        members[slide].append(n)
    large = [n for n in range(len(members)) if summed["pixels_N"][n] >= least_pixels(spec)]
    whole_N = np.empty(len(large), object)
    views = []
    for place, slide in enumerate(large):
        pieces = [p for n in members[slide] for p in shapely.get_parts(outline_N[n])]
        whole_N[place] = pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)
        pixels: dict[str, int] = defaultdict(int)
        for n in members[slide]:
            for view, count in shown[n].items():
                pixels[view] += count
        views.append(sorted(pixels, key=lambda view: (-pixels[view], view)))
    return Slides(
        columns={name: values[large] for name, values in summed.items()},
        outline_N=whole_N,
        views=views,
    )


def _meetings(
    columns: Columns, outline_N: NDArray[np.object_], spec: BundleSpec
) -> list[tuple[int, int]]:
    """Pairs of slides of two zones that are less than `BORDER_GAP_PX` apart."""
    edge = np.flatnonzero(columns["zone_edge_N"])
    if not len(edge):
        return []
    lat = shapely.bounds(outline_N[edge])[:, [1, 3]].mean(axis=1)
    near_m = BORDER_GAP_PX * spec.gsd_m
    metres_N = np.array(
        [_plane(outline, at) for outline, at in zip(outline_N[edge], lat, strict=True)], object
    )
    tree = shapely.STRtree(metres_N)
    one_A, other_A = tree.query(metres_N, predicate="dwithin", distance=near_m)
    zone = columns["zone_N"][edge]
    differs = (zone[one_A] != zone[other_A]) & (one_A < other_A)
    return [
        (int(edge[a]), int(edge[b])) for a, b in zip(one_A[differs], other_A[differs], strict=True)
    ]


def _plane(outline: BaseGeometry, lat: float) -> BaseGeometry:
    """An outline in metres on a plane where 180° is no border.

    Longitudes count from the nearest border between zones, so that no distance there is large.
    """
    degree_m = 111_320.0

    def moved(xy_N2: NDArray[np.float64]) -> NDArray[np.float64]:
        east = np.where(xy_N2[:, 0] < -90.0, xy_N2[:, 0] + 360.0, xy_N2[:, 0])
        scale = np.cos(np.radians(np.round(lat, 1)))
        return np.column_stack([east * degree_m * scale, xy_N2[:, 1] * degree_m])

    plane: BaseGeometry = shapely.transform(outline, moved)
    return plane


def landslide_rows(slides: Slides, context: RunContext) -> gpd.GeoDataFrame:
    """One row per slide."""
    spec, sums = context.job.bundle.spec, slides.columns
    pixels_N = np.maximum(sums["pixels_N"], 1)
    views = {view.id: view for view in context.plan.views}
    first = [views[ids[0]] for ids in slides.views]
    scenes = [list(dict.fromkeys(views[v].post.id for v in ids)) for ids in slides.views]
    sloping_N = sums["slope_pixels_N"]
    slope_N = np.full(len(pixels_N), np.nan)
    np.divide(sums["slope_sum_N"], sloping_N * float(SLOPE_STEPS), out=slope_N, where=sloping_N > 0)
    deviation_N = sums["deviation_sum_N"] / (pixels_N * STEPS)
    columns: dict[str, Any] = {
        "landslide_id": [slide_id(*place) for place in _places(sums, spec)],
        "area_m2": _areas(sums, spec),
        "probability": sums["p_sum_N"] / (pixels_N * STEPS),
        "max_probability": sums["p_max_N"] / STEPS,
        "uncertainty": deviation_N if spec.deviation else np.nan,
        "slope_deg": slope_N,
        "evidence": "image",
        "scene_post": [TILES_JOINT.join(ids) for ids in scenes],
        "acquired_post": pd.to_datetime([v.post.datetime for v in first], utc=True),
        "model": spec.name,
        "model_digest": context.job.bundle.digest,
        "run_id": context.constants["run_id"],
    }
    index = pd.RangeIndex(len(slides.outline_N))
    return gpd.GeoDataFrame(
        pd.DataFrame(columns, index=index), geometry=list(slides.outline_N), crs=4326
    )


def without_flat(
    rows: gpd.GeoDataFrame, least_slope_deg: float
) -> tuple[gpd.GeoDataFrame, dict[str, Any]]:
    """The slides on ground that is steep enough or of unknown slope, and what was left out.

    Args:
        rows: all slides.
        least_slope_deg: least mean slope of the ground of a slide.
    """
    flat = rows["slope_deg"].to_numpy(np.float64) < least_slope_deg  # false for NaN
    if not flat.any():
        return rows, {}
    record = {
        "flatter_than_deg": least_slope_deg,
        "slides": int(flat.sum()),
        "km2": round(float(rows["area_m2"][flat].sum()) / 1e6, 6),
    }
    return rows[~flat].reset_index(drop=True), {LEFT_OUT: record}


def slide_id(epsg: int, gsd_m: float, row: int, col: int) -> str:
    """The id of a slide: a digest of the place of its first pixel, and of nothing else."""
    text = f"{epsg}/{gsd_m:g}/{row}/{col}"
    return f"ls-{hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]}"


def _places(sums: Columns, spec: BundleSpec) -> Iterator[tuple[int, float, int, int]]:
    for epsg, row, col in zip(sums["zone_N"], sums["row_N"], sums["col_N"], strict=True):
        yield int(epsg), spec.gsd_m, int(row), int(col)


def _areas(sums: Columns, spec: BundleSpec) -> NDArray[np.float64]:
    """Area on the ground, m²: pixels of the grid, less what its projection enlarges them."""
    area_N: NDArray[np.float64] = sums["pixels_N"].astype(np.float64) * spec.gsd_m**2
    for epsg in np.unique(sums["zone_N"]).tolist():
        here = sums["zone_N"] == epsg
        affine = Grid(epsg=int(epsg), gsd_m=spec.gsd_m).transform
        x, y = affine @ (sums["col_N"][here], sums["row_N"][here])
        projection = pyproj.Proj(f"EPSG:{epsg}")
        lon, lat = projection(x, y, inverse=True)
        area_N[here] = area_N[here] / projection.get_factors(lon, lat).areal_scale
    return area_N
