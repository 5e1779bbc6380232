"""Compares the landslides of a map with outlines of known ones."""

import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from quakestream.errors import RequestError
from quakestream.outputs.areas import AOI
from quakestream.outputs.coverage import KIND, LANDSLIDES
from quakestream.outputs.matching import utm_of
from quakestream.outputs.readback import current_object, current_run
from quakestream.outputs.truth import TruthRequest, read_reference
from quakestream.storage import Store

IOU = 0.3
"""A slide is found where one of the map shares this much with it: area of both over area of
either. Outlines of slides differ more between people than those of buildings."""
LOOKED_AT = ("scored", "partly_scored", "too_flat")
"""Status of the cells whose ground is compared. Slides on ground that a map took for too flat are
missed ones."""
LEAST_M2 = 100.0
"""Smaller slides are not compared: no map has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideScore:
    """The result of `quakestream score` for landslides."""

    truth: int
    """Known slides on ground that was looked at."""
    truth_elsewhere: int
    """Known slides that lie, by more than half, where nothing was looked at."""
    found: int
    """Slides of the map on that ground."""
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

    def __repr__(self) -> str:
        return f"<score of {self.found:,} landslides against {self.truth:,}: F1 {self.f1:.3f}>"

    def to_json(self) -> dict[str, Any]:
        """The result as plain values; figures that the data cannot give are null."""
        plain = asdict(self)
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in plain.items()}


def score_slides_stored(store: Store, request: TruthRequest) -> SlideScore:
    """Compares the landslides of a finished map with outlines.

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
    return score_slides(slides, known, looked_at(cells, areas))


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
    slides: gpd.GeoDataFrame, known: gpd.GeoDataFrame, ground: gpd.GeoSeries
) -> SlideScore:
    """Compares slides with known ones on some ground, in the UTM zone of its centre.

    Args:
        slides: rows of landslides.parquet.
        known: outlines of known slides; columns do not matter.
        ground: what is compared, one outline.

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
    truth_N, elsewhere = _on(known, plane, crs)
    found_N, _ = _on(slides, plane, crs)
    if not len(truth_N):
        raise RequestError(
            "nothing to compare: no slide of the reference lies on ground that was looked at",
            "reference",
            got=f"{len(known):,} slides",
            remedy="give the reference of this area",
        )
    truth, found = shapely.union_all(truth_N), shapely.union_all(found_N)
    shared_m2 = float(shapely.intersection(truth, found).area)
    truth_hit_N, found_hit_N = _hits(truth_N, found_N)
    precision, recall = _share(shared_m2, found.area), _share(shared_m2, truth.area)
    return SlideScore(
        truth=len(truth_N),
        truth_elsewhere=elsewhere,
        found=len(found_N),
        truth_km2=truth.area / 1e6,
        found_km2=found.area / 1e6,
        shared_km2=shared_m2 / 1e6,
        precision=precision,
        recall=recall,
        f1=_share(2 * shared_m2, truth.area + found.area),
        iou=_share(shared_m2, truth.area + found.area - shared_m2),
        polygon_iou=IOU,
        polygon_recall=float(truth_hit_N.mean()),
        polygon_precision=float(found_hit_N.mean()) if len(found_N) else math.nan,
    )


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


def _on(rows: gpd.GeoDataFrame, plane: Any, crs: object) -> tuple[NDArray[np.object_], int]:
    """Outlines cut to the ground, and how many lie elsewhere by more than half."""
    whole_N = rows.geometry.to_crs(crs).make_valid().to_numpy()
    whole_N = whole_N[shapely.get_dimensions(whole_N) == 2]
    inside_N = shapely.intersection(whole_N, plane)
    area_N = shapely.area(inside_N)
    elsewhere_N = 2 * area_N < shapely.area(whole_N)
    return inside_N[~elsewhere_N & (area_N >= LEAST_M2)], int(elsewhere_N.sum())


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
