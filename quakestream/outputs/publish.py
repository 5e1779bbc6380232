"""Publishes a map: first a whole snapshot, then the fixed names, run.json last."""

import hashlib
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow.parquet as pq

from quakestream.outputs.buildings import (
    buildings_parquet,
    check_accounting,
    count,
    ordered_buildings,
)
from quakestream.outputs.coverage import coverage_parquet
from quakestream.outputs.products import RunProducts
from quakestream.outputs.quarantine import first_seen_in, merged_issues, quarantine_parquet
from quakestream.outputs.summary import summary_csv, summary_table
from quakestream.outputs.viewer import viewer_html
from quakestream.storage import Store

RUN_JSON = "run.json"


def publish(store: Store, products: RunProducts) -> str:
    """Writes every product and returns the id of the snapshot.

    Object stores have no rename, so the snapshot is the atomic unit. `run.json` at its fixed
    name is written last and names a snapshot that is whole. The id is the time and a digest of
    the tables. The same tables, published again, keep their snapshot.

    Raises:
        AccountingError: if rows out are not footprints in; nothing is written.
        ShapeError: if a table lacks columns of the contract; nothing is written.
        StorageError: if the store fails; the earlier snapshot stays current.
    """
    now = datetime.now(UTC)
    rows = ordered_buildings(products.buildings, products.labels, products.layers)
    counts = dict(products.run.get("counts", {}))
    check_accounting(rows, counts)
    summary = summary_table(rows, products.labels, products.admin, products.admin_id)
    tables = {
        "buildings.parquet": buildings_parquet(rows, products.labels, products.layers),
        "coverage.parquet": coverage_parquet(products.coverage),
        "quarantine.parquet": quarantine_parquet(
            products.issues, now.replace(microsecond=0), _first_seen(store)
        ),
        "summary.csv": summary_csv(summary),
    }
    snapshot = _snapshot_id(store, tables, now)
    run = {
        **products.run,
        "counts": counts | count(rows) | {"quarantined": len(merged_issues(products.issues))},
        "damage_scale": [_scale_row(c) for c in products.classes],
        "snapshot": snapshot,
        "published": now.isoformat(timespec="seconds"),
    }
    objects = tables | {"index.html": viewer_html(products, rows, run)}
    run["products"] = _inventory(objects)
    objects[RUN_JSON] = run_json(run)
    for prefix in (f"snapshots/{snapshot}/", ""):
        for name, data in objects.items():
            store.put(prefix + name, data)
    return snapshot


def run_json(run: Mapping[str, Any]) -> bytes:
    """Indented JSON in the given order of keys, with times and paths as text, without NaN."""
    return (json.dumps(_plain(run), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    """A value of plain JSON types: no numpy scalars, times or non-finite numbers."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _scale_row(row: Any) -> dict[str, Any]:
    return {
        "index": row.index,
        "label": row.label,
        "xbd": row.xbd,
        "ems98": list(row.ems98),
        "copernicus": row.copernicus,
    }


def _inventory(objects: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [
        {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in objects.items()
    ]


def _snapshot_id(store: Store, tables: Mapping[str, bytes], now: datetime) -> str:
    digest = hashlib.sha256()
    for name in sorted(tables):
        digest.update(name.encode() + b"\0" + hashlib.sha256(tables[name]).digest())
    short = digest.hexdigest()[:12]
    same = [k.split("/")[1] for k in store.list("snapshots/") if k.endswith(f"-{short}/{RUN_JSON}")]
    return min(same) if same else f"{now:%Y%m%dT%H%M%SZ}-{short}"


def _first_seen(store: Store) -> dict[tuple[str, str, str], datetime]:
    """`first_seen` times of the published map, so that they stay the first ones."""
    if not store.exists("quarantine.parquet"):
        return {}
    return first_seen_in(pq.read_table(io.BytesIO(store.get("quarantine.parquet"))))
