"""Compares a map with the maps of others, per building and per square of ground.

Maps are compared one by one. Their counts are never added: they see different buildings on
different days. A building without an item of a map was not looked at by that map.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from quakestream.domain import ScaleClass
from quakestream.domain.damage_rules import DESTROYED, MAJOR_OR_WORSE, DamageRule
from quakestream.errors import RequestError
from quakestream.outputs.geoparquet import geoparquet_bytes
from quakestream.outputs.matching import OVERLAP_SHARE, nearest, overlapping
from quakestream.outputs.others import OtherMap, OtherRequest, read_other
from quakestream.outputs.readback import current_buildings, current_run, scale_of
from quakestream.outputs.scores import ground_blocks
from quakestream.outputs.units import SQUARE_M, square_ids, square_outlines
from quakestream.reduce import metrics
from quakestream.reduce.metrics import Interval
from quakestream.storage import Store

SAYS = ("destroyed", "not_destroyed", "unsure", "not_analysed", "contradictory")
"""What a map says of a building; null where it has no item there."""
HOW_MANY = ("all", "most", "some", "one", "none", "unsure", "nobody_looked")
"""How many of the maps that looked at a building say destroyed.

`all` needs two maps. `most` is more than half, `some` is two or more but not most. `unsure`: a map
looked, and none could tell.
"""
CELL_CLASSES = (
    "agree_destroyed",
    "agree_none",
    "only_ours",
    "only_theirs",
    "mixed",
    "apart",
)
"""Agreement with one map in a square, over the buildings that both judged; `apart` without any."""
OURS = "ours"
_MAIN, _SAME = 0.5, 0.9
"""Of several polygons on a building, those count that are at least half as like it as the likest
one, because outlines of neighbours overlap where images lean. An outline that is nearly the same
stands alone."""
_AGREE = 0.5
"""Smallest share of buildings called destroyed by both, among those that one of them calls so, at
which a square agrees."""

Objects = NDArray[np.object_]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """Options for matching, for what counts as destroyed, and for intervals."""

    distance_m: float = 5.0
    """Largest distance of a point to its footprint."""
    cell_m: int = SQUARE_M
    severe: bool = False
    """Major damage counts as destroyed, too."""
    resamples: int = 1000
    block_m: float = 200.0
    """Side of the squares that the bootstrap resamples; 0: single buildings."""
    seed: int = 0

    @property
    def rule(self) -> DamageRule:
        return MAJOR_OR_WORSE if self.severe else DESTROYED


@dataclass(frozen=True, slots=True, kw_only=True)
class MapAgreement:
    """Agreement with one map of others. Its counts stand alone."""

    name: str
    origin: str
    column: str
    how: str
    damage_only: bool
    """The map has no item that says undamaged. Buildings without an item are not intact, and the
    figures hold for damaged buildings alone."""
    items: int
    items_without_claim: int
    items_unmatched: int
    judged_by_both: int
    both_destroyed: int
    only_ours: int
    only_theirs: int
    neither: int
    agreement: Interval
    """Share of the buildings judged by both on which they agree; 95 % over blocks of ground."""
    kappa: float
    """Cohen's kappa: 0 as good as chance, 1 full agreement; nan where it says nothing, as with maps
    of damage only."""
    unsure: int
    """Buildings of which the other map is not sure."""
    not_analysed: int
    contradictory: int
    """Buildings whose items contradict each other."""
    without_item: int
    """Buildings without an item. They never count as undamaged."""
    not_assessed_by_us: int
    """Buildings that the other map judged and ours did not."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """A map beside those of others."""

    maps: tuple[MapAgreement, ...]
    buildings: gpd.GeoDataFrame
    """EPSG:4326: `building_id`, `says_ours`, `says_NAME` and `value_NAME` of each map,
    `maps_destroyed` (one of `HOW_MANY`), `cell_id`."""
    cells: gpd.GeoDataFrame
    """EPSG:4326: `cell_id`, `buildings`, `agreement_NAME` (one of `CELL_CLASSES`), and
    `maps_destroyed`, where a map says destroyed if it does so of one building in the square."""
    rule: str
    """What counts as destroyed, in a sentence."""

    def to_json(self) -> dict[str, Any]:
        """Figures as plain values; those that the data cannot give are null."""
        return {
            "rule": self.rule,
            "buildings": len(self.buildings),
            "assessed": int(self.buildings["says_ours"].isin(SAYS[:2]).sum()),
            "maps": [_plain(asdict(one)) for one in self.maps],
            "buildings_by_maps_destroyed": _tally(self.buildings["maps_destroyed"]),
            "cells_by_maps_destroyed": _tally(self.cells["maps_destroyed"]),
        }


def compare_stored(
    store: Store, others: Sequence[OtherRequest], options: CompareOptions | None = None
) -> Comparison:
    """Compares the finished map in a store with maps of others.

    Raises:
        RequestError: if there is no finished map, or a map of others is unusable.
    """
    run = current_run(store)
    maps = [read_other(request, store.options) for request in others]
    return compare(current_buildings(store, run), scale_of(run), maps, options)


def compare(
    buildings: gpd.GeoDataFrame,
    classes: Sequence[ScaleClass],
    others: Sequence[OtherMap],
    options: CompareOptions | None = None,
) -> Comparison:
    """Compares rows of buildings.parquet with maps of others.

    Raises:
        RequestError: if a map lies elsewhere, or the side of the squares is too small.
    """
    chosen = options or CompareOptions()
    if chosen.cell_m < 10:
        raise RequestError(
            "side of the squares is too small", "cell", "10 m or more", f"{chosen.cell_m} m"
        )
    buildings = buildings.reset_index(drop=True)
    ours_N = _ours(buildings, classes, chosen.rule)
    block_N = ground_blocks(buildings, chosen.block_m)
    table = {"building_id": buildings["building_id"], "says_ours": ours_N}
    rows, columns = [], [ours_N]
    for name, other in zip(_distinct([o.name for o in others]), others, strict=True):
        theirs = _Matched.of(other, buildings, chosen)
        rows.append(_agreement(name, other, theirs, ours_N, block_N, chosen))
        table |= {f"says_{name}": theirs.says_N, f"value_{name}": theirs.value_N}
        columns.append(theirs.says_N)
    says = np.column_stack(columns)
    table["maps_destroyed"] = how_many(says)
    table["cell_id"] = square_ids(buildings, chosen.cell_m)
    frame = gpd.GeoDataFrame(table, geometry=buildings.geometry, crs=buildings.crs)
    names = [row.name for row in rows]
    return Comparison(
        maps=tuple(rows),
        buildings=frame,
        cells=_cells(frame, names, says, chosen.cell_m),
        rule=chosen.rule.words,
    )


def how_many(says: Objects) -> Objects:
    """One of `HOW_MANY` per row of a table of `SAYS` with one column per map."""
    destroyed_N = (says == "destroyed").sum(axis=1)
    looked_N = destroyed_N + (says == "not_destroyed").sum(axis=1)
    open_N = np.isin(says.astype(str), ("unsure", "contradictory")).any(axis=1)
    cases = {
        "all": (destroyed_N == looked_N) & (looked_N > 1),
        "one": destroyed_N == 1,
        "most": destroyed_N * 2 > looked_N,
        "some": destroyed_N > 1,
        "none": looked_N > 0,
        "unsure": open_N,
    }
    chosen = np.select(list(cases.values()), list(cases), default="nobody_looked")
    return chosen.astype(object)


def kappa(both: int, only_ours: int, only_theirs: int, neither: int) -> float:
    """Cohen's kappa (1960) of two yes/no answers; nan where one map always says the same."""
    n = both + only_ours + only_theirs + neither
    ours, theirs = both + only_ours, both + only_theirs
    if ours in (0, n) or theirs in (0, n):  # also where n is 0
        return float("nan")
    by_chance = (ours * theirs + (n - ours) * (n - theirs)) / n**2
    return ((both + neither) / n - by_chance) / (1 - by_chance)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Matched:
    """What one map says of each building."""

    says_N: Objects
    value_N: Objects
    unmatched: int
    how: str

    @classmethod
    def of(
        cls, other: OtherMap, buildings: gpd.GeoDataFrame, options: CompareOptions
    ) -> "_Matched":
        pairs, how = _pairs(other, buildings, options.distance_m)
        items = other.items.assign(says=_says(other.items["claim"], options.rule))
        found = pairs.join(items[["says", "value"]], on="item")
        known = found[found["says"] != "not_analysed"]
        groups = known.groupby("building")["says"]
        one = groups.first().where(groups.nunique() == 1, "contradictory")
        hidden = found.loc[~found["building"].isin(one.index), "building"].unique()
        says = pd.concat([one, pd.Series("not_analysed", hidden, dtype=object)])
        texts = found.groupby("building")["value"].agg(lambda v: " | ".join(sorted(set(v))))
        return cls(
            says_N=says.reindex(buildings.index).to_numpy(object),
            value_N=texts.reindex(buildings.index).to_numpy(object),
            unmatched=len(items) - int(pairs["item"].nunique()),
            how=how,
        )


