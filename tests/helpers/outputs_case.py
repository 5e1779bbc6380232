"""A small finished run for tests of the products."""

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from quakestream.domain import Issue, ScaleClass
from quakestream.outputs.products import RunProducts

SCALE = (
    ScaleClass(index=0, label="intact", xbd="no", ems98=(0, 1), copernicus="No visible damage"),
    ScaleClass(index=1, label="damaged", xbd="major", ems98=(3,), copernicus="Damaged"),
    ScaleClass(index=2, label="destroyed", xbd="destroyed", ems98=(4, 5), copernicus="Destroyed"),
)
LABELS = tuple(c.label for c in SCALE)


def buildings(n: int = 12, seed: int = 0) -> gpd.GeoDataFrame:
    """`n` squares of 10 m, 30 m apart around 36.93 E 37.58 N; every fourth is under cloud."""
    rng = np.random.default_rng(seed)
    east, north = 317000 + 30.0 * (np.arange(n) % 4), 4160900 - 30.0 * (np.arange(n) // 4)
    shapes = gpd.GeoSeries(shapely.box(east, north, east + 10, north + 10), crs=32637)
    cloudy = np.arange(n) % 4 == 3
    p = rng.dirichlet([2, 1, 1], n).astype(np.float32)
    frame = gpd.GeoDataFrame(
        {
            "building_id": [f"b{i:02d}" for i in range(n)],
            "status": np.where(cloudy, "not_assessed", "assessed"),
            "reason": np.where(cloudy, "cloud", None),
            "damage": pd.array(np.where(cloudy, None, p.argmax(axis=1)), dtype="Int8"),
            "pre_post_difference": rng.random(n).astype(np.float32),
            "scene_post": "post-1",
            "acquired_post": pd.Timestamp("2023-02-07T08:11:00Z"),
            "hazard_missing": [["psa30_g"] if i % 2 else [] for i in range(n)],
            "dpm": rng.random(n),
            "mmi": 8.25,
            "run_id": "run-1",
        },
        geometry=shapes.to_crs(4326),
    )
    for k, label in enumerate(LABELS):
        frame[f"p_{label}"] = np.where(cloudy, np.nan, p[:, k])
    return frame


def coverage() -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(
        {
            "cell_id": ["c2", "c1"],
            "status": ["not_scored", "scored"],
            "reason": ["read_error", None],
            "scenes": [[], ["post-1"]],
            "valid_fraction": [0.0, 0.9],
            "cloud_fraction": [0.0, 0.25],
            "shift_m": [None, 1.5],
        },
        geometry=[shapely.box(36.92, 37.57, 36.93, 37.58), shapely.box(36.93, 37.57, 36.94, 37.58)],
        crs=4326,
    )


def products(**changes: Any) -> RunProducts:
    rows = changes.pop("buildings", buildings())
    given: dict[str, Any] = {
        "buildings": rows,
        "coverage": coverage(),
        "issues": [Issue(subject="s1", kind="scene", cause="403 Forbidden", retryable=True)],
        "run": {
            "run_id": "run-1",
            "event": {"id": "test-2023", "time": "2023-02-06T01:17:34Z"},
            "counts": {"footprints": len(rows)},
        },
        "classes": SCALE,
        "layers": ("dpm",),
    }
    return RunProducts(**(given | changes))


def with_hazard_evidence(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Adds a hazard bundle's probabilities to all rows but the last two."""
    rows, known = len(frame), np.arange(len(frame)) < len(frame) - 2
    p = np.random.default_rng(9).dirichlet([3, 1, 1], rows).astype(np.float32)
    for k, label in enumerate(LABELS):
        frame[f"p_hazard_{label}"] = np.where(known, p[:, k], np.nan)
    imaged = np.where(known, "image+hazard", "image")
    unseen = np.where(known, "hazard", None)
    frame["evidence"] = np.where(frame["status"] == "assessed", imaged, unseen)
    return frame


HAZARD_BUNDLE = {
    "name": "shaking",
    "version": "2",
    "digest": "ab" * 32,
    "thresholds": {"balanced": 0.5},
    "metrics": {"auc": 0.7},
    "prior": {"intact": 0.8, "destroyed": 0.2},
    "takes": ["mmi", "dpm"],
    "not_given": ["dpm"],
    "footprints": 10,
    "footprints_missing": {"mmi": 2, "dpm": 12},
    "added_to_verdicts": True,
}
"""`hazard_bundle` of run.json."""


def with_shares(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Adds the columns of a calibrated bundle: two areas, west and east."""
    seen = (frame["status"] == "assessed").to_numpy()
    west = np.arange(len(frame)) % 4 < 2
    frame["score"] = np.where(seen, frame["p_destroyed"] / 2, np.nan)
    for column, values in (
        ("share", (0.1, 0.4)),
        ("share_low", (0.02, 0.3)),
        ("share_high", (0.2, 0.5)),
    ):
        frame[column] = np.where(seen, np.where(west, *values), np.nan)
    frame["share_area"] = np.where(seen, np.where(west, "west", "east"), None)
    return frame


SHARES = {
    "mode": "auto",
    "prior": {"from": "no knowledge of the event", "share": 0.1, "buildings": 0.5},
    "label": "destroyed",
    "threshold": 0.5,
    "run": {
        "buildings": 9,
        "share": 0.2,
        "low": 0.1,
        "high": 0.3,
        "expected": 1.84,
        "expected_low": 0.9,
        "expected_high": 2.72,
        "declared": 2,
    },
    "areas": [
        {
            "id": "east",
            "buildings": 3,
            "share": 0.4,
            "low": 0.3,
            "high": 0.5,
            "expected": 1.2,
            "expected_low": 0.9,
            "expected_high": 1.5,
            "declared": 2,
        },
        {
            "id": "west",
            "buildings": 6,
            "share": 0.1,
            "low": 0.02,
            "high": 0.2,
            "expected": 0.64,
            "expected_low": 0.12,
            "expected_high": 1.2,
            "declared": 0,
        },
    ],
}
"""`shares` of run.json."""
