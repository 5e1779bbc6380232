"""Rows of the products, from the plan and the sums."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.catalog import scene_extent
from quakestream.domain import BundleSpec, Quality, Scene
from quakestream.fusion import prior_of
from quakestream.hazard.units import measure_of
from quakestream.outputs.buildings import TILES_JOINT
from quakestream.pipeline.planning.plan import Plan
from quakestream.pipeline.result.context import FootprintHazard, RunContext, ViewFailures
from quakestream.pipeline.result.evidence import HazardEvidence
from quakestream.pipeline.result.reduce import Reduced
from quakestream.pipeline.result.shares import THRESHOLD, RunShares, run_shares
from quakestream.pipeline.work.ledger import CellRecord
from quakestream.raster.pasting import parts_in
from quakestream.reduce import Verdicts, decide, image_probabilities
from quakestream.tiling import Cell, unproject
from quakestream.tiling.antimeridian import cut_at_180

PENDING = "pending"
"""Reason of buildings, and status of cells, that an interim map lacks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuildingRows:
    """The rows of buildings.parquet, and what they say of shares."""

    table: gpd.GeoDataFrame
    """One row per footprint, in the order of the footprint table."""
    shares: dict[str, Any] | None
    """`shares` of run.json; None for a bundle without calibration."""


def building_rows(context: RunContext, reduced: Reduced) -> BuildingRows:
    """One row per footprint."""
    plan, hazard = context.plan, context.hazard
    spec, views_N = plan.bundle.spec, plan.assignment.views_N
    image = decide(reduced.tally, spec, views_N)
    reason_N = _reasons(plan, reduced, context.view_failures, image)
    if context.unread is not None:
        reason_N[context.unread.footprint_N] = PENDING
    assessed_N = np.array([r is None for r in reason_N], np.bool_)
    shares = run_shares(plan, reduced, hazard, image, assessed_N)
    verdicts = _verdicts(plan, reduced, hazard.evidence, shares) or image
    damage = pd.array(np.where(assessed_N, verdicts.damage_N, -1), dtype="Int8")
    damage[~assessed_N] = pd.NA
    columns: dict[str, Any] = {
        "building_id": plan.footprints.table["building_id"].to_numpy(),
        "status": np.where(assessed_N, "assessed", "not_assessed"),
        "reason": reason_N,
        "damage": damage,
        "evidence": evidence_column(assessed_N, hazard, spec),
        "confidence": _blank(verdicts.confidence_N, assessed_N),
        "uncertainty": _blank(verdicts.uncertainty_N, assessed_N),
        "valid_fraction": verdicts.valid_fraction_N,
        "pre_post_difference": verdicts.difference_N if spec.needs_pre else np.nan,
    }
    for c, label in enumerate(spec.labels):
        columns[f"p_{label}"] = _blank(verdicts.p_NC[:, c], assessed_N)
        if hazard.evidence is not None:
            columns[f"p_hazard_{label}"] = hazard.evidence.p_NC[:, c]
    columns |= {} if shares is None else shares.columns(len(reason_N))
    columns |= _view_columns(plan, reduced)
    values = hazard.table.values
    columns |= _hazard_columns(values)
    columns["hazard_missing"] = hazard.table.missing_N
    columns |= context.constants
    outlines = plan.footprints.table.geometry.values
    worst = len(spec.classes) - 1
    return BuildingRows(
        table=gpd.GeoDataFrame(columns, geometry=outlines, crs=4326),
        shares=None
        if shares is None
        else shares.record(assessed_N & (verdicts.damage_N == worst), spec.labels[-1]),
    )


def unjudged_rows(context: RunContext) -> gpd.GeoDataFrame:
    """One row per footprint of a run without a damage model."""
    table, values = context.plan.footprints.table, context.hazard.table.values
    columns: dict[str, Any] = {
        "building_id": table["building_id"].to_numpy(),
        "status": np.full(len(table), "not_assessed", object),
        "reason": np.full(len(table), "no_model", object),
        "damage": pd.array([pd.NA] * len(table), dtype="Int8"),
    }
    columns |= _hazard_columns(values)
    columns["hazard_missing"] = context.hazard.table.missing_N
    columns["run_id"] = context.constants["run_id"]
    return gpd.GeoDataFrame(columns, index=table.index, geometry=table.geometry.values, crs=4326)


def _hazard_columns(values: pd.DataFrame) -> dict[str, Any]:
    """Hazard columns of the product; the shaking of single events is an input of models alone."""
    return {name: values[name].to_numpy() for name in values.columns if measure_of(name) == name}


