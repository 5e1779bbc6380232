"""summary.csv: counts and shares per damage class and admin unit, or 500 m square."""

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyproj import Transformer

from quakestream.domain import REASONS
from quakestream.errors import ShapeError
from quakestream.outputs.landslides import touched

SQUARE_M = 500
TOUCHED = "landslide_buildings"
"""Column with the buildings that landslides touch."""
OUTSIDE = "outside"
"""Unit of buildings outside all admin polygons."""
UNNAMED = "unnamed"
"""Name of admin polygons without a name."""


def summary_table(
    buildings: gpd.GeoDataFrame,
    labels: tuple[str, ...],
    admin: gpd.GeoDataFrame | None = None,
    admin_id: str = "",
    admin_code: str | None = None,
    landslides: gpd.GeoDataFrame | None = None,
) -> pd.DataFrame:
    """One row per unit, sorted by id: counts of every class and reason, and shares.

    With a column of codes, units are told apart and sorted by their code, the column `pcode`. A
    unit without a code is told by its name, and one without a name is called `unnamed`.

    `share_assessed` is of all buildings of the unit; `share_of_assessed_LABEL` of those that were
    assessed, and empty where none was.

    A building belongs to the unit that holds its representative point, and to the first of
    overlapping units in id order. Buildings that were not assessed have counts of their own and
    never count as undamaged.

    Args:
        landslides: slides of the run, which belong to units as buildings do; None: no columns.
    """
    named = None if admin is None else _named(admin, admin_id, admin_code)
    unit = _unit_ids(buildings, named)
    frame = pd.DataFrame(
        {
            "unit": unit,
            "label": buildings["damage_label"].to_numpy(dtype=object),
            "reason": buildings["reason"].to_numpy(dtype=object),
            "assessed": (buildings["status"] == "assessed").to_numpy(),
        }
    )
    by_unit = frame.groupby("unit", sort=True)
    out = pd.DataFrame({"buildings": by_unit.size(), "assessed": by_unit["assessed"].sum()})
    out["share_assessed"] = (out["assessed"] / out["buildings"]).round(4)
    for label in labels:
        out[label] = (frame["label"] == label).groupby(frame["unit"]).sum()
    for label in labels:
        out[f"share_of_assessed_{label}"] = (
            out[label] / out["assessed"].where(out["assessed"] > 0)
        ).round(4)
    out["not_assessed"] = out["buildings"] - out["assessed"]
    for reason in REASONS:
        if reason == "no_model" and not (frame["reason"] == reason).any():
            continue
        out[f"not_assessed_{reason}"] = (frame["reason"] == reason).groupby(frame["unit"]).sum()
    if landslides is not None:
        slides = _of_landslides(landslides, _unit_ids(landslides, named))
        slides = slides.join(_touched(buildings, unit), how="outer")
        out = _whole_numbers(out.join(slides, how="outer").sort_index())
    out = out.rename_axis("unit").reset_index()
    if named is not None and admin_code is not None:
        by_key = named.drop_duplicates("unit").set_index("unit")
        out.insert(1, "pcode", by_key["code"].reindex(out["unit"]).fillna("").tolist())
        out["unit"] = [by_key["name"].get(key, key) for key in out["unit"]]
    return out


def _unit_ids(rows: gpd.GeoDataFrame, named: gpd.GeoDataFrame | None) -> NDArray[np.object_]:
    """Unit of each building or slide: of the named ones, or a square."""
    return square_ids(rows) if named is None else _admin_ids(rows, named)


def _of_landslides(slides: gpd.GeoDataFrame, unit: NDArray[np.object_]) -> pd.DataFrame:
    """Slides, km² and road km per unit. A slide belongs to one unit, with all of its area."""
    road_m = pd.to_numeric(slides["road_m"]).to_numpy(np.float64)
    frame = pd.DataFrame({"km2": slides["area_m2"].to_numpy() / 1e6, "road_km": road_m / 1000})
    by_unit = frame.groupby(unit)
    return pd.DataFrame(
        {
            "landslides": by_unit.size(),
            "landslide_km2": by_unit["km2"].sum().round(6),
            "landslide_road_km": by_unit["road_km"].sum(min_count=1).round(3),
        }
    )


