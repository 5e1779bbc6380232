"""Units of summary.csv: administrative units, or 500 m squares. Shares are estimated in them."""

from collections.abc import Mapping, Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry.base import BaseGeometry

from quakestream.errors import ShapeError

SQUARE_M = 500
OUTSIDE = "outside"
"""Unit of buildings outside all admin polygons."""
UNNAMED = "unnamed"
"""Name of admin polygons without a name."""
TOUCHING_DEG = 1e-3
"""Units at most so far apart are neighbours, about 100 m: outlines of districts leave gaps."""


def unit_ids(rows: gpd.GeoDataFrame, named: gpd.GeoDataFrame | None) -> NDArray[np.object_]:
    """Unit of each building or slide: of the named ones, or a square."""
    return square_ids(rows) if named is None else _admin_ids(rows, named)


def neighbours(unit_G: NDArray[np.object_], named: gpd.GeoDataFrame | None) -> NDArray[np.int64]:
    """Pairs of units that touch, as places in `unit_G`, each pair once; shape (A, 2)."""
    place_of = {unit: place for place, unit in enumerate(unit_G.tolist())}
    pairs = _square_pairs(place_of) if named is None else _admin_pairs(place_of, named)
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def square_ids(buildings: gpd.GeoDataFrame, side_m: int = SQUARE_M) -> NDArray[np.object_]:
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
        for row, e, n in zip(rows, east // side_m, north // side_m, strict=True):
            ids[row] = f"{name}_E{int(e) * side_m}_N{int(n) * side_m}"
    return ids


def named_units(admin: gpd.GeoDataFrame, admin_id: str, admin_code: str | None) -> gpd.GeoDataFrame:
    """Units with their `unit`, by which they are told apart, their `name` and any `code`."""
    for column in (admin_id, *([admin_code] if admin_code else [])):
        if column not in admin.columns:
            have = [c for c in admin.columns if c != "geometry"]
            raise ShapeError(f"has no column {column!r}", "summary.admin", got=f"columns {have}")
    name = _text(admin[admin_id], UNNAMED)
    texts = {"unit": name, "name": name}
    if admin_code:
        code = _text(admin[admin_code], "")
        texts = {"unit": np.where(code == "", name, code), "name": name, "code": code}
    return gpd.GeoDataFrame(texts, geometry=admin.geometry.to_numpy(), crs=admin.crs).to_crs(4326)


def unit_names(named: gpd.GeoDataFrame | None) -> dict[str, str]:
    """Names of administrative units by their `unit`; none for squares."""
    if named is None:
        return {}
    return dict(zip(named["unit"].astype(str), named["name"].astype(str), strict=True))


def named_id(unit: str, names: Mapping[str, str]) -> dict[str, str]:
    """`id` and, where a unit has one, `name`, as run.json has them."""
    return {"id": unit, "name": names[unit]} if unit in names else {"id": unit}


def unit_title(unit: str, name: str | None) -> str:
    """`Onikişubat (TR4602)`, or the unit alone where it is its name or has none."""
    return f"{name} ({unit})" if name and name != unit else unit


def _text(values: "pd.Series[Any]", missing: str) -> NDArray[np.object_]:
    """Values as text; what is missing would be left out of every count."""
    texts = [missing if pd.isna(value) else as_text(value) for value in values]
    return np.array(texts, object)


def as_text(value: object) -> str:
    """A name or code as text. Numbers of a column with gaps are floats in many files."""
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


def _square_pairs(place_of: dict[str, int]) -> set[tuple[int, int]]:
    """Squares that share an edge or a corner. Those of different zones do not touch."""
    pairs = set()
    for unit, place in place_of.items():
        if unit == OUTSIDE:
            continue
        zone, east, north = unit.split("_")
        e, n = int(east[1:]), int(north[1:])
        for de, dn in ((1, 0), (0, 1), (1, 1), (1, -1)):
            other = place_of.get(f"{zone}_E{e + de * SQUARE_M}_N{n + dn * SQUARE_M}")
            if other is not None:
                pairs.add((min(place, other), max(place, other)))
    return pairs


def _admin_pairs(place_of: dict[str, int], units: gpd.GeoDataFrame) -> set[tuple[int, int]]:
    place_N = units["unit"].map(place_of).to_numpy(np.float64)
    shape_N = np.asarray(units.geometry.values, object)[np.isfinite(place_N)]
    place_N = place_N[np.isfinite(place_N)].astype(np.int64)
    tree = shapely.STRtree(shape_N)
    one_A, other_A = tree.query(shape_N, predicate="dwithin", distance=TOUCHING_DEG)
    pairs = np.sort(np.stack([place_N[one_A], place_N[other_A]], axis=1), axis=1)
    return {(int(a), int(b)) for a, b in pairs if a != b}


def square_outlines(ids: Sequence[str], side_m: int = SQUARE_M) -> list[BaseGeometry | None]:
    """Outlines of `square_ids`, EPSG:4326; None for `outside`."""
    return [None if square == OUTSIDE else _outline(square, side_m) for square in ids]


def _outline(square: str, side_m: int) -> BaseGeometry:
    zone, east, north = square.split("_")
    epsg = (32600 if zone.endswith("N") else 32700) + int(zone[:-1])
    x, y = int(east[1:]), int(north[1:])
    corner = np.array([(x, y), (x + side_m, y), (x + side_m, y + side_m), (x, y + side_m)])
    to_degrees = Transformer.from_crs(epsg, 4326, always_xy=True)
    outline: BaseGeometry = shapely.Polygon(np.column_stack(to_degrees.transform(*corner.T)))
    return outline
