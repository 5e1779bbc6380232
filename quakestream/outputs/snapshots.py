"""Published states of a map: which there are, what changed between two, whether they are whole."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from quakestream.errors import RequestError
from quakestream.outputs.expected import Expected, expected
from quakestream.outputs.fixed_names import inventory
from quakestream.outputs.layout import RUN_JSON, SNAPSHOTS
from quakestream.outputs.readback import current_run
from quakestream.outputs.spot_sample import SAMPLE_JSON
from quakestream.storage import MissingObjectError, Store

NOT_ASSESSED = "not_assessed"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """A published state, whole."""

    id: str
    run: dict[str, Any]
    """Its run.json."""
    current: bool
    """True if it is the state that the map shows."""

    @property
    def bytes(self) -> int:
        """Size of its products."""
        return sum(int(entry["bytes"]) for entry in inventory(self.run).values())

    @property
    def expected(self) -> Expected | None:
        """The expected number of destroyed buildings; None without a calibrated bundle."""
        return expected(self.run)

    def to_json(self) -> dict[str, Any]:
        counts = self.run.get("counts", {})
        found = self.expected
        return {
            "id": self.id,
            "published": self.run.get("published"),
            "current": self.current,
            "run_id": self.run.get("run_id"),
            "footprints": counts.get("footprints"),
            "assessed": counts.get("assessed"),
            "damage": counts.get("damage", {}),
            "expected": None if found is None else [found.number, found.low, found.high],
            "bytes": self.bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What became of the buildings between two snapshots."""

    older: str
    newer: str
    added: int
    removed: int
    unchanged: int
    verdicts: tuple[tuple[str, str, int], ...]
    """Verdict before, verdict after and number of buildings, the largest number first."""

    def to_json(self) -> dict[str, Any]:
        changed = [{"before": a, "after": b, "buildings": n} for a, b, n in self.verdicts]
        return {
            "older": self.older,
            "newer": self.newer,
            "added": self.added,
            "removed": self.removed,
            "unchanged": self.unchanged,
            "changed": changed,
        }


def snapshots_of(store: Store) -> list[Snapshot]:
    """All whole snapshots, the oldest first.

    Raises:
        RequestError: if there is no finished map.
    """
    shown = str(current_run(store)["snapshot"])
    names = {key.split("/")[1] for key in store.list(SNAPSHOTS) if key.endswith(f"/{RUN_JSON}")}
    return [
        Snapshot(id=name, run=run, current=name == shown)
        for name in sorted(names)
        if (run := _run_of(store, name)) is not None
    ]


def _run_of(store: Store, name: str) -> dict[str, Any] | None:
    try:
        run = json.loads(store.get(f"{SNAPSHOTS}{name}/{RUN_JSON}"))
    except (MissingObjectError, ValueError):
        return None
    return run if isinstance(run, dict) else None


def chosen(snapshots: Sequence[Snapshot], name: str | None) -> Snapshot:
    """The snapshot of a name or of how its name begins; the current one without a name.

    Raises:
        RequestError: if there is none or more than one.
    """
    fitting = [one for one in snapshots if (one.id.startswith(name) if name else one.current)]
    if len(fitting) != 1:
        raise RequestError(
            "no such snapshot" if not fitting else "several snapshots begin like this",
            got=name or "",
            expected=", ".join(one.id for one in fitting or snapshots[-5:]),
        )
    return fitting[0]


def changes(store: Store, older: str, newer: str) -> Changes:
    """What became of each building from one snapshot to another.

    Args:
        store: the output of the run.
        older: id of the snapshot before.
        newer: id of the snapshot after.

    Raises:
        StorageError: if a table is missing or damaged.
    """
    before, after = _verdicts(store, older), _verdicts(store, newer)
    both = before.index.intersection(after.index)
    pairs = Counter(zip(before[both], after[both], strict=True))
    moved = {pair: n for pair, n in pairs.items() if pair[0] != pair[1]}
    order = sorted(moved.items(), key=lambda item: (-item[1], item[0]))
    return Changes(
        older=older,
        newer=newer,
        added=len(after) - len(both),
        removed=len(before) - len(both),
        unchanged=len(both) - sum(moved.values()),
        verdicts=tuple((a, b, n) for (a, b), n in order),
    )


def _verdicts(store: Store, snapshot: str) -> pd.Series:
    data = store.get(f"{SNAPSHOTS}{snapshot}/buildings.parquet")
    table = pd.read_parquet(io.BytesIO(data), columns=["building_id", "damage_label"])
    return table.set_index("building_id")["damage_label"].fillna(NOT_ASSESSED)


def damaged_objects(store: Store, snapshot: Snapshot) -> list[str]:
    """Products of a snapshot that are missing or not what its run.json says."""
    return [
        name
        for name, entry in inventory(snapshot.run).items()
        if _digest(store, f"{SNAPSHOTS}{snapshot.id}/{name}") != entry["sha256"]
    ]


def _digest(store: Store, key: str) -> str | None:
    try:
        return hashlib.sha256(store.get(key)).hexdigest()
    except MissingObjectError:
        return None


def prune(store: Store, snapshots: Sequence[Snapshot], keep: int) -> list[Snapshot]:
    """Deletes all but the newest snapshots; returns what was deleted.

    The state that the map shows stays, and so does the one that spot checks were drawn from.

    Args:
        keep: snapshots that stay, 1 or more.

    Raises:
        RequestError: if none is to stay.
    """
    if keep < 1:
        raise RequestError("no snapshot would stay", "--keep", "at least 1", str(keep))
    needed = {_sampled(store)} | {one.id for one in snapshots if one.current}
    gone = [one for one in snapshots[: max(len(snapshots) - keep, 0)] if one.id not in needed]
    for one in gone:
        store.delete(f"{SNAPSHOTS}{one.id}/{RUN_JSON}")  # from here on it is no snapshot
        for key in store.list(f"{SNAPSHOTS}{one.id}/"):
            store.delete(key)
    return gone


def _sampled(store: Store) -> str:
    """The snapshot that spot checks were drawn from; empty where there are none."""
    try:
        return str(json.loads(store.get(SAMPLE_JSON))["snapshot"])
    except (MissingObjectError, ValueError, KeyError, TypeError):
        return ""
