"""Commits: one Parquet object per batch of cells. Its presence is the ledger.

An object of which every planned cell is complete is named by the digest of
their keys, so that listing the folder says what is done. Where a window failed,
what was learnt of its cell is kept under `partial-...`: this run's map says why
those buildings have no answer, and the next run tries the cell again.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from quakestream.domain import Quality
from quakestream.pipeline.assemble import Failure
from quakestream.pipeline.score import UnitResult
from quakestream.pipeline.tasks import batch_name
from quakestream.storage import Store

CELLS = "_ledger/cells/"
_META = b"quakestream"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellRecord:
    """What a commit says of one (cell, view)."""

    key: str
    cell_id: str
    view_id: str
    complete: bool
    windows: int
    quality: tuple[int, ...]
    """Pixels of the read cores per `Quality`."""
    shift_m: float
    mpx: float
    read_s: float
    score_s: float
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Commit:
    """One object of the ledger, read back."""

    cells: tuple[CellRecord, ...]
    rows: pa.Table
    """`cell` (index into `cells`), building_id, pixels_*, sum_*, change, shift_*, failure."""


def commit(store: Store, results: list[UnitResult]) -> str:
    """Writes a batch once and atomically; the same cells give the same name. Returns the key."""
    records = [_record(r) for r in results]
    name = batch_name([r.key for r in records])
    if not all(r.complete for r in records):
        failed = json.dumps([[r.key, [asdict(f) for f in r.failures]] for r in records])
        name = f"partial-{hashlib.sha256(failed.encode()).hexdigest()[:24]}"
    meta = json.dumps([asdict(r) for r in records]).encode()
    sink = BytesIO()
    pq.write_table(_rows(results).replace_schema_metadata({_META: meta}), sink, compression="zstd")
    key = f"{CELLS}{name}.parquet"
    store.put(key, sink.getvalue())
    return key


def committed(store: Store) -> set[str]:
    """Keys of all commit objects."""
    return set(store.list(CELLS))


def complete_key(keys: list[str]) -> str:
    """Where the commit of these cells lies once all of them are complete."""
    return f"{CELLS}{batch_name(keys)}.parquet"


def read_commit(store: Store, key: str) -> Commit:
    rows = pq.read_table(BytesIO(store.get(key)))
    return Commit(cells=_records(rows.schema.metadata), rows=rows)


def read_records(store: Store, key: str) -> tuple[CellRecord, ...]:
    """Only what a commit says of its cells."""
    return _records(pq.read_schema(BytesIO(store.get(key))).metadata)


def _records(metadata: dict[bytes, bytes]) -> tuple[CellRecord, ...]:
    raw: Iterable[dict[str, Any]] = json.loads(metadata[_META])
    return tuple(
        CellRecord(
            **{
                **r,
                "quality": tuple(r["quality"]),
                "failures": tuple(Failure(**f) for f in r["failures"]),
            }
        )
        for r in raw
    )


def _record(result: UnitResult) -> CellRecord:
    return CellRecord(
        key=result.key,
        cell_id=result.cell_id,
        view_id=result.view_id,
        complete=result.complete,
        windows=result.windows,
        quality=tuple(int(v) for v in result.quality_Q),
        shift_m=result.shift_m,
        mpx=result.mpx,
        read_s=result.read_s,
        score_s=result.score_s,
        failures=result.failures,
    )


def _rows(results: list[UnitResult]) -> pa.Table:
    """Rows of all cells, made at once."""

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(r, name) for r in results])

    sizes = [len(r.building_F) for r in results]
    pixels_RQ, sum_RC = joined("pixels_FQ"), joined("sum_FC")
    columns: dict[str, Any] = {
        "cell": np.repeat(np.arange(len(results), dtype=np.int32), sizes),
        "building_id": pa.array([b for r in results for b in r.building_F], pa.string()),
    }
    columns |= {f"pixels_{q.name.lower()}": pixels_RQ[:, q] for q in Quality}
    columns |= {f"sum_{c}": sum_RC[:, c] for c in range(sum_RC.shape[1])}
    columns |= {
        "change": joined("change_F"),
        "shift_m": joined("shift_m_F"),
        "shift_quality": joined("shift_quality_F"),
        "shift_pixels": joined("shift_pixels_F"),
        "failure": pa.array([f for r in results for f in r.failure_F], pa.string()),
    }
    return pa.table(columns)
