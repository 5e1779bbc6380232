"""buildings.parquet: one row per footprint, and the check that none is missing (law 3)."""

from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from quakestream.domain import REASONS
from quakestream.errors import AccountingError, ShapeError
from quakestream.outputs.geoparquet import geoparquet_bytes, hilbert_sorted

TILES_JOINT = ";"
"""Between the ids of the tiles that show a building, in `scene_post` and `scene_pre`. The tile
that shows most of it comes first."""
STATUSES = ("assessed", "not_assessed")
EVIDENCE = ("image", "image+hazard", "hazard")
SHAKING_COLUMNS = ("mmi", "pga_g", "pgv_cm_s", "psa03_g", "psa10_g", "psa30_g", "vs30_m_s")
PROBABILITY_TOLERANCE = 1e-3
"""Largest difference of a row's probabilities from sum 1, for float32 rounding."""

SCORE = "score"
"""Mean model probability of the most severe class, in maps of calibrated bundles: before
calibration, and without hazard values."""
SHARE_COLUMNS = ("share", "share_low", "share_high")
"""Expected number of destroyed buildings of the unit around a building as a share of those assessed
there, and the ends of its 90 % interval: as `share_destroyed` of summary.csv."""
SHARE_AREA = "share_area"
"""Unit of summary.csv that the share is of."""
CHECKED = "checked"
"""The answer of a spot check, in maps that were verified by them."""

_REQUIRED = ("building_id", "status", "reason", "damage")


def arrow_types(
    labels: tuple[str, ...], columns: tuple[str, ...] = (), layers: tuple[str, ...] = ()
) -> dict[str, pa.DataType]:
    """Columns of buildings.parquet in order, without `geometry` and `bbox`.

    Args:
        labels: the bundle's classes, mildest first.
        columns: columns of the frame; `checked`, `p_hazard_*`, and `score` with `SHARE_COLUMNS`
            appear only if they are among them.
        layers: hazard-layer columns, in the run file's order.
    """
    types: dict[str, pa.DataType] = {
        "building_id": pa.string(),
        "status": pa.string(),
        "reason": pa.string(),
        "damage": pa.int8(),
        "damage_label": pa.string(),
    }
    if CHECKED in columns:
        types[CHECKED] = pa.string()
    if SCORE in columns:
        types[SCORE] = pa.float32()
    types |= {f"p_{label}": pa.float32() for label in labels}
    if SCORE in columns:
        types |= dict.fromkeys(SHARE_COLUMNS, pa.float32()) | {SHARE_AREA: pa.string()}
    types["evidence"] = pa.string()
    types |= {f"p_hazard_{a}": pa.float32() for a in labels if f"p_hazard_{a}" in columns}
    types |= dict.fromkeys(("confidence", "uncertainty", "valid_fraction"), pa.float32())
    types |= {"scene_post": pa.string(), "scene_pre": pa.string()}
    types |= {"acquired_post": pa.timestamp("us", tz="UTC"), "views": pa.int16()}
    types |= dict.fromkeys(("shift_m", "shift_quality", *SHAKING_COLUMNS, *layers), pa.float32())
    types["hazard_missing"] = pa.list_(pa.string())
    types |= dict.fromkeys(("model", "model_digest", "engine", "run_id"), pa.string())
    types["pre_post_difference"] = pa.float32()
    if "landslide_id" in columns:
        types |= {"landslide_id": pa.string(), "landslide_distance_m": pa.float32()}
    return types