def _verdicts(
    plan: Plan, reduced: Reduced, evidence: HazardEvidence | None, shares: RunShares | None
) -> Verdicts | None:
    """Verdicts at the share of destroyed buildings, or with the evidence of hazard values.

    None where there is neither: the image decides.
    """
    spec, views_N, tally = plan.bundle.spec, plan.assignment.views_N, reduced.tally
    image_NC = image_probabilities(tally)
    if shares is not None:
        return decide(tally, spec, views_N, shares.all_probabilities(image_NC), THRESHOLD)
    if evidence is not None:
        return decide(tally, spec, views_N, evidence.revised(image_NC, prior_of(spec)))
    return None


def evidence_column(
    assessed_N: NDArray[np.bool_], hazard: FootprintHazard, spec: BundleSpec
) -> NDArray[np.object_]:
    """The evidence behind each row's probabilities.

    `image+hazard`: a verdict to which log-odds of hazard values were added; or, where the
    damage bundle takes hazard values itself, one for which it had at least one of them (no
    log-odds are added then, whatever `models.hazard` says). `image`: a verdict without.
    `hazard`: no verdict, but p_hazard_* from hazard values alone. None: neither.
    """
    values = hazard.table.values
    known_N = np.zeros(len(assessed_N), np.bool_)
    if hazard.evidence is not None:
        known_N = hazard.evidence.there_N
    with_hazard_N = known_N
    if spec.hazard:
        names = [one.name for one in spec.hazard if one.name in values.columns]
        with_hazard_N = values[names].notna().any(axis=1).to_numpy()
    column_N = np.full(len(assessed_N), None, object)
    column_N[assessed_N] = "image"
    column_N[assessed_N & with_hazard_N] = "image+hazard"
    column_N[~assessed_N & known_N] = "hazard"
    return column_N


