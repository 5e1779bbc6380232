"""A sample of buildings for spot checks, drawn from a published map.

What is drawn lies under `spot_checks/` of the map: `sample.json` says how, `sample.csv` and
`sample.geojson` list the buildings in the order in which they are checked. A map that is made
later leaves these alone.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.errors import RequestError
from quakestream.outputs.areas import DISTRICT
from quakestream.outputs.buildings import SHARE_COLUMNS
from quakestream.outputs.layout import SPOT_CHECKS
from quakestream.outputs.readback import current_object, scale_of
from quakestream.outputs.units import named_units, unit_ids, unit_names, unit_title
from quakestream.reduce.strata import (
    CHECKS_PER_STRATUM,
    FREE_LEVELS,
    STATED_LEVELS,
    Stratum,
    draw,
    strata_of,
    stratum_numbers,
)
from quakestream.storage import MissingObjectError, Store

SAMPLE_JSON, SAMPLE_CSV, SAMPLE_GEOJSON, SHEET = (
    f"{SPOT_CHECKS}{name}" for name in ("sample.json", "sample.csv", "sample.geojson", "sheet.html")
)
CHECKS_PER_DISTRICT = 6
"""Fewest checks for which a district is drawn by itself; smaller ones are drawn together."""
P_MEANS = "the map's probability of destroyed"
NOT_ASSESSED = "not assessed"
"""Name of the stratum of buildings that the map does not assess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """What `quakestream sample` was asked for."""

    checks: int = 100
    by_district: bool = False
    not_assessed: int = 0
    """Checks among the buildings that the map does not assess."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpotSample:
    """How a sample was drawn, and its buildings."""

    snapshot: str
    """The snapshot that it was drawn from."""
    request: SampleRequest
    domains: tuple[tuple[str, ...], ...]
    """Districts that are drawn together; one empty group where districts do not matter."""
    strata: tuple[Stratum, ...]
    unseen: int
    """Buildings that the map does not assess."""
    table: pd.DataFrame
    """Rows of sample.csv."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of districts; none for squares, and in samples of earlier versions."""

    def stratum_name(self, g: int) -> str:
        """`p 0.10–0.25`, after the names of its districts; those alone where it is all of them."""
        one = self.strata[g]
        text = f"p {one.low:.3f}–{min(one.high, 1.0):.3f}"
        districts = [unit_title(name, self.names.get(name)) for name in self.domains[one.domain]]
        if not districts:
            return text
        where = f"{', '.join(districts[:2])}{' …' * (len(districts) > 2)}"
        return where if one.low <= 0 and one.high >= 1 else f"{where}: {text}"

    def strata_lines(self) -> tuple[str, ...]:
        """What the strata are, and where checks are too few for ranges of the map's score."""
        strata, total = len(self.strata), len(self.table)
        start = f"{total:,} building{'s' * (total != 1)} to check, by"
        if self.domains == ((),):
            return (f"{start} {strata} range{'s' * (strata != 1)} of p, {P_MEANS}:",)
        ranges = f" and range of p, {P_MEANS}" if strata > len(self.domains) else ""
        line = f"{start} district ({_domains_text(self.domains)}){ranges}:"
        given = [0] * len(self.domains)
        for one in self.strata:
            given[one.domain] += one.checks
        needed = 2 * CHECKS_PER_STRATUM
        few = sum(checks < needed for checks in given)
        if not few:
            return (line,)
        where = f"{few} of {len(given)} have" if few < len(given) else "each has"
        return (line, f"  ({where} too few checks for ranges of p: those take {needed} or more)")

    def strata_in(
        self, rows: gpd.GeoDataFrame, district_N: NDArray[np.object_]
    ) -> NDArray[np.int64]:
        """The stratum of each row of the map that the sample was drawn from; -1: not assessed."""
        p_N, assessed_N = severe_probability(rows), assessed(rows)
        domain_N = _domains_of(district_N, self.domains)
        stratum_N = stratum_numbers(self.strata, np.nan_to_num(p_N, nan=-1.0), domain_N)
        return np.where(assessed_N, stratum_N, -1)

    def files(self) -> dict[str, bytes]:
        """sample.json, sample.csv and sample.geojson by name."""
        return {
            SAMPLE_JSON: (json.dumps(self.record(), indent=2, ensure_ascii=False) + "\n").encode(),
            SAMPLE_CSV: self.table.to_csv(index=False, lineterminator="\n").encode(),
            SAMPLE_GEOJSON: _geojson(self.table),
        }

    def record(self) -> dict[str, Any]:
        """The content of sample.json."""
        return {
            "snapshot": self.snapshot,
            "checks": self.request.checks,
            "by_district": self.request.by_district,
            "seed": self.request.seed,
            "domains": [list(names) for names in self.domains],
            "names": dict(self.names),
            "strata": [
                {
                    "name": self.stratum_name(g),
                    "domain": one.domain,
                    "low": one.low,
                    "high": None if np.isinf(one.high) else one.high,
                    "buildings": one.buildings,
                    "checks": one.checks,
                }
                for g, one in enumerate(self.strata)
            ],
            "not_assessed": {"buildings": self.unseen, "checks": self.request.not_assessed},
        }