def _pairs(
    other: OtherMap, buildings: gpd.GeoDataFrame, distance_m: float
) -> tuple[pd.DataFrame, str]:
    """Pairs of items and buildings: by id, polygons by overlap, anything else by distance."""
    items = other.items
    if "building_id" in items.columns:
        row_of = pd.Series(buildings.index, index=buildings["building_id"].astype(str))
        row = items["building_id"].map(row_of[~row_of.index.duplicated()]).dropna()
        if row.empty:
            raise _elsewhere(other, buildings, "none of its ids is in the map")
        return pd.DataFrame({"item": row.index, "building": row.astype(int)}), "by building_id"
    shown = items[~(items.geometry.isna() | items.geometry.is_empty)]
    west, south, east, north = buildings.total_bounds
    margin = distance_m / 50_000  # degrees; more than the distance up to 60° of latitude
    near = shown.cx[west - margin : east + margin, south - margin : north + margin]
    if near.empty:
        raise _elsewhere(other, buildings, "none of its items lies there")
    flat = near.geometry.geom_type.isin(("Polygon", "MultiPolygon"))
    parts, how = [], []
    if flat.any():
        pairs = overlapping(near[flat], buildings)
        likest = pairs.groupby("building")["likeness"].transform("max")
        parts.append(pairs[pairs["likeness"] >= likest.where(likest >= _SAME, _MAIN * likest)])
        how.append(f"polygons sharing {OVERLAP_SHARE:.0%} of the smaller outline")
    if not flat.all():
        parts.append(nearest(near[~flat], buildings, distance_m))
        how.append(f"points within {distance_m:g} m of the nearest footprint")
    return pd.concat(parts, ignore_index=True), "; ".join(how)


