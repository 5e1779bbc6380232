"""Compares the landslides of a map with outlines of known ones."""

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from quakestream.errors import RequestError
from quakestream.outputs.areas import AOI
from quakestream.outputs.coverage import KIND, LANDSLIDES
from quakestream.outputs.matching import utm_of
from quakestream.outputs.notebook import facts_html
from quakestream.outputs.readback import current_object, current_run
from quakestream.outputs.scores import Score, ScoreOptions, score_stored, without_nan
from quakestream.outputs.truth import TruthRequest, read_reference
from quakestream.reduce.metrics import FigureOfSums, Interval, bootstrap_of_sums
from quakestream.storage import Store

IOU = 0.3
"""A slide is found where one of the map shares this much with it: area of both over area of
either. Outlines of slides differ more between people than those of buildings."""
LOOKED_AT = ("scored", "partly_scored", "too_flat")
"""Status of the cells whose ground is compared. Slides on ground that a map took for too flat are
missed ones."""
LEAST_M2 = 100.0
"""Smaller slides are not compared: no map has them."""
TRUTH_M2, FOUND_M2, SHARED_M2, TRUTH, FOUND, TRUTH_HIT, FOUND_HIT = range(7)
"""Parts of a group of slides: ground in m², and counts."""
FIGURES: dict[str, FigureOfSums] = {
    "precision": lambda s: _share(s[SHARED_M2], s[FOUND_M2]),
    "recall": lambda s: _share(s[SHARED_M2], s[TRUTH_M2]),
    "f1": lambda s: _share(2 * s[SHARED_M2], s[TRUTH_M2] + s[FOUND_M2]),
    "iou": lambda s: _share(s[SHARED_M2], s[TRUTH_M2] + s[FOUND_M2] - s[SHARED_M2]),
    "polygon_precision": lambda s: _share(s[FOUND_HIT], s[FOUND]),
    "polygon_recall": lambda s: _share(s[TRUTH_HIT], s[TRUTH]),
}
"""Figures of the summed parts of groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideIntervals:
    """Figures of a `SlideScore` with their 95 % intervals."""

    precision: Interval
    recall: Interval
    f1: Interval
    iou: Interval
    polygon_precision: Interval
    polygon_recall: Interval


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SlideScore:
    """The result of `quakestream score` for landslides."""

    truth: int
    """Known slides on ground that was looked at."""
    truth_elsewhere: int
    """Known slides that lie, by more than half, where nothing was looked at."""
    found: int
    """Slides of the map on that ground."""
    found_elsewhere: int
    """Slides of the map that lie by more than half outside that ground, which ends with the AOI."""
    truth_small: int
    """Known slides that are smaller than `LEAST_M2` on that ground, and not compared."""
    found_small: int
    """Slides of the map that are as small."""
    truth_km2: float
    found_km2: float
    shared_km2: float
    """Ground of slides of both."""
    precision: float
    """Share of the map's slide ground that is known slide ground; nan where there is none."""
    recall: float
    f1: float
    iou: float
    """Ground of both over ground of either."""
    polygon_iou: float
    """Agreement from which a slide counts as found."""
    polygon_recall: float
    """Share of known slides that one of the map agrees with."""
    polygon_precision: float
    """Share of the map's slides that a known one agrees with."""
    block_m: float
    blocks: int
    """Squares behind the intervals; with few squares the intervals are wide and uncertain."""
    intervals: SlideIntervals
    """The figures with their 95 % intervals."""

    def __repr__(self) -> str:
        return f"<score of {self.found:,} landslides against {self.truth:,}: F1 {self.f1:.3f}>"

    def _repr_html_(self) -> str:
        known = self.intervals
        return facts_html(
            "Landslides against known outlines",
            [
                ("known slides", self.truth),
                ("slides of the map", self.found),
                ("F1 of ground", known.f1.as_text()),
                ("precision of ground", known.precision.as_text()),
                ("recall of ground", known.recall.as_text()),
                ("precision of slides", known.polygon_precision.as_text()),
                ("recall of slides", known.polygon_recall.as_text()),
            ],
        )

    def to_json(self) -> dict[str, Any]:
        """The result as plain values; figures that the data cannot give are null."""
        plain: dict[str, Any] = without_nan(asdict(self))
        return plain


