"""Publishes a map: first a whole snapshot, then the fixed names, run.json last."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import geopandas as gpd
import pyarrow as pa
import pyarrow.parquet as pq

from quakestream.errors import StorageError
from quakestream.outputs.buildings import check_accounting, count, ordered_buildings
from quakestream.outputs.coverage import coverage_counts
from quakestream.outputs.landslides import landslide_counts, ordered_landslides
from quakestream.outputs.layout import ANSWERS, RUN_JSON, SNAPSHOTS, SPOT_CHECKS
from quakestream.outputs.products import RunProducts
from quakestream.outputs.quarantine import first_seen_in, merged_issues
from quakestream.outputs.table import OPTIONAL, PAGES, TABLES, PageContext, PublishContext
from quakestream.redaction import redacted_tree
from quakestream.storage import Store

UNUSED_ANSWERS = (
    f"Answers of spot checks are kept under {SPOT_CHECKS} and do not correct this map: "
    "`quakestream verify OUT` applies them."
)
"""Note of run.json on a map that does not use the answers that are kept with it."""


def publish(
    store: Store,
    products: RunProducts,
    check: Callable[[], None] = lambda: None,
    removed: Callable[[Sequence[str]], None] = lambda names: None,
) -> str:
    """Writes every product and returns the id of the snapshot.

    Object stores have no rename, so the snapshot is the atomic unit. `run.json` at its fixed
    name is written last and names a snapshot that is whole. The id is the time and a digest of
    the tables and of the optional products. The same map, published again, keeps its snapshot.

    Args:
        check: raises if this run may not write fixed names any more.
        removed: is given the names, as in `OPTIONAL`, of what an earlier map was exported to and
            this map is not, where there is any: those files are deleted.

    Raises:
        AccountingError: if rows out are not footprints in; nothing is written.
        ShapeError: if a table lacks columns of the contract; nothing is written.
        StorageError: if the store fails; the earlier snapshot stays current.
    """
    now = datetime.now(UTC)
    rows = ordered_buildings(products.buildings, products.labels, products.layers)
    counts = dict(products.run.get("counts", {}))
    check_accounting(rows, counts)
    context = PublishContext(products=products, rows=rows, now=now, first_seen=_first_seen(store))
    written = {name: write(context) for name, write in TABLES.items()}
    tables = {name: data for name, data in written.items() if data is not None}
    extras = [OPTIONAL[name] for name in products.outputs]
    digests = {name: hashlib.sha256(data).digest() for name, data in tables.items()}
    digests |= {extra.prefix: extra.identity(context).encode() for extra in extras}
    snapshot = _snapshot_id(store, digests, now)
    run = {
        **products.run,
        **unused_answers(store, products),
        "counts": counts
        | count(rows)
        | _slide_counts(products, rows)
        | {"coverage": coverage_counts(products.coverage)}
        | {"quarantined": len(merged_issues(products.issues))},
        "damage_scale": [_scale_row(c) for c in products.classes],
        "snapshot": snapshot,
        "published": now.isoformat(timespec="seconds"),
    }
    run = as_published(run)
    of_pages = PageContext(
        products=products, rows=rows, now=now, first_seen=context.first_seen, run=run, tables=tables
    )
    objects = tables | {name: write(of_pages) for name, write in PAGES.items()}
    large = (item for extra in extras for item in extra.objects(context))
    writer = _SnapshotWriter(store=store, prefix=f"{SNAPSHOTS}{snapshot}/")
    for name, data in chain(objects.items(), large):
        writer.put(name, data)
    run["products"] = writer.inventory
    objects[RUN_JSON] = run_json(run)
    store.put(writer.prefix + RUN_JSON, objects[RUN_JSON])
    check()
    if gone := writer.copy_to_fixed_names(objects):
        removed(gone)
    return snapshot


@dataclass(slots=True, kw_only=True)
class _SnapshotWriter:
    """Writes the objects of a snapshot, then copies them to their fixed names."""

    store: Store
    prefix: str
    inventory: list[dict[str, Any]] = field(default_factory=list)
    """Name, size and digest of each object."""

    def put(self, name: str, data: bytes) -> None:
        self.store.put(self.prefix + name, data)
        digest = hashlib.sha256(data).hexdigest()
        self.inventory.append({"name": name, "bytes": len(data), "sha256": digest})

    def copy_to_fixed_names(self, small: Mapping[str, bytes]) -> list[str]:
        """Copies large objects from the snapshot, then the small ones, run.json last.

        Objects of an earlier map that this one does not have are deleted. Returns the optional
        products among them.
        """
        names = [entry["name"] for entry in self.inventory if entry["name"] not in small]
        for name in names:
            self.store.put(name, self.store.get(self.prefix + name))
        for name, data in small.items():
            self.store.put(name, data)
        for name in TABLES.keys() - small.keys():
            if self.store.list(name):
                self.store.delete(name)
        gone = []
        for product, extra in OPTIONAL.items():
            old = [name for name in self.store.list(extra.prefix) if name not in names]
            for name in old:
                self.store.delete(name)
            if extra.prefix.endswith("/"):
                self.store.drop_empty_folders(extra.prefix)
            if old and not any(name.startswith(extra.prefix) for name in names):
                gone.append(product)
        return gone


def as_published(run: Mapping[str, Any]) -> dict[str, Any]:
    """Content of run.json as it is read back: plain values, without secrets."""
    content: dict[str, Any] = redacted_tree(_plain(run))
    return content


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


def unused_answers(store: Store, products: RunProducts) -> dict[str, Any]:
    """`answers_not_applied` of run.json, where spot checks of an earlier map are kept.

    Their answers stay true. They do not change this map before it is verified by them.
    """
    if products.verification or not store.exists(ANSWERS):
        return {}
    notes = [*products.run.get("notes", []), UNUSED_ANSWERS]
    return {"notes": notes, "answers_not_applied": ANSWERS}


def _slide_counts(products: RunProducts, rows: gpd.GeoDataFrame) -> dict[str, Any]:
    if products.landslides is None:
        return {}
    return {"landslides": landslide_counts(ordered_landslides(products.landslides), rows)}


def _scale_row(row: Any) -> dict[str, Any]:
    return {
        "index": row.index,
        "label": row.label,
        "xbd": row.xbd,
        "ems98": list(row.ems98),
        "copernicus": row.copernicus,
    }


def _snapshot_id(store: Store, digests: Mapping[str, bytes], now: datetime) -> str:
    digest = hashlib.sha256()
    for name in sorted(digests):
        digest.update(name.encode() + b"\0" + digests[name])
    short = digest.hexdigest()[:12]
    same = [k.split("/")[1] for k in store.list(SNAPSHOTS) if k.endswith(f"-{short}/{RUN_JSON}")]
    return min(same) if same else f"{now:%Y%m%dT%H%M%SZ}-{short}"


def _first_seen(store: Store) -> dict[tuple[str, str, str], datetime]:
    """`first_seen` times of the published map, so that they stay the first ones.

    A table that cannot be read says nothing.
    """
    try:
        table = pq.read_table(io.BytesIO(store.get("quarantine.parquet")))
        return first_seen_in(table)
    except (StorageError, pa.ArrowException, OSError, ValueError, KeyError, AttributeError):
        return {}
