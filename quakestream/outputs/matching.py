"""Matches reference items with footprints."""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd

from quakestream.errors import RequestError
from quakestream.outputs.truth import Truth

OVERLAP_SHARE = 0.1
"""Smallest overlap of a polygon and a footprint that match, as a share of the smaller one.
Different people draw reference outlines and footprints, on images with different lean. A smaller
overlap is a neighbour."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchResult:
    """Footprints with one reference answer each, and counts of the rest."""

    rows: pd.DataFrame
    """Indexed like the buildings: columns `severe` (1, 0, -1) and `class_index`."""
    how: str
    items: int
    items_unmatched: int
    """Reference items without a footprint: too far away, or of an unknown id."""
    conflicting_footprints: int
    """Footprints whose items contradict each other; they are left out."""


def match(truth: Truth, buildings: gpd.GeoDataFrame, distance_m: float) -> MatchResult:
    """Matches by building id where the reference has ids.

    Else points match the nearest footprint within `distance_m`, and polygons match the
    footprints that they overlap by `OVERLAP_SHARE`. Distances are in the UTM zone of the centre
    of the buildings.
    """
    items = truth.items.reset_index(drop=True)
    if truth.by_id:
        pairs, how = _by_id(items, buildings), "by building_id"
    elif items.geometry.geom_type.isin(("Polygon", "MultiPolygon")).all():
        how = f"polygons sharing {OVERLAP_SHARE:.0%} of the smaller outline"
        pairs = overlapping(items, buildings)
    else:
        pairs = nearest(items, buildings, distance_m)
        how = f"points within {distance_m:g} m of the nearest footprint"
    return _one_answer_each(items, pairs, buildings.index, how)


def overlapping(items: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame) -> pd.DataFrame:
    """(item, building) index pairs that overlap enough, in the local UTM zone.

    `likeness` is the area of the overlap over that of both outlines together: 1 for equal ones.
    """
    crs = utm_of(buildings)
    left = gpd.GeoDataFrame(geometry=items.geometry.to_crs(crs).make_valid(), crs=crs)
    right = gpd.GeoDataFrame(geometry=buildings.geometry.to_crs(crs).make_valid(), crs=crs)
    pairs = gpd.sjoin(left, right, predicate="intersects").rename_axis("item").reset_index()
    a = left.geometry.loc[pairs["item"]].reset_index(drop=True)
    b = right.geometry.loc[pairs["index_right"]].reset_index(drop=True)
    overlap_m2 = a.intersection(b).area
    pairs["likeness"] = (overlap_m2 / (a.area + b.area - overlap_m2)).to_numpy()
    share = overlap_m2 / np.minimum(a.area, b.area)
    enough = pairs[(share >= OVERLAP_SHARE).to_numpy()]
    named: pd.DataFrame = enough[["item", "index_right", "likeness"]].rename(
        columns={"index_right": "building"}
    )
    return named


def utm_of(buildings: gpd.GeoDataFrame) -> object:
    return buildings.estimate_utm_crs()


def _by_id(items: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame) -> pd.DataFrame:
    row_of_id = pd.Series(buildings.index, index=buildings["building_id"].astype(str))
    matches = items["building_id"].astype(str).map(row_of_id)
    if matches.notna().sum() == 0:
        raise RequestError(
            "no building_id of the reference is in the map",
            "reference",
            got=f"ids such as {items['building_id'].iloc[0]!r}",
            remedy="give the reference of this run, not of another run",
        )
    known = matches.dropna()
    return pd.DataFrame({"item": known.index, "building": known.to_numpy().astype(int)})


def nearest(
    items: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame, distance_m: float
) -> pd.DataFrame:
    """Each point with its nearest footprint; the smallest of those that hold the point."""
    crs = utm_of(buildings)
    points = gpd.GeoDataFrame(geometry=items.geometry.representative_point().to_crs(crs), crs=crs)
    shapes = gpd.GeoDataFrame(geometry=buildings.geometry.to_crs(crs), crs=crs)
    shapes["area_m2"] = shapes.area
    near = gpd.sjoin_nearest(points, shapes, max_distance=distance_m, distance_col="distance_m")
    near = near.rename_axis("item").reset_index()
    near = near.sort_values(["item", "distance_m", "area_m2", "index_right"])
    first = near.drop_duplicates("item")
    named: pd.DataFrame = first[["item", "index_right"]].rename(columns={"index_right": "building"})
    return named


def _one_answer_each(
    items: gpd.GeoDataFrame, pairs: pd.DataFrame, index: pd.Index, how: str
) -> MatchResult:
    """One answer per footprint. Contradicting items leave a footprint without an answer."""
    answers = pairs.join(items[["severe", "class_index"]], on="item")
    by_building = answers.groupby("building")
    first = by_building[["severe", "class_index"]].first()
    spread = by_building[["severe", "class_index"]].nunique() > 1
    first["class_index"] = first["class_index"].where(~spread["class_index"], -1)
    conflict = spread["severe"]
    rows = first[~conflict].reindex(index)
    return MatchResult(
        rows=rows,
        how=how,
        items=len(items),
        items_unmatched=len(items) - int(pairs["item"].nunique()),
        conflicting_footprints=int(conflict.sum()),
    )
