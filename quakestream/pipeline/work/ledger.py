"""Commits: one Parquet object per job and commit group. Its presence is the ledger.

An object whose units are all complete is named by the digest of their keys, so that listing the
folder says what is done. Where a window failed, what is known of its unit is kept under
`partial-...`: the map of this run says why those buildings have no answer, and the next run tries
the unit again.

A commit carries a seal. One that was cut, changed, or copied under another's name is not believed:
its units are done again.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from quakestream.errors import LedgerError
from quakestream.pipeline.work.results import Failure, UnitResult
from quakestream.pipeline.work.tasks import group_name
from quakestream.storage import MissingObjectError, Store
from quakestream.storage.seals import sealed, unsealed

PARTIAL = "partial-"
"""Begins the name of an object with an incomplete unit."""
_META = b"quakestream"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellRecord:
    """What a commit says of one unit."""

    key: str
    cell_id: str
    view_id: str
    complete: bool
    windows: int
    quality: tuple[int, ...]
    """Pixels of the cores per `Quality`."""
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
    """The kind's rows; the column `cell` is an index into `cells`."""


def commit(store: Store, prefix: str, results: list[UnitResult], rows: pa.Table) -> str:
    """Writes a group once and atomically. The same units give the same name.

    Args:
        prefix: where the kind's commits lie.
        rows: the kind's rows for these results.

    Returns:
        The key of the object.
    """
    records = [_record(r) for r in results]
    name = group_name([r.key for r in records])
    if not all(r.complete for r in records):
        failed = json.dumps([[r.key, [asdict(f) for f in r.failures]] for r in records])
        name = f"{PARTIAL}{hashlib.sha256(failed.encode()).hexdigest()[:24]}"
    meta = json.dumps([asdict(r) for r in records]).encode()
    sink = BytesIO()
    pq.write_table(rows.replace_schema_metadata({_META: meta}), sink, compression="zstd")
    key = f"{prefix}{name}.parquet"
    store.put(key, sealed(key, sink.getvalue()))
    return key


def committed(store: Store, prefix: str) -> set[str]:
    """Keys of all commit objects of a kind."""
    return set(store.list(prefix))


def complete_key(prefix: str, keys: list[str]) -> str:
    """Where the commit of these units lies once all of them are complete."""
    return f"{prefix}{group_name(keys)}.parquet"


def read_commit(store: Store, key: str, columns: list[str] | None = None) -> Commit:
    """Reads an object back, or only some of its columns.

    Raises:
        LedgerError: if it is damaged.
    """
    content = _content(store, key)
    if content is None:
        raise damaged({key})
    rows = pq.read_table(BytesIO(content), columns=columns)
    return Commit(cells=_records(rows.schema.metadata), rows=rows)


def read_records(store: Store, key: str) -> tuple[CellRecord, ...]:
    """Reads only what a commit says of its units; nothing of one that is damaged."""
    content = _content(store, key)
    return () if content is None else _records(pq.read_schema(BytesIO(content)).metadata)


def damaged(keys: Iterable[str]) -> LedgerError:
    """The error for commits that are not what they claim to be."""
    names = sorted(keys)
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    error = LedgerError(
        "not what this run wrote there", f"{names[0]}{more}", remedy="run the same command again"
    )
    error.keys = frozenset(names)
    return error


def _content(store: Store, key: str) -> bytes | None:
    """A commit without its seal; None if it is damaged, gone, or of an older version."""
    try:
        return unsealed(key, store.get(key))
    except MissingObjectError:
        return None


def read_commits(
    store: Store, keys: Iterable[str], wanted: set[str], columns: list[str] | None = None
) -> Iterator[tuple[str, Commit, list[int]]]:
    """Reads commits one at a time and chooses each wanted unit once.

    A complete record comes before a partial one, whatever the order of the objects.

    Args:
        keys: of the objects.
        wanted: keys of units.

    Yields:
        An object's key, its content, and which of its units were chosen.

    Raises:
        LedgerError: after the last one, if objects are damaged and wanted units are missing.
    """
    taken: set[str] = set()
    lost: set[str] = set()
    ordered = sorted(keys, key=lambda k: (_partial(k), k))
    partial = [k for k in ordered if _partial(k)]
    for names, incomplete in ((ordered, False), (partial, True)):
        for name in names:
            try:
                content = read_commit(store, name, columns)
            except LedgerError:
                lost.add(name)
                continue
            chosen = [
                n
                for n, record in enumerate(content.cells)
                if record.key in wanted
                and record.key not in taken
                and (incomplete or record.complete)
            ]
            taken |= {content.cells[n].key for n in chosen}
            yield name, content, chosen
    if lost and wanted - taken:
        raise damaged(lost)


def _partial(key: str) -> bool:
    return key.rpartition("/")[2].startswith(PARTIAL)


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
        key=result.task.key,
        cell_id=result.task.cell.id,
        view_id=result.task.view_id,
        complete=result.complete,
        windows=result.windows,
        quality=tuple(int(v) for v in result.quality_Q),
        shift_m=result.shift_m,
        mpx=result.mpx,
        read_s=result.read_s,
        score_s=result.score_s,
        failures=result.failures,
    )
