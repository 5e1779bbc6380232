"""Verdicts as compact columns for the viewer: integers and dictionaries of texts."""

import math
from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.outputs.buildings import SHAKING_COLUMNS

DEGREES_TO_INT = 1_000_000
"""Coordinates are whole 1e-6 degrees, about 0.1 m, which is finer than any outline."""

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
_SCALED = {"valid_fraction": 2, "confidence": 2, "uncertainty": 3, "shift_m": 1, "shift_quality": 2}


def building_columns(
    rows: gpd.GeoDataFrame, labels: Sequence[str], layers: Sequence[str]
) -> dict[str, Any]:
    """All columns for the viewer, in the order of the rows."""
    hazards = {name: HAZARD_TITLES.get(name, name) for name in (*SHAKING_COLUMNS, *layers)}
    hazards |= {f"p_hazard_{a}": f"{a}, from hazard values alone" for a in labels}
    return {
        "id": rows["building_id"].astype(str).tolist(),
        "damage": _integers(rows["damage"], missing=-1),
        "p": [_fixed(rows[f"p_{label}"], 3) for label in labels],
        "text": {name: _dictionary(_as_text(rows[name])) for name in _TEXT},
        "acquired": _dictionary(_as_dates(rows["acquired_post"])),
        "missing": _dictionary(rows["hazard_missing"].map(_joined)),
        "number": {name: _fixed(rows[name], digits) for name, digits in _SCALED.items()},
        "hazard": [
            {"name": name, "title": title, "values": _significant(rows[name])}
            for name, title in hazards.items()
            if name in rows.columns and rows[name].notna().any()
        ],
        "shape": rings(rows.geometry),
    }


def rings(shapes: Sequence[BaseGeometry | None]) -> dict[str, list[int]]:
    """Delta-coded polygon rings: `rings` per row, `points` per ring, `xy` as differences.

    Holes and parts are plain rings: the viewer fills by the even-odd rule.
    """
    ring_counts: list[int] = []
    point_counts: list[int] = []
    deltas: list[NDArray[np.int64]] = []
    last = np.zeros((1, 2), dtype=np.int64)
    for shape in shapes:
        parts = [] if shape is None or shape.is_empty else _rings_of(shape)
        ring_counts.append(len(parts))
        for xy in parts:
            whole = np.rint(xy[:-1] * DEGREES_TO_INT).astype(np.int64)
            point_counts.append(len(whole))
            deltas.append(np.diff(whole, axis=0, prepend=last))
            last = whole[-1:]
    flat = np.concatenate(deltas).ravel().tolist() if deltas else []
    return {"rings": ring_counts, "points": point_counts, "xy": flat}


def _rings_of(shape: BaseGeometry) -> list[NDArray[np.float64]]:
    """Closed rings of the polygons of a geometry; a point becomes a small diamond."""
    if shape.geom_type not in ("Polygon", "MultiPolygon"):
        shape = shape.representative_point().buffer(2e-5, quad_segs=1)
    polygons = shapely.get_parts(shape)
    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(polygons)]


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