def ordered_buildings(
    frame: gpd.GeoDataFrame, labels: tuple[str, ...], layers: tuple[str, ...] = ()
) -> gpd.GeoDataFrame:
    """The checked frame with every column of the contract, sorted along a Hilbert curve.

    Missing columns are null; `damage_label` follows from `damage`.

    Raises:
        ShapeError: if a required column is missing, or a column is not in the contract.
        AccountingError: if a row contradicts itself, or an id repeats.
    """
    types = arrow_types(labels, tuple(frame.columns), layers)
    needed = (*_REQUIRED, *(f"p_{label}" for label in labels))
    if missing := [c for c in needed if c not in frame.columns]:
        raise ShapeError("columns are missing", "buildings", ", ".join(needed), f"no {missing}")
    if extra := [c for c in frame.columns if c not in types and c not in ("geometry", "bbox")]:
        raise ShapeError(
            "columns outside the contract",
            "buildings",
            got=str(extra),
            remedy="pass them as `layers`",
        )
    check_rows(frame, labels)
    full = {name: frame[name] if name in frame.columns else None for name in types}
    full["damage_label"] = _labels_of(frame["damage"], labels)
    out = gpd.GeoDataFrame(full, index=frame.index, geometry=frame.geometry, crs=frame.crs)
    return hilbert_sorted(out, "building_id")


def buildings_parquet(
    ordered: gpd.GeoDataFrame, labels: tuple[str, ...], layers: tuple[str, ...] = ()
) -> bytes:
    """`ordered_buildings` as GeoParquet 1.1."""
    return geoparquet_bytes(ordered, arrow_types(labels, tuple(ordered.columns), layers))


def check_rows(frame: gpd.GeoDataFrame, labels: tuple[str, ...]) -> None:
    """Checks that each row is one answer.

    Raises:
        AccountingError: with the broken rule and the first rows that break it.
    """
    ids, status, reason = frame["building_id"], frame["status"], frame["reason"]
    assessed = (status == "assessed").to_numpy()
    damage = pd.to_numeric(frame["damage"]).astype("Float64").to_numpy(np.float64, na_value=np.nan)
    p_NC = frame[[f"p_{label}" for label in labels]].to_numpy(dtype=np.float64, na_value=np.nan)
    unfilled = np.isnan(p_NC).all(axis=1)
    sums = p_NC.sum(axis=1)
    rules = {
        "building_id is null": ids.isna().to_numpy(),
        "building_id repeats": ids.duplicated(keep=False).to_numpy(),
        f"status is not one of {STATUSES}": ~status.isin(STATUSES).to_numpy(),
        "assessed with a reason": assessed & reason.notna().to_numpy(),
        "not assessed without a reason of the closed list": ~assessed
        & ~reason.isin(REASONS).to_numpy(),
        "damage outside the scale": assessed & ~np.isin(damage, np.arange(len(labels))),
        "not assessed but with damage": ~assessed & ~np.isnan(damage),
        "probabilities do not sum to 1": assessed & ~(np.abs(sums - 1) <= PROBABILITY_TOLERANCE),
        "not assessed but with probabilities": ~assessed & ~unfilled,
    }
    rules |= _evidence_rules(frame, labels, assessed) | _share_rules(frame, assessed)
    for rule, broken in rules.items():
        if broken.any():
            some = ids[broken].astype(str).head(3).tolist()
            number = int(broken.sum())
            rows = "1 row" if number == 1 else f"{number} rows"
            raise AccountingError(rule, f"{rows} of buildings", got=", ".join(some))