def draw_sample(store: Store, run: Mapping[str, Any], request: SampleRequest) -> SpotSample:
    """Draws a sample of the buildings of a published map.

    Raises:
        RequestError: if the map has no assessed building, or no checks are wanted.
    """
    if request.checks < 1 or request.not_assessed < 0:
        raise RequestError("no checks are asked for", "--n", "at least 1", str(request.checks))
    rows = map_rows(store, run)
    seen_N = assessed(rows)
    if not seen_N.any():
        raise RequestError(
            "no building is assessed, so there is no verdict to check",
            store.uri,
            remedy="`quakestream plan` says why no image shows them",
        )
    named = named_districts(store, run)
    district_N = unit_ids(rows, named)
    domains = _domains(district_N[seen_N], request) if request.by_district else ((),)
    domain_N = _domains_of(district_N, domains)
    p_N = severe_probability(rows)
    strata = strata_of(p_N[seen_N], domain_N[seen_N], request.checks, _levels(rows[seen_N]))
    stratum_N = stratum_numbers(strata, np.nan_to_num(p_N, nan=-1.0), domain_N)
    stratum_N[~seen_N] = -1
    rng = np.random.default_rng(request.seed + 1)
    unseen = np.flatnonzero(~seen_N)
    extra = rng.permutation(unseen)[: request.not_assessed]
    chosen = rng.permutation(np.concatenate([draw(strata, stratum_N, request.seed), extra]))
    sample = SpotSample(
        snapshot=str(run["snapshot"]),
        request=SampleRequest(
            checks=sum(one.checks for one in strata),
            by_district=request.by_district,
            not_assessed=len(extra),
            seed=request.seed,
        ),
        domains=domains,
        strata=strata,
        unseen=len(unseen),
        table=pd.DataFrame(),
        names=unit_names(named),
    )
    table = _table(sample, rows.iloc[chosen], stratum_N[chosen], district_N[chosen])
    return replace(sample, table=table)


def read_sample(store: Store) -> SpotSample:
    """The sample that was drawn last.

    Raises:
        RequestError: if none was drawn, or its files are damaged.
    """
    try:
        record = json.loads(store.get(SAMPLE_JSON))
        texts = dict.fromkeys(("building_id", "district", "district_name"), str)
        table = pd.read_csv(io.BytesIO(store.get(SAMPLE_CSV)), dtype=texts, keep_default_na=False)
    except MissingObjectError as error:
        raise RequestError(
            "no sample was drawn from this map",
            store.uri_of(SAMPLE_JSON),
            remedy="draw one with `quakestream sample`",
        ) from error
    except ValueError as error:
        raise RequestError("is damaged", store.uri_of(SAMPLE_JSON), got=str(error)) from error
    return SpotSample(
        snapshot=record["snapshot"],
        request=SampleRequest(
            checks=record["checks"],
            by_district=record["by_district"],
            not_assessed=record["not_assessed"]["checks"],
            seed=record["seed"],
        ),
        domains=tuple(tuple(names) for names in record["domains"]),
        strata=tuple(
            Stratum(
                domain=one["domain"],
                low=one["low"],
                high=np.inf if one["high"] is None else one["high"],
                buildings=one["buildings"],
                checks=one["checks"],
            )
            for one in record["strata"]
        ),
        unseen=record["not_assessed"]["buildings"],
        table=table,
        names=record.get("names", {}),
    )


def map_rows(store: Store, run: Mapping[str, Any]) -> gpd.GeoDataFrame:
    """buildings.parquet of a snapshot. `attrs["labels"]` holds the labels of its scale."""
    rows = gpd.read_parquet(io.BytesIO(current_object(store, dict(run), "buildings.parquet")))
    rows.attrs["labels"] = [c.label for c in scale_of(dict(run))]
    return rows


def severe_probability(rows: gpd.GeoDataFrame) -> NDArray[np.float64]:
    """The map's probability of the most severe class; NaN where not assessed."""
    p_N: NDArray[np.float64] = rows[f"p_{rows.attrs['labels'][-1]}"].to_numpy(
        np.float64, na_value=np.nan
    )
    return p_N


