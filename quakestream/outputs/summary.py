"""summary.csv: counts and shares per damage class and admin unit, or 500 m square."""

from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.domain import REASONS
from quakestream.outputs.landslides import ordered_landslides, touched
from quakestream.outputs.products import RunProducts
from quakestream.outputs.units import named_units, unit_ids

TOUCHED = "landslide_buildings"
"""Column with the buildings that landslides touch."""


def summary_of(products: RunProducts, rows: gpd.GeoDataFrame) -> pd.DataFrame:
    """The summary of a map.

    Args:
        rows: `products.buildings` in the order of the product.
    """
    admin = products.admin
    return summary_table(
        rows,
        products.labels,
        None if admin is None else named_units(admin, products.admin_id, products.admin_code),
        None if products.landslides is None else ordered_landslides(products.landslides),
        products.run.get("shares"),
    )


def summary_table(
    buildings: gpd.GeoDataFrame,
    labels: tuple[str, ...],
    named: gpd.GeoDataFrame | None = None,
    landslides: gpd.GeoDataFrame | None = None,
    shares: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """One row per unit, sorted by id: counts of every class and reason, and shares.

    Maps of calibrated bundles have the expected number of destroyed buildings among the assessed
    and their share, each with its 90 % interval, beside the counts of declared ones.

    With a column of codes, units are told apart and sorted by their code, the column `pcode`. A
    unit without a code is told by its name, and one without a name is called `unnamed`.

    `share_assessed` is of all buildings of the unit; `share_of_assessed_LABEL` of those that were
    assessed, and empty where none was.

    A building belongs to the unit that holds its representative point, and to the first of
    overlapping units in id order. Buildings that were not assessed have counts of their own and
    never count as undamaged.

    Args:
        named: administrative units, of `named_units`; None: squares.
        landslides: slides of the run, which belong to units as buildings do; None: no columns.
        shares: `shares` of run.json; None for a bundle without calibration: no columns.
    """
    unit = unit_ids(buildings, named)
    out = _of_buildings(buildings, unit, labels, shares)
    if landslides is not None:
        slides = _of_landslides(landslides, unit_ids(landslides, named))
        slides = slides.join(_touched(buildings, unit), how="outer")
        out = _whole_numbers(out.join(slides, how="outer").sort_index())
    out = out.rename_axis("unit").reset_index()
    if named is not None and "code" in named:
        by_key = named.drop_duplicates("unit").set_index("unit")
        out.insert(1, "pcode", by_key["code"].reindex(out["unit"]).fillna("").tolist())
        out["unit"] = [by_key["name"].get(key, key) for key in out["unit"]]
    return out


def _of_buildings(
    buildings: gpd.GeoDataFrame,
    unit: NDArray[np.object_],
    labels: tuple[str, ...],
    shares: Mapping[str, Any] | None,
) -> pd.DataFrame:
    """Counts and shares of buildings per unit."""
    code_N, names = pd.factorize(unit, sort=True)

    def counted(chosen: "pd.Series[bool]") -> NDArray[np.int64]:
        chosen_N = chosen.to_numpy(bool, na_value=False)
        return np.bincount(code_N[chosen_N], minlength=len(names))

    every = np.bincount(code_N, minlength=len(names))
    out = pd.DataFrame({"buildings": every}, index=pd.Index(names))
    out["assessed"] = counted(buildings["status"] == "assessed")
    out["share_assessed"] = (out["assessed"] / out["buildings"]).round(4)
    for label in labels:
        out[label] = counted(buildings["damage_label"].isin([label]))
    for label in labels:
        out[f"share_of_assessed_{label}"] = (
            out[label] / out["assessed"].where(out["assessed"] > 0)
        ).round(4)
    if shares is not None:
        out = out.join(_of_shares(shares))
    out["not_assessed"] = out["buildings"] - out["assessed"]
    for reason in REASONS:
        of_reason = counted(buildings["reason"].isin([reason]))
        if reason not in _RARE or of_reason.any():
            out[f"not_assessed_{reason}"] = of_reason
    return out


_RARE = ("no_model", "pending")
"""Reasons whose columns are there only where a building has one."""


def _of_shares(shares: Mapping[str, Any]) -> pd.DataFrame:
    """Expected numbers of the most severe class per unit, and the shares of the assessed that they
    are; empty where none was assessed.

    Expected numbers have one decimal: a tenth of a building says that there is hardly one.
    """
    keys = {"destroyed": "expected", "low": "expected_low", "high": "expected_high"}
    areas = shares["areas"]
    columns = {
        f"expected_{name}": [round(area[key], 1) for area in areas] for name, key in keys.items()
    }
    columns |= {
        f"share_{name}": [round(area[key] / area["buildings"], 4) for area in areas]
        for name, key in keys.items()
    }
    return pd.DataFrame(
        columns, index=pd.Index([a["id"] for a in areas], dtype=object), dtype=float
    )


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
    numbers = [c for c in table if str(c).startswith("expected_")]
    counts = table.columns.difference([*shares, *numbers, "landslide_km2", "landslide_road_km"])
    table[counts] = table[counts].fillna(0).astype(int)
    return table


def summary_csv(table: pd.DataFrame) -> bytes:
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode()