def _evidence_rules(
    frame: gpd.GeoDataFrame, labels: tuple[str, ...], assessed_N: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Rules on evidence and p_hazard_*, with True for rows that break them."""
    columns = [f"p_hazard_{label}" for label in labels if f"p_hazard_{label}" in frame.columns]
    p_NC = frame[columns].to_numpy(dtype=np.float64, na_value=np.nan)
    filled_N = ~np.isnan(p_NC).all(axis=1)
    sums_N = p_NC.sum(axis=1)
    evidence = frame["evidence"] if "evidence" in frame.columns else pd.Series(None, frame.index)
    imaged_N = evidence.isin(("image", "image+hazard")).to_numpy()
    alone_N = (evidence == "hazard").to_numpy()
    return {
        f"evidence is not one of {EVIDENCE}": evidence.notna().to_numpy() & ~(imaged_N | alone_N),
        "not assessed but with evidence of an image": ~assessed_N & imaged_N,
        "assessed without evidence of an image": assessed_N & alone_N,
        "evidence of hazard values without p_hazard": alone_N & ~filled_N,
        "p_hazard does not sum to 1": filled_N & ~(np.abs(sums_N - 1) <= PROBABILITY_TOLERANCE),
    }


def _share_rules(
    frame: gpd.GeoDataFrame, assessed_N: NDArray[np.bool_]
) -> dict[str, NDArray[np.bool_]]:
    """Rules on scores and shares, with True for rows that break them."""
    if SCORE not in frame.columns:
        return {}
    values_N4 = frame[[SCORE, *SHARE_COLUMNS]].to_numpy(np.float64, na_value=np.nan)
    known_N = np.isfinite(values_N4).all(axis=1) & frame[SHARE_AREA].notna().to_numpy()
    empty_N = np.isnan(values_N4).all(axis=1) & frame[SHARE_AREA].isna().to_numpy()
    inside_N = ((values_N4 >= 0) & (values_N4 <= 1)).all(axis=1)
    return {
        "assessed without a score or a share": assessed_N & ~known_N,
        "not assessed but with a score or a share": ~assessed_N & ~empty_N,
        "a score or a share is not between 0 and 1": known_N & ~inside_N,
    }


def count(frame: gpd.GeoDataFrame) -> dict[str, Any]:
    """The `counts` of run.json that follow from the rows."""
    by_status = frame["status"].value_counts()
    reasons = frame["reason"].dropna().value_counts()
    labels = frame["damage_label"].dropna().value_counts() if "damage_label" in frame else {}
    evidence = frame["evidence"].dropna().value_counts() if "evidence" in frame else {}
    return {
        "footprints": len(frame),
        "assessed": int(by_status.get("assessed", 0)),
        "not_assessed": int(by_status.get("not_assessed", 0)),
        "reasons": {r: int(reasons[r]) for r in REASONS if r in reasons.index},
        "damage": {str(k): int(v) for k, v in sorted(dict(labels).items())},
        "evidence": {e: int(evidence[e]) for e in EVIDENCE if e in dict(evidence)},
    }


def check_accounting(frame: gpd.GeoDataFrame, counts: Mapping[str, Any]) -> None:
    """Checks that rows out equal footprints in.

    `counts` must hold `footprints`: the distinct ids in the AOI, counted when they were read.
    `assessed`, `not_assessed` and `reasons` must agree where they are given. `footprints_read`
    must equal `footprints` plus `duplicates_collapsed`, `outside_aoi` and `without_position`.

    Raises:
        AccountingError: with both figures.
    """
    if "footprints" not in counts:
        raise AccountingError("counts lack `footprints`, so rows cannot be checked", "run")
    rows = count(frame)
    for key in ("footprints", "assessed", "not_assessed", "reasons"):
        if key in counts and counts[key] != rows[key]:
            raise AccountingError(
                f"{key} of run and table differ",
                "buildings",
                expected=f"{counts[key]} as counted by the run",
                got=f"{rows[key]} in the table",
            )
    if rows["assessed"] + rows["not_assessed"] != rows["footprints"]:
        raise AccountingError("assessed and not_assessed do not add up", "buildings", got=str(rows))
    if "footprints_read" in counts:
        parts = ("footprints", "duplicates_collapsed", "outside_aoi", "without_position")
        total = sum(int(counts.get(p, 0)) for p in parts)
        if total != counts["footprints_read"]:
            raise AccountingError(
                "footprints_read does not add up",
                "run",
                expected=f"{' + '.join(parts)} = {total}",
                got=str(counts["footprints_read"]),
            )


def _labels_of(damage: pd.Series, labels: tuple[str, ...]) -> pd.Series:
    return pd.to_numeric(damage).map(dict(enumerate(labels))).astype(object)
