"""Reads a published map through the snapshot that run.json names."""

import io
import json
from typing import Any

import geopandas as gpd
import pandas as pd

from quakestream.domain import ScaleClass
from quakestream.errors import RequestError
from quakestream.storage import MissingObjectError, Store


def current_run(store: Store) -> dict[str, Any]:
    """run.json at its fixed name.

    Raises:
        RequestError: if there is no finished map, or its run.json is not a JSON object.
    """
    try:
        run = json.loads(store.get("run.json"))
    except MissingObjectError as error:
        raise RequestError(
            "no finished map",
            store.uri,
            expected="run.json",
            remedy="give the `out` of a finished `quakestream map`; `quakestream status` shows "
            "the progress of a run",
        ) from error
    except ValueError as error:
        raise RequestError("not JSON", f"{store.uri}/run.json", got=str(error)) from error
    if not isinstance(run, dict):
        raise RequestError(
            "not a run", f"{store.uri}/run.json", "a JSON object", type(run).__name__
        )
    return run


def current_object(store: Store, run: dict[str, Any], name: str) -> bytes:
    """A product of the snapshot that `run` names."""
    return store.get(f"snapshots/{run['snapshot']}/{name}")


def current_buildings(store: Store, run: dict[str, Any]) -> gpd.GeoDataFrame:
    """buildings.parquet of the snapshot, EPSG:4326."""
    return gpd.read_parquet(io.BytesIO(current_object(store, run, "buildings.parquet")))


def current_table(store: Store, run: dict[str, Any], name: str) -> pd.DataFrame:
    """summary.csv or quarantine.parquet of the snapshot."""
    data = io.BytesIO(current_object(store, run, name))
    return pd.read_csv(data) if name.endswith(".csv") else pd.read_parquet(data)


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