def score_slides_stored(
    store: Store, request: TruthRequest, options: ScoreOptions | None = None
) -> SlideScore:
    """Compares the landslides of a finished map with outlines.

    Args:
        store: the map.
        request: the reference.
        options: of the intervals.

    Raises:
        RequestError: if there is no finished map with landslides, or the reference is unusable.
    """
    run = current_run(store)
    if "landslides" not in run["counts"]:
        raise RequestError(
            "map has no landslides",
            store.uri,
            expected="landslides.parquet",
            remedy="name a bundle under models.landslide and map again",
        )
    slides, cells, areas = (
        gpd.read_parquet(io.BytesIO(current_object(store, run, name)))
        for name in ("landslides.parquet", "coverage.parquet", "areas.parquet")
    )
    known = read_reference(request.uri, request.layer, store.options)
    return score_slides(slides, known, looked_at(cells, areas), options)


def score_map(
    store: Store,
    request: TruthRequest,
    options: ScoreOptions | None = None,
    positive_polygons: TruthRequest | None = None,
    *,
    landslides: bool = False,
) -> Score | SlideScore:
    """Compares a finished map with a reference: its verdicts, or its landslides.

    Args:
        store: the map.
        request: the reference.
        options: of matching and of the intervals.
        positive_polygons: polygons of severe damage; see `score_stored`.
        landslides: compare landslides. Maps without damage do so in any case.

    Raises:
        RequestError: if there is no such map, or the reference is unusable.
    """
    run = current_run(store)
    if landslides or judges_landslides_alone(run):
        return score_slides_stored(store, request, options)
    try:
        return score_stored(store, request, options, positive_polygons)
    except RequestError as error:
        if "landslides" not in run["counts"]:
            raise
        more = "for outlines of landslides give --landslides (in Python landslides=True)"
        remedy = f"{error.problem.remedy}; {more}".lstrip("; ")
        raise RequestError.of(replace(error.problem, remedy=remedy)) from error


def judges_landslides_alone(run: Mapping[str, Any]) -> bool:
    """True for maps of landslides without a model of damage."""
    return "landslides" in run["counts"] and not run.get("bundle")