def _elsewhere(other: OtherMap, buildings: gpd.GeoDataFrame, said: str) -> RequestError:
    def box(bounds: Any) -> str:
        return ", ".join(f"{v:.4f}" for v in bounds)

    shapes = other.items.geometry.dropna()
    got = f"items in {box(shapes.total_bounds)}" if len(shapes) else "a table of ids"
    return RequestError(
        "does not overlap the map",
        f"map {other.name}",
        expected=f"buildings in {box(buildings.total_bounds)}",
        got=f"{got}; {said}",
        remedy="give a map of the same place; check its CRS",
    )


def _ours(buildings: gpd.GeoDataFrame, classes: Sequence[ScaleClass], rule: DamageRule) -> Objects:
    grades = {c.label: c.xbd for c in classes}
    claim = buildings["damage_label"].map(grades)
    return _says(claim.where(buildings["status"] == "assessed", "not_analysed"), rule)


def _says(claim: pd.Series, rule: DamageRule) -> Objects:
    """`SAYS` of claims, as a rule counts their grades."""
    names = dict.fromkeys(rule.no_damage, "not_destroyed") | dict.fromkeys(rule.damage, "destroyed")
    says: Objects = claim.map(lambda c: names.get(c, c)).to_numpy(object)
    return says


def _agreement(
    name: str,
    other: OtherMap,
    matched: _Matched,
    ours_N: Objects,
    block_N: NDArray[np.int64],
    options: CompareOptions,
) -> MapAgreement:
    theirs_N = matched.says_N
    judged_N, ours_judged_N = _judged(theirs_N), _judged(ours_N)
    both_N = judged_N & ours_judged_N
    ours, theirs = ours_N[both_N] == "destroyed", theirs_N[both_N] == "destroyed"
    counts = {
        "both_destroyed": int((ours & theirs).sum()),
        "only_ours": int((ours & ~theirs).sum()),
        "only_theirs": int((~ours & theirs).sum()),
        "neither": int((~ours & ~theirs).sum()),
    }
    said = pd.Series(theirs_N).value_counts()
    return MapAgreement(
        name=name,
        origin=other.origin,
        column=other.column,
        how=matched.how,
        damage_only=other.damage_only,
        items=len(other.items) + other.without_claim,
        items_without_claim=other.without_claim,
        items_unmatched=matched.unmatched,
        judged_by_both=int(both_N.sum()),
        **counts,
        agreement=_share(ours, theirs, block_N[both_N], options),
        kappa=float("nan") if other.damage_only else kappa(*counts.values()),
        **{word: int(said.get(word, 0)) for word in SAYS[2:]},
        without_item=int(pd.isna(theirs_N).sum()),
        not_assessed_by_us=int((judged_N & ~both_N).sum()),
        notes=other.notes,
    )


