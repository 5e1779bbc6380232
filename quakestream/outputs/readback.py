"""Reads a published map through the snapshot that run.json names."""

import hashlib
import io
import json
from typing import Any

import geopandas as gpd
import pandas as pd

from quakestream.domain import ScaleClass
from quakestream.errors import RequestError, StorageError
from quakestream.outputs.buckets import check_bucket
from quakestream.outputs.fixed_names import inventory
from quakestream.outputs.layout import SNAPSHOTS
from quakestream.storage import MissingObjectError, Store

_AGAIN = "run the same `quakestream map` again: it writes the products anew and scores nothing"
_REQUIRED = frozenset(("snapshot", "products", "counts", "damage_scale"))


def current_run(store: Store) -> dict[str, Any]:
    """run.json at its fixed name.

    Raises:
        RequestError: if there is no finished map, or its run.json is damaged.
    """
    try:
        run = json.loads(store.get("run.json"))
    except MissingObjectError as error:
        check_bucket(store)
        raise RequestError(
            "no finished map",
            store.uri,
            expected="run.json",
            remedy="give the `out` of a finished `quakestream map`; `quakestream status` shows "
            "the progress of a run",
        ) from error
    except (ValueError, RecursionError) as error:
        raise RequestError(
            "not JSON", f"{store.uri}/run.json", got=str(error), remedy=_AGAIN
        ) from error
    missing = _REQUIRED - run.keys() if isinstance(run, dict) else _REQUIRED
    if missing:
        keys = f"an object with {', '.join(sorted(missing))}"
        raise RequestError("not a run", f"{store.uri}/run.json", keys, remedy=_AGAIN)
    return dict(run)


def current_object(store: Store, run: dict[str, Any], name: str) -> bytes:
    """A product of the snapshot that `run` names; at its fixed name where that one is damaged.

    Raises:
        MissingObjectError: if the snapshot has no such product.
        StorageError: if it is damaged.
    """
    places = (f"{SNAPSHOTS}{run['snapshot']}/{name}", name)
    entry = inventory(run).get(name)
    if entry is None:
        return store.get(places[0])
    for place in places:
        try:
            data = store.get(place)
        except MissingObjectError:
            continue
        if hashlib.sha256(data).hexdigest() == entry.get("sha256"):
            return data
    raise StorageError(
        "missing, or not the product that run.json names", store.uri_of(places[0]), remedy=_AGAIN
    )


def current_buildings(store: Store, run: dict[str, Any]) -> gpd.GeoDataFrame:
    """buildings.parquet of the snapshot, EPSG:4326."""
    return gpd.read_parquet(io.BytesIO(current_object(store, run, "buildings.parquet")))


def current_table(store: Store, run: dict[str, Any], name: str) -> pd.DataFrame:
    """summary.csv or quarantine.parquet of the snapshot."""
    return table_of(name, current_object(store, run, name))


def table_of(name: str, data: bytes) -> pd.DataFrame:
    """The rows of a product that is a CSV or Parquet file."""
    file = io.BytesIO(data)
    if name.endswith(".csv"):
        return pd.read_csv(file, dtype={"unit": str, "pcode": str})  # codes may begin with 0
    return pd.read_parquet(file)


def scale_of(run: dict[str, Any]) -> tuple[ScaleClass, ...]:
    """The damage scale of the map, mildest first."""
    return tuple(
        ScaleClass(
            index=int(row["index"]),
            label=row["label"],
            xbd=row["xbd"],
            ems98=tuple(row["ems98"]),
            copernicus=row["copernicus"],
        )
        for row in run["damage_scale"]
    )