def _touched(buildings: gpd.GeoDataFrame, unit: NDArray[np.object_]) -> pd.Series:
    return pd.Series(touched(buildings).astype(int)).groupby(unit).sum().rename(TOUCHED)


def _whole_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Counts as whole numbers again, 0 for units that lack buildings or slides."""
    shares = [c for c in table if str(c).startswith("share_")]
    table["landslide_km2"] = table["landslide_km2"].fillna(0.0)
    counts = table.columns.difference([*shares, "landslide_km2", "landslide_road_km"])
    table[counts] = table[counts].fillna(0).astype(int)
    return table


def summary_csv(table: pd.DataFrame) -> bytes:
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode()


def square_ids(buildings: gpd.GeoDataFrame) -> NDArray[np.object_]:
    """Ids of the UTM-aligned squares, such as `37N_E612500_N4158000` (south-west corner)."""
    points = buildings.geometry.representative_point()
    lon, lat = points.x.to_numpy(), points.y.to_numpy()
    ids = np.full(len(buildings), OUTSIDE, dtype=object)
    known = np.isfinite(lon) & np.isfinite(lat)
    zone = np.where(known, (np.nan_to_num(lon) + 180.0) // 6.0 % 60 + 1, 0).astype(int)
    epsg = np.where(np.nan_to_num(lat) >= 0, 32600, 32700) + zone
    for code in np.unique(epsg[known]):
        rows = np.flatnonzero(known & (epsg == code))
        to_utm = Transformer.from_crs(4326, int(code), always_xy=True)
        east, north = to_utm.transform(lon[rows], lat[rows])
        name = f"{code % 100}{'N' if code < 32700 else 'S'}"
        for row, e, n in zip(rows, east // SQUARE_M, north // SQUARE_M, strict=True):
            ids[row] = f"{name}_E{int(e) * SQUARE_M}_N{int(n) * SQUARE_M}"
    return ids


def _named(admin: gpd.GeoDataFrame, admin_id: str, admin_code: str | None) -> gpd.GeoDataFrame:
    """Units with their `unit`, by which they are told apart, their `name` and their `code`."""
    for column in (admin_id, *([admin_code] if admin_code else [])):
        if column not in admin.columns:
            have = [c for c in admin.columns if c != "geometry"]
            raise ShapeError(f"has no column {column!r}", "summary.admin", got=f"columns {have}")
    name = _text(admin[admin_id], UNNAMED)
    code = _text(admin[admin_code], "") if admin_code else name
    texts = {"unit": np.where(code == "", name, code), "name": name, "code": code}
    return gpd.GeoDataFrame(texts, geometry=admin.geometry.to_numpy(), crs=admin.crs).to_crs(4326)


def _text(values: "pd.Series[Any]", missing: str) -> NDArray[np.object_]:
    """Values as text; what is missing would be left out of every count."""
    texts = [missing if pd.isna(value) else _as_text(value) for value in values]
    return np.array(texts, object)


def _as_text(value: object) -> str:
    """Numbers of a column with gaps are floats in many files."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _admin_ids(buildings: gpd.GeoDataFrame, units: gpd.GeoDataFrame) -> NDArray[np.object_]:
    points = gpd.GeoDataFrame(
        {"row": np.arange(len(buildings))},
        geometry=buildings.geometry.representative_point().to_numpy(),
        crs=buildings.crs,
    )
    matches = gpd.sjoin(points, units[["unit", "geometry"]], how="inner", predicate="intersects")
    first = matches.sort_values(["row", "unit"]).drop_duplicates("row")
    ids = np.full(len(buildings), OUTSIDE, dtype=object)
    ids[first["row"].to_numpy()] = first["unit"].to_numpy(dtype=object)
    return ids