def _blank(values_N: NDArray[np.float32], keep_N: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(keep_N, values_N, np.nan).astype(np.float32)


def _reasons(
    plan: Plan,
    reduced: Reduced,
    view_failures: ViewFailures,
    verdicts: Verdicts,
) -> NDArray[np.object_]:
    """Why each footprint is not assessed, None where it is: the first cause along the stream."""
    reason_N = np.array(verdicts.reason_N, object)
    failed_N = np.array([f is not None for f in reduced.failure_N], np.bool_)
    reason_N[failed_N] = reduced.failure_N[failed_N]
    assignment = plan.assignment
    zone_A = plan.zone_N[assignment.footprint_A]
    for (view, epsg), failure in sorted(view_failures.items()):
        reason_N[assignment.footprint_A[(assignment.view_A == view) & (zone_A == epsg)]] = failure
    for view, epsg in {(u.view, u.cell.epsg) for u in plan.first.units} - view_failures.keys():
        # another view of the same footprint could be used
        other_F = assignment.footprint_A[(assignment.view_A == view) & (zone_A == epsg)]
        reason_N[other_F] = np.where(failed_N, reduced.failure_N, verdicts.reason_N)[other_F]
    reason_N[(reason_N == "nodata") & _on_lost_tiles(plan)] = "read_error"
    planned_N = np.array([r is not None for r in assignment.reason_N], np.bool_)
    reason_N[planned_N] = assignment.reason_N[planned_N]
    return reason_N


def _on_lost_tiles(plan: Plan) -> NDArray[np.bool_]:
    """Footprints that a tile shows which could not be read."""
    lost_N = np.zeros(len(plan.id_N), np.bool_)
    if plan.lost_tiles:
        outline_N = np.asarray(plan.footprints.table.geometry.values, object)
        extents = [scene_extent(tile) for tile in plan.lost_tiles]
        lost_N[shapely.STRtree(outline_N).query(extents, predicate="intersects")[1]] = True
    return lost_N


def _view_columns(plan: Plan, reduced: Reduced) -> dict[str, Any]:
    """Scenes of each footprint's best view, its date, and the shift measured there."""
    assignment = plan.assignment
    footprint_N, first_N = np.unique(assignment.footprint_A, return_index=True)
    best_N = np.full(len(assignment.reason_N), -1, np.int64)
    best_N[footprint_N] = assignment.view_A[first_N]
    views = plan.assignment.views
    post = [v.post for v in views]
    pre = [v.pre for v in views]
    acquired = pd.to_datetime(pd.Series([*(v.post.datetime for v in views), None]), utc=True)
    measured_N = (best_N >= 0) & (reduced.tally.pixels_NQ.sum(axis=1) > 0)
    return {
        "scene_post": _names(post, best_N, plan),
        "scene_pre": _names(pre, best_N, plan),
        "acquired_post": acquired.to_numpy()[best_N],
        "views": assignment.views_N.astype(np.int16),
        "shift_m": np.where(measured_N, reduced.shift_m_N, np.nan),
        "shift_quality": np.where(measured_N, reduced.shift_quality_N, np.nan),
    }


def _names(
    scenes: Sequence[Scene | None], best_N: NDArray[np.int64], plan: Plan
) -> NDArray[np.object_]:
    """The scene of each footprint; of an acquisition, the tiles that show the footprint.

    Args:
        scenes: a scene of each view.
        best_N: view of each footprint, -1 for none.
    """
    names = np.array([None if s is None else s.id for s in scenes] + [None], object)
    name_N = names[best_N]
    outline_N = np.asarray(plan.footprints.table.geometry.values, object)
    view_A: dict[str, list[int]] = defaultdict(list)
    tiled = {s.id: s for s in scenes if s is not None and s.tiles}
    for view, scene in enumerate(scenes):
        if scene is not None and scene.tiles:
            view_A[scene.id].append(view)
    for scene_id, of_views in view_A.items():
        tiles = tiled[scene_id].tiles
        here = np.flatnonzero(np.isin(best_N, of_views))
        tree = shapely.STRtree([scene_extent(tile) for tile in tiles])
        place_A, tile_A = tree.query(outline_N[here], predicate="intersects")
        shared_A = shapely.intersection(outline_N[here[place_A]], tree.geometries[tile_A])
        area_A = np.round(shapely.area(shared_A), 15)
        shown: dict[int, list[str]] = defaultdict(list)
        for n in np.lexsort((tile_A, -area_A)).tolist():
            shown[int(place_A[n])].append(tiles[int(tile_A[n])].id)
        for place, ids in shown.items():
            name_N[here[place]] = TILES_JOINT.join(ids)
    return name_N


def coverage_rows(
    context: RunContext,
    records: list[CellRecord],
    imaged: BaseGeometry,
    area: Sequence[Cell],
    idle: str,
) -> gpd.GeoDataFrame:
    """One row per cell of the AOI, and per cell beyond its edge that a footprint reaches into.

    Args:
        imaged: ground the post-event scenes show, EPSG:4326.
        area: cells of the AOI on the job's lattice.
        idle: status of cells that are shown and have nothing to score.
    """
    plan, units, view_failures = context.plan, context.job.units, context.view_failures
    unread = frozenset[str]() if context.unread is None else context.unread.cells
    of_cell: dict[str, list[CellRecord]] = defaultdict(list)
    for record in records:
        of_cell[record.cell_id].append(record)
    unit_reason: dict[str, set[str]] = defaultdict(set)
    scenes: dict[str, set[str]] = defaultdict(set)
    for unit in units:
        view = plan.views[unit.view]
        grid, core = unit.cell.grid, unit.cell.core
        scenes[unit.cell.id] |= {
            part.id for scene in view.scenes for part in parts_in(scene, grid, core)
        }
        if failure := view_failures.get((unit.view, unit.cell.epsg)):
            unit_reason[unit.cell.id].add(failure)
    cells = list(dict.fromkeys([*area, *(unit.cell for unit in units)]))
    outline_N = _outlines(cells)
    shapely.prepare(imaged)
    imaged_N = shapely.intersects(imaged, outline_N)
    rows = [
        {
            "cell_id": cell.id,
            **_cell_state(
                of_cell[cell.id],
                unit_reason[cell.id],
                None if cell.id in scenes else idle,
                bool(shown),
            )
            | ({"status": PENDING, "reason": None} if cell.id in unread else {}),
            "scenes": sorted(scenes[cell.id]),
        }
        for cell, shown in zip(cells, imaged_N, strict=True)
    ]
    return gpd.GeoDataFrame(pd.DataFrame(rows), geometry=outline_N, crs=4326)


def _cell_state(
    records: list[CellRecord], unit_reasons: set[str], idle: str | None, imaged: bool
) -> dict[str, Any]:
    quality_Q = np.sum([r.quality for r in records], axis=0) if records else np.zeros(len(Quality))
    total = max(int(quality_Q.sum()), 1)
    failures = unit_reasons | {f.kind for r in records for f in r.failures}
    if idle is not None:
        status, reason = (idle, None) if imaged else ("not_scored", "no_imagery")
    elif failures:
        status, reason = ("partly_scored" if records else "not_scored"), min(failures)
    else:
        status, reason = "scored", None
    known = bool(records) and quality_Q.sum() > 0
    return {
        "status": status,
        "reason": reason,
        "valid_fraction": float(quality_Q[Quality.VALID]) / total if known else None,
        "cloud_fraction": float(quality_Q[Quality.CLOUD]) / total if known else None,
        "shift_m": float(np.median([r.shift_m for r in records])) if records else None,
    }


def _outlines(cells: list[Cell]) -> NDArray[np.object_]:
    outline_N = np.empty(len(cells), object)
    epsg_N = np.array([c.epsg for c in cells])
    for epsg in np.unique(epsg_N):
        here = np.flatnonzero(epsg_N == epsg)
        bounds = np.array([cells[i].grid.bounds(cells[i].core) for i in here])
        outline_N[here] = unproject(shapely.box(*bounds.T), int(epsg))
    return cut_at_180(outline_N)
