"""A small training store of noise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.storage import StorageOptions
from training.data.store import HazardColumn, StoreMeta, StoreWriter
from training.data.store_format import STATISTICS

HAZARD = (
    HazardColumn(name="dpm", unit="", group="layers"),
    HazardColumn(name="mmi", unit="MMI", group="shaking"),
    HazardColumn(name="pga_g", unit="g", group="shaking"),
    HazardColumn(name="vs30_m_s", unit="m/s", group="site"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MadeStore:
    """Content that was written to a store, to compare with what is read."""

    uri: str
    meta: StoreMeta
    arrays: dict[str, NDArray[Any]]
    table: pd.DataFrame


def noise(meta: StoreMeta, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Pixels of every chip of a store."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.random((meta.chips, *shape)) < 0.4
        if name == "inside"
        else rng.integers(0, 256, (meta.chips, *shape)).astype(np.uint8)
        for name, shape in meta.arrays.items()
    }


def rows_of(meta: StoreMeta, seed: int = 0) -> pd.DataFrame:
    """A row per chip: three regions, all labels in turn, a tenth of hazard values missing."""
    rng, count = np.random.default_rng(seed), meta.chips
    number = np.arange(count)
    columns: dict[str, Any] = {
        "chip": number,
        "building_id": [f"b{n}" for n in number],
        "label": number % (len(meta.classes) + 1) - 1,
        "region": np.array(["east", "north", "west"], object)[number % 3],
        "scene": np.array([f"scene-{n % 4}" for n in number], object),
        "source": np.array(["first", "second"], object)[number % 2],
        "epsg": 32637,
        "x_m": 500_000 + rng.uniform(0, 2_000, count),
        "y_m": 4_100_000 + rng.uniform(0, 2_000, count),
        "weight": 1.0,
    }
    columns |= {name: rng.uniform(20, 90, count) for name in STATISTICS}
    for name in meta.hazard_names:
        columns[name] = np.where(rng.random(count) < 0.1, np.nan, rng.random(count))
    return pd.DataFrame(columns)


def make_store(
    uri: str, *, seed: int = 0, options: StorageOptions | None = None, **changed: Any
) -> MadeStore:
    """Writes a finished store; `changed` replaces fields of its meta."""
    given: dict[str, Any] = {
        "classes": ("slight", "heavy", "destroyed"),
        "hazard": HAZARD,
        "gsd_m": 0.5,
        "crop_px": 8,
        "epochs": ("pre", "post"),
        "chips": 23,
        "shard_chips": 5,
    }
    meta = StoreMeta(**(given | changed))
    writer = StoreWriter(uri=uri, meta=meta, options=options or StorageOptions())
    arrays = noise(meta, seed)
    writer.begin()
    for shard in reversed(range(meta.shards)):
        part = slice(shard * meta.shard_chips, (shard + 1) * meta.shard_chips)
        writer.write(shard, {name: array[part] for name, array in arrays.items()})
    table = rows_of(meta, seed)
    writer.finish(table)
    return MadeStore(uri=uri, meta=meta, arrays=arrays, table=table)