def assessed(rows: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """True for buildings with a verdict."""
    assessed_N: NDArray[np.bool_] = (rows["status"] == "assessed").to_numpy(np.bool_)
    return assessed_N


def _levels(rows: gpd.GeoDataFrame) -> tuple[float, ...]:
    """How far off the map's level may be: less where the map states a share of destroyed."""
    stated = SHARE_COLUMNS[0] in rows and bool(rows[SHARE_COLUMNS[0]].notna().all())
    return STATED_LEVELS if stated else FREE_LEVELS


def districts_in(
    store: Store, run: Mapping[str, Any], rows: gpd.GeoDataFrame
) -> NDArray[np.object_]:
    """The district of each row, by its code or name as in summary.csv; else its 500 m square."""
    return unit_ids(rows, named_districts(store, run))


def named_districts(store: Store, run: Mapping[str, Any]) -> gpd.GeoDataFrame | None:
    """The districts of a snapshot with their `unit` and `name`; None where it has squares."""
    try:
        areas = gpd.read_parquet(io.BytesIO(current_object(store, dict(run), "areas.parquet")))
    except MissingObjectError:  # a map of an earlier version
        areas = gpd.GeoDataFrame({"kind": []}, geometry=[], crs=4326)
    districts = areas[areas["kind"] == DISTRICT]
    if districts.empty:
        return None
    coded = "code" in districts and bool(districts["code"].notna().any())
    return named_units(districts, "name", "code" if coded else None)


def _domains(
    district_N: NDArray[np.object_], request: SampleRequest
) -> tuple[tuple[str, ...], ...]:
    """Districts with enough checks by themselves, the largest first; the others are one domain."""
    names, sizes = np.unique(district_N.astype(str), return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    alone = max(1, request.checks // CHECKS_PER_DISTRICT)
    if len(names) <= alone:
        return tuple((str(names[k]),) for k in order)
    head = tuple((str(names[k]),) for k in order[: alone - 1])
    return (*head, tuple(sorted(str(names[k]) for k in order[alone - 1 :])))


def _domains_text(domains: tuple[tuple[str, ...], ...]) -> str:
    """`3`, or `2, and 5 smaller ones together`."""
    alone = sum(len(names) == 1 for names in domains)
    parts = [f"{alone}"] if alone else []
    for names in domains:
        if len(names) > 1:
            parts.append(f"{len(names)} {'smaller ones ' * bool(alone)}together")
    return ", and ".join(parts)


def _domains_of(
    district_N: NDArray[np.object_], domains: tuple[tuple[str, ...], ...]
) -> NDArray[np.int64]:
    """The domain of each row; the last one for a district that has no domain."""
    if domains == ((),):
        return np.zeros(len(district_N), np.int64)
    number = {name: d for d, names in enumerate(domains) for name in names}
    return np.array([number.get(str(name), len(domains) - 1) for name in district_N], np.int64)


def _table(
    sample: SpotSample,
    rows: gpd.GeoDataFrame,
    stratum_N: NDArray[np.int64],
    district_N: NDArray[np.object_],
) -> pd.DataFrame:
    names = {g: sample.stratum_name(g) for g in range(len(sample.strata))} | {-1: NOT_ASSESSED}
    drawn = sample.request.not_assessed / max(sample.unseen, 1)
    inclusion = {g: one.inclusion for g, one in enumerate(sample.strata)} | {-1: drawn}
    last = f"p_{rows.attrs['labels'][-1]}" if "labels" in rows.attrs else ""
    points = rows.geometry.representative_point()
    return pd.DataFrame(
        {
            "building_id": rows["building_id"].astype(str).to_numpy(),
            "stratum": [names[g] for g in stratum_N.tolist()],
            "inclusion_probability": [round(inclusion[g], 6) for g in stratum_N.tolist()],
            "longitude": points.x.round(7).to_numpy(),
            "latitude": points.y.round(7).to_numpy(),
            "district": district_N,
            "district_name": [sample.names.get(str(name), "") for name in district_N],
            last: rows[last].round(4).to_numpy(),
            "damage_label": rows["damage_label"].to_numpy(),
        }
    )


def _geojson(table: pd.DataFrame) -> bytes:
    """Points with the columns of the table."""
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [one["longitude"], one["latitude"]]},
            "properties": {k: v for k, v in one.items() if k not in ("longitude", "latitude")},
        }
        for one in json.loads(table.to_json(orient="records"))
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False)
    return (text + "\n").encode()