def looked_at(cells: gpd.GeoDataFrame, areas: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """The ground of the AOI that was looked at for landslides, one outline, EPSG:4326."""
    rows = cells[cells["status"].isin(LOOKED_AT)]
    if KIND in rows.columns:
        rows = rows[rows[KIND] == LANDSLIDES]
    ground = shapely.union_all(rows.geometry.to_numpy())
    aoi = areas.geometry[areas["kind"] == AOI].to_numpy()
    if len(aoi):
        ground = shapely.intersection(ground, shapely.union_all(aoi))
    return gpd.GeoSeries([ground], crs=4326)


def score_slides(
    slides: gpd.GeoDataFrame,
    known: gpd.GeoDataFrame,
    ground: gpd.GeoSeries,
    options: ScoreOptions | None = None,
) -> SlideScore:
    """Compares slides with known ones on some ground, in the UTM zone of its centre.

    Args:
        slides: rows of landslides.parquet.
        known: outlines of known slides; columns do not matter.
        ground: what is compared, one outline.
        options: of the intervals.

    Raises:
        RequestError: if the reference holds no polygons, or none of them lies on the ground.
    """
    if ground.is_empty.all():
        raise RequestError(
            "nothing to compare: no ground was looked at for landslides", "coverage.parquet"
        )
    _check_polygons(known)
    crs = utm_of(gpd.GeoDataFrame(geometry=ground))
    plane = ground.to_crs(crs).make_valid().iloc[0]
    truth_N, truth_elsewhere, truth_small = _on(known, plane, crs)
    found_N, found_elsewhere, found_small = _on(slides, plane, crs)
    if not len(truth_N):
        raise RequestError(
            "nothing to compare: no slide of the reference lies on ground that was looked at",
            "reference",
            got=f"{len(known):,} slides",
            remedy="give the reference of this area",
        )
    options = options or ScoreOptions()
    groups = _groups(truth_N, found_N)
    sums = groups.parts_G7.sum(axis=0)
    block_G = groups.blocks(options.block_m)

    def interval(figure: FigureOfSums) -> Interval:
        return bootstrap_of_sums(
            figure, groups.parts_G7, block_G, resamples=options.resamples, seed=options.seed
        )

    return SlideScore(
        truth=len(truth_N),
        truth_elsewhere=truth_elsewhere,
        found=len(found_N),
        found_elsewhere=found_elsewhere,
        truth_small=truth_small,
        found_small=found_small,
        truth_km2=float(sums[TRUTH_M2]) / 1e6,
        found_km2=float(sums[FOUND_M2]) / 1e6,
        shared_km2=float(sums[SHARED_M2]) / 1e6,
        **{name: figure(sums) for name, figure in FIGURES.items()},
        polygon_iou=IOU,
        block_m=options.block_m,
        blocks=len(np.unique(block_G)),
        intervals=SlideIntervals(**{name: interval(figure) for name, figure in FIGURES.items()}),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Groups:
    """Slides of both sides that touch each other, group by group.

    A group is resampled as a whole, so that a known slide stays beside the one that found it.
    """

    parts_G7: NDArray[np.float64]
    """Parts of each group, in the order above."""
    middle_G2: NDArray[np.float64]
    """Centre of each group, metres."""

    def blocks(self, block_m: float) -> NDArray[np.int64]:
        """Index of the square of side `block_m` that holds each centre; with 0, one per group."""
        if block_m <= 0:
            return np.arange(len(self.middle_G2))
        squares_G2 = np.floor(self.middle_G2 / block_m).astype(np.int64)
        return np.unique(squares_G2, axis=0, return_inverse=True)[1].reshape(-1)


def _groups(truth_N: NDArray[np.object_], found_N: NDArray[np.object_]) -> _Groups:
    """The groups of slides that touch, with their ground and their counts."""
    every_N = np.concatenate([truth_N, found_N])
    first_A, second_A = shapely.STRtree(every_N).query(every_N, predicate="intersects")
    links = coo_array((np.ones(len(first_A)), (first_A, second_A)), shape=(len(every_N),) * 2)
    count, group_N = connected_components(links, directed=False)
    known_N = np.arange(len(every_N)) < len(truth_N)
    hit_N = np.concatenate(_hits(truth_N, found_N))
    order = np.argsort(group_N, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(group_N, minlength=count))[:-1])
    parts_G7, middle_G2 = np.zeros((count, 7)), np.zeros((count, 2))
    for group, rows in enumerate(members):
        known = known_N[rows]
        truth, found = (shapely.union_all(every_N[rows[side]]) for side in (known, ~known))
        shared = shapely.intersection(truth, found).area
        hits = hit_N[rows]
        parts_G7[group] = (
            *(truth.area, found.area, shared, known.sum(), (~known).sum()),
            *((hits & known).sum(), (hits & ~known).sum()),
        )
        middle = shapely.envelope(shapely.union(truth, found)).centroid
        middle_G2[group] = middle.x, middle.y
    return _Groups(parts_G7=parts_G7, middle_G2=middle_G2)


def _check_polygons(known: gpd.GeoDataFrame) -> None:
    outlines = pd.Series(known.geometry) if "geometry" in known.columns else pd.Series([])
    flat = [shapely.get_dimensions(one) for one in outlines]
    if known.crs is None or not any(dimension == 2 for dimension in flat):
        kinds = sorted({one.geom_type for one in outlines if one is not None}) or ["no geometry"]
        raise RequestError(
            "landslides are compared with outlines",
            "reference",
            expected="polygons",
            got=", ".join(kinds),
            remedy="give a file of slide polygons",
        )


def _on(rows: gpd.GeoDataFrame, plane: Any, crs: object) -> tuple[NDArray[np.object_], int, int]:
    """Outlines cut to the ground; how many lie elsewhere by more than half; how many are small."""
    whole_N = rows.geometry.to_crs(crs).make_valid().to_numpy()
    whole_N = whole_N[shapely.get_dimensions(whole_N) == 2]
    inside_N = shapely.intersection(whole_N, plane)
    area_N = shapely.area(inside_N)
    elsewhere_N = 2 * area_N < shapely.area(whole_N)
    small_N = ~elsewhere_N & (area_N < LEAST_M2)
    return inside_N[~elsewhere_N & ~small_N], int(elsewhere_N.sum()), int(small_N.sum())


def _hits(
    truth_N: NDArray[np.object_], found_N: NDArray[np.object_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """True for the slides of each side that one of the other agrees with."""
    truth_A, found_A = shapely.STRtree(found_N).query(truth_N, predicate="intersects")
    both_A = shapely.area(shapely.intersection(truth_N[truth_A], found_N[found_A]))
    either_A = shapely.area(truth_N[truth_A]) + shapely.area(found_N[found_A]) - both_A
    hit_A = both_A >= IOU * either_A
    truth_hit_N, found_hit_N = np.zeros(len(truth_N), np.bool_), np.zeros(len(found_N), np.bool_)
    truth_hit_N[truth_A[hit_A]] = True
    found_hit_N[found_A[hit_A]] = True
    return truth_hit_N, found_hit_N


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else math.nan