def _share(
    ours_N: NDArray[np.bool_],
    theirs_N: NDArray[np.bool_],
    block_N: NDArray[np.int64],
    options: CompareOptions,
) -> Interval:
    """Share of buildings on which two maps agree; nan without any."""
    if not len(ours_N):
        return Interval(value=float("nan"), low=float("nan"), high=float("nan"))

    def share(theirs: NDArray[np.bool_], ours: NDArray[np.float64]) -> float:
        return float(np.mean(theirs == (ours > 0.5)))

    return metrics.bootstrap(
        share,
        theirs_N,
        ours_N.astype(np.float64),
        block_N,
        resamples=options.resamples,
        seed=options.seed,
    )


def _judged(says_N: Objects) -> NDArray[np.bool_]:
    judged_N: NDArray[np.bool_] = np.isin(says_N.astype(str), SAYS[:2])
    return judged_N


def _cells(
    frame: gpd.GeoDataFrame, names: Sequence[str], says: Objects, cell_m: int
) -> gpd.GeoDataFrame:
    """One row per square that holds a building."""
    groups = list(frame.groupby("cell_id", sort=True).indices.items())
    table: dict[str, Any] = {
        "cell_id": [cell for cell, _ in groups],
        "buildings": [len(rows) for _, rows in groups],
    }
    for column, name in enumerate(names, start=1):
        table[f"agreement_{name}"] = [
            _cell_class(says[rows, 0], says[rows, column]) for _, rows in groups
        ]
    any_says = np.array([[_any(column) for column in says[rows].T] for _, rows in groups], object)
    table["maps_destroyed"] = how_many(any_says)
    return gpd.GeoDataFrame(table, geometry=square_outlines(table["cell_id"], cell_m), crs=4326)


def _cell_class(ours_N: Objects, theirs_N: Objects) -> str:
    judged_N = _judged(ours_N) & _judged(theirs_N)
    ours, theirs = ours_N[judged_N] == "destroyed", theirs_N[judged_N] == "destroyed"
    if not judged_N.any():
        return "apart"
    either = int((ours | theirs).sum())
    if not either:
        return "agree_none"
    if (ours & theirs).sum() >= _AGREE * either:
        return "agree_destroyed"
    if not theirs.any() or not ours.any():
        return "only_ours" if ours.any() else "only_theirs"
    return "mixed"


def _any(says_N: Objects) -> str | None:
    """What a map says of a square: destroyed if it says so of one building."""
    said = set(says_N[~pd.isna(says_N)])
    return next((s for s in SAYS if s in said), None)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of columns; repeated ones get a number, and `ours` is ours."""
    used, out = {OURS}, []
    for name in names:
        number, own = 2, name
        while own in used:
            own, number = f"{name}_{number}", number + 1
        used.add(own)
        out.append(own)
    return out


def _tally(column: pd.Series) -> dict[str, int]:
    counts = column.value_counts()
    return {name: int(counts[name]) for name in HOW_MANY if name in counts.index}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def written(result: Comparison) -> dict[str, bytes]:
    """Files of a comparison by name."""
    columns = [c for c in result.buildings.columns if c != "geometry"]
    return {
        "compare.parquet": geoparquet_bytes(
            result.buildings, {name: pa.string() for name in columns}
        ),
        "compare.geojson": _geojson(result.buildings),
        "compare_cells.geojson": _geojson(result.cells),
    }


def _geojson(frame: gpd.GeoDataFrame) -> bytes:
    """GeoJSON with coordinates to a centimetre."""
    rounded = shapely.set_precision(frame.geometry.to_numpy(), 1e-7, mode="pointwise")
    text: str = frame.set_geometry(gpd.GeoSeries(rounded, frame.index, crs=frame.crs)).to_json(
        drop_id=True
    )
    return text.encode()
