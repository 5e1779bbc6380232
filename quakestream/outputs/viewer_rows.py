"""Verdicts as compact columns for the viewer.

All buildings have a few numbers each (`core_blob`): enough to count, to filter, to draw points and
to add up areas. What one building's card shows, and its outline, comes in groups of rows
(`detail_columns`), which a page may hold for some buildings only.
"""

import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.outputs.buildings import SCORE, SHAKING_COLUMNS, SHARE_AREA, SHARE_COLUMNS
from quakestream.outputs.figures import decisions
from quakestream.tiling.antimeridian import side_by_side

DEGREES_TO_INT = 1_000_000
"""Coordinates are whole 1e-6 degrees, about 0.1 m, which is finer than any outline."""
CENTRE_TO_INT = 100_000
"""Centres of buildings are whole 1e-5 degrees, about 1 m."""
NOWHERE = (0, 91 * CENTRE_TO_INT)
"""Centre (lon, lat) of a building without a position."""
PER_MILLE = 1000
UNKNOWN = 65_535

HAZARD_TITLES = {
    "mmi": "Intensity (MMI)",
    "pga_g": "PGA, g",
    "pgv_cm_s": "PGV, cm/s",
    "psa03_g": "PSA 0.3 s, g",
    "psa10_g": "PSA 1.0 s, g",
    "psa30_g": "PSA 3.0 s, g",
    "vs30_m_s": "VS30, m/s",
}
_TEXT = ("reason", "evidence", "scene_post", "scene_pre", "model", "engine")
_SCALED = {"valid_fraction": 2, "shift_m": 1, "shift_quality": 2}
_SHARES = dict.fromkeys((SCORE, *SHARE_COLUMNS), 3)
"""Columns of calibrated maps, and their digits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoreColumns:
    """What the viewer knows of every building."""

    lon_N: NDArray[np.float64]
    lat_N: NDArray[np.float64]
    """Centres, degrees; NaN without a position."""
    damage_N: NDArray[np.int64]
    """Class of the published verdict, -1 where not assessed."""
    reason_N: NDArray[np.object_]
    p_NC: NDArray[np.float64]
    """Class probabilities, mildest first, NaN where not assessed."""

    @property
    def cumulative_NC(self) -> NDArray[np.float64]:
        """Probability of each class or worse."""
        return self.p_NC[:, ::-1].cumsum(axis=1)[:, ::-1]


def core_columns(rows: gpd.GeoDataFrame, labels: Sequence[str]) -> CoreColumns:
    """The core of rows in memory."""
    bounds = rows.geometry.bounds
    return CoreColumns(
        lon_N=((bounds["minx"] + bounds["maxx"]) / 2).to_numpy(),
        lat_N=((bounds["miny"] + bounds["maxy"]) / 2).to_numpy(),
        damage_N=np.array(_integers(rows["damage"], missing=-1), np.int64),
        reason_N=_as_text(rows["reason"]).to_numpy(),
        p_NC=_probabilities(rows, labels),
    )


def core_blob(core: CoreColumns) -> bytes:
    """All columns as one gzip file: a JSON header, its length (4 bytes) before it, then arrays.

    Arrays are little-endian and stored byte plane by byte plane, which packs well. Centres are
    differences to the row before.
    """
    lost_N = ~(np.isfinite(core.lon_N) & np.isfinite(core.lat_N))
    arrays: list[tuple[str, NDArray[Any]]] = []
    for name, values, nowhere in (("lon", core.lon_N, NOWHERE[0]), ("lat", core.lat_N, NOWHERE[1])):
        whole = np.rint(np.where(lost_N, 0.0, values) * CENTRE_TO_INT).astype(np.int64)
        whole[lost_N] = nowhere
        arrays.append((name, np.diff(whole, prepend=0).astype("<i4")))
    codes, words = pd.factorize(pd.Series(core.reason_N, dtype=object), sort=True)
    arrays += [("damage", core.damage_N.astype("i1")), ("reason", codes.astype("i1"))]
    for k, score_N in enumerate(core.cumulative_NC.T[1:], start=1):
        mille = np.rint(np.clip(score_N, 0, 1) * PER_MILLE)
        arrays.append((f"score{k}", np.nan_to_num(mille, nan=UNKNOWN).astype("<u2")))
    header = {
        "n": len(core.damage_N),
        "reasons": [str(w) for w in words],
        "arrays": [[name, a.dtype.kind, a.dtype.itemsize] for name, a in arrays],
    }
    text = json.dumps(header).encode()
    planes = [
        np.ascontiguousarray(a).view(np.uint8).reshape(-1, a.dtype.itemsize).T for _, a in arrays
    ]
    body = b"".join(np.ascontiguousarray(p).tobytes() for p in planes)
    return gzip.compress(len(text).to_bytes(4, "little") + text + body, 6, mtime=0)


def detail_columns(
    rows: gpd.GeoDataFrame,
    labels: Sequence[str],
    layers: Sequence[str],
    threshold: float,
    positions: Sequence[int],
) -> dict[str, Any]:
    """All columns of some rows.

    Args:
        threshold: the balanced threshold, by which verdicts were declared.
        positions: the place of each row among all rows.
    """
    hazards = {name: HAZARD_TITLES.get(name, name) for name in (*SHAKING_COLUMNS, *layers)}
    hazards |= {f"p_hazard_{a}": f"{a}, from hazard values alone" for a in labels}
    damage = np.array(_integers(rows["damage"], missing=-1), np.int64)
    calibrated = SCORE in rows.columns
    texts = (*_TEXT, SHARE_AREA) if calibrated else _TEXT
    scaled = _SCALED | _SHARES if calibrated else _SCALED
    return {
        "row": np.diff(np.asarray(positions, np.int64), prepend=0).tolist(),
        "id": rows["building_id"].astype(str).tolist(),
        "p": [_fixed(rows[f"p_{label}"], 3) for label in labels],
        "decided": _decided(_probabilities(rows, labels), damage, threshold),
        "text": {name: _dictionary(_as_text(rows[name])) for name in texts},
        "acquired": _dictionary(_as_dates(rows["acquired_post"])),
        "missing": _dictionary(rows["hazard_missing"].map(_joined)),
        "number": {name: _fixed(rows[name], digits) for name, digits in scaled.items()},
        "hazard": [
            {"name": name, "title": title, "values": _significant(rows[name])}
            for name, title in hazards.items()
            if name in rows.columns and rows[name].notna().any()
        ],
        "shape": rings(rows.geometry),
    }


def _decided(
    p_NC: NDArray[np.float64], damage_N: NDArray[np.int64], threshold: float
) -> dict[str, Any]:
    """The score that decided each verdict, per mille; its class; how clearly."""
    seen_N = damage_N >= 0
    told = decisions(np.where(seen_N[:, None], p_NC, 0.0), damage_N.clip(0), threshold)
    score = pd.Series(np.where(seen_N, told.score_N, np.nan))
    clarity = pd.Series(told.clarity_N).where(seen_N, None)
    return {
        "score": _fixed(score, 3),
        "class": np.where(seen_N, told.class_N, -1).tolist(),
        "clarity": _dictionary(clarity),
    }


def rings(shapes: Sequence[BaseGeometry | None]) -> dict[str, list[int]]:
    """Delta-coded polygon rings: `rings` per row, `points` per ring, `xy` as differences.

    Holes and parts are plain rings: the viewer fills by the even-odd rule.
    """
    shape_N = np.array([_polygons(s) for s in side_by_side(np.array(list(shapes), object))], object)
    part_P, shape_P = shapely.get_parts(shape_N, return_index=True)
    ring_R, part_R = shapely.get_rings(part_P, return_index=True)
    xy_C2, ring_C = shapely.get_coordinates(ring_R, return_index=True)
    ends_C = np.append(np.diff(ring_C) != 0, True)[: len(ring_C)]  # a ring ends where it began
    whole_C2 = np.rint(xy_C2[~ends_C] * DEGREES_TO_INT).astype(np.int64)
    return {
        "rings": np.bincount(shape_P[part_R], minlength=len(shape_N)).tolist(),
        "points": (np.bincount(ring_C, minlength=len(ring_R)) - 1).tolist(),
        "xy": np.diff(whole_C2, axis=0, prepend=np.zeros((1, 2), np.int64)).ravel().tolist(),
    }


def _polygons(shape: BaseGeometry | None) -> BaseGeometry | None:
    """The geometry; a point becomes a small diamond."""
    if shape is None or shape.is_empty or shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    return shape.representative_point().buffer(2e-5, quad_segs=1)


def _probabilities(rows: pd.DataFrame, labels: Sequence[str]) -> NDArray[np.float64]:
    p_NC: NDArray[np.float64] = rows[[f"p_{a}" for a in labels]].to_numpy(
        np.float64, na_value=np.nan
    )
    return p_NC


def _integers(column: pd.Series, missing: int) -> list[int]:
    values: list[int] = pd.to_numeric(column).astype("Int64").fillna(missing).astype(int).tolist()
    return values


def _fixed(column: pd.Series, digits: int) -> dict[str, Any]:
    """Whole multiples of 10^-digits; -1 for a missing value (all figures are ≥ 0)."""
    values = pd.to_numeric(column).astype("Float64").to_numpy(np.float64, na_value=np.nan)
    whole = np.rint(values * 10**digits)
    return {"digits": digits, "values": np.nan_to_num(whole, nan=-1).astype(int).tolist()}


def _significant(column: pd.Series) -> list[float | None]:
    """Values with four significant figures, more than any hazard layer has."""
    values = pd.to_numeric(column).astype("Float64").to_numpy(np.float64, na_value=np.nan)
    return [float(f"{v:.4g}") if math.isfinite(v) else None for v in values]


def _dictionary(column: pd.Series) -> dict[str, Any]:
    """Distinct texts, and an index per row; -1 without a text."""
    codes, words = pd.factorize(column, sort=True)
    return {"words": [str(w) for w in words], "codes": codes.tolist()}


def _as_text(column: pd.Series) -> pd.Series:
    return column.where(column.notna(), None).astype(object)


def _as_dates(column: pd.Series) -> pd.Series:
    times = pd.to_datetime(column, utc=True)
    return times.dt.strftime("%Y-%m-%d %H:%M UTC").where(times.notna(), None).astype(object)


def _joined(names: Any) -> str | None:
    if isinstance(names, (list, tuple, np.ndarray)) and len(names):
        return ", ".join(str(n) for n in names)
    return None
