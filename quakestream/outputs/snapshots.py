"""Published states of a map: which there are, what changed between two, whether they are whole."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from quakestream.errors import RequestError
from quakestream.outputs.expected import Expected, expected
from quakestream.outputs.fixed_names import inventory
from quakestream.outputs.layout import INTERIM, RUN_JSON, SNAPSHOTS
from quakestream.outputs.numerals import IMAGE_MODELS
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
    def published(self) -> str:
        """When it was last published, as ISO text; a state that comes again is published again."""
        return str(self.run.get("published", ""))

    @property
    def made_by(self) -> str:
        """What made it: `map with damage-turkiye-2023`, `verify with 97 answers to …`."""
        verification = self.run.get("verification")
        if isinstance(verification, Mapping):
            answered = (verification.get("answers") or {}).get("answered", 0)
            return f"verify: {answered:,} answers applied to {verification['of']}"
        return f"{self.run.get('made_by', 'map')} with {' and '.join(self.models) or 'no model'}"

    @property
    def models(self) -> list[str]:
        """Names of the models that judge images."""
        return [str(self.run[key]["name"]) for key in IMAGE_MODELS if self.run.get(key)]

    @property
    def told(self) -> str:
        """`made_by` with the models and the profile."""
        profile = (self.run.get("request") or {}).get("profile")
        verified = [f"a map of {' and '.join(self.models)}"] if "verification" in self.run else []
        return ", ".join([self.made_by, *verified, *([f"profile {profile}"] if profile else [])])

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
            "made_by": self.made_by,
            "models": self.models,
            "profile": (self.run.get("request") or {}).get("profile"),
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
    models: tuple[tuple[str, str], ...] = ()
    """Models that judge images before and after, with versions, where they are not the same."""
    unapplied: int | None = None
    """Where the older one was verified and the newer one waits for the answers: the verdicts that
    differ from the map before it was verified. The others changed for want of the answers."""

    def to_json(self) -> dict[str, Any]:
        changed = [{"before": a, "after": b, "buildings": n} for a, b, n in self.verdicts]
        return {
            "older": self.older,
            "newer": self.newer,
            "added": self.added,
            "removed": self.removed,
            "unchanged": self.unchanged,
            "changed": changed,
            "models": [{"before": a, "after": b} for a, b in self.models],
            "without_answers": self.unapplied,
        }

    @property
    def model_lines(self) -> list[str]:
        """What to say of each model that is another one, and of answers that are not applied."""
        lines = [f"the model changed from {a} to {b}, and verdicts with it" for a, b in self.models]
        if self.unapplied is not None:
            lines.append(
                "changed because kept answers are not applied: from the map before it was "
                f"verified, {self.unapplied:,} verdicts differ; `quakestream verify` applies them"
            )
        return lines


def snapshots_of(store: Store) -> list[Snapshot]:
    """All whole snapshots, in the order in which they became current: the current one is last.

    The time in a name is that of its first publication. A map that is made again as it was before
    is the old state, published again, and so the newest.

    Raises:
        RequestError: if there is no finished map.
    """
    shown = str(current_run(store)["snapshot"])
    names = {key.split("/")[1] for key in store.list(SNAPSHOTS) if key.endswith(f"/{RUN_JSON}")}
    found = [
        Snapshot(id=name, run=run, current=name == shown)
        for name in names
        if (run := _run_of(store, name)) is not None
    ]
    return sorted(found, key=lambda one: (one.current, one.published, one.id))


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
    run_before, run_after = _run_of(store, older) or {}, _run_of(store, newer) or {}
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
        models=_other_models(run_before, run_after),
        unapplied=_unapplied(store, run_before, run_after, after),
    )


def _unapplied(
    store: Store, older: Mapping[str, Any], newer: Mapping[str, Any], after: pd.Series
) -> int | None:
    """`unapplied` of `Changes`.

    Args:
        older: run.json of the state before.
        newer: run.json of the state after.
        after: its verdicts.
    """
    verification = older.get("verification")
    if not isinstance(verification, Mapping) or "answers_not_applied" not in newer:
        return None
    try:
        model = _verdicts(store, str(verification["of"]))
    except MissingObjectError:
        return None
    both = model.index.intersection(after.index)
    return int((model[both] != after[both]).sum())


def _other_models(
    older: Mapping[str, Any], newer: Mapping[str, Any]
) -> tuple[tuple[str, str], ...]:
    """Models before and after, of each task whose model is not the same."""
    pairs = [(older.get(key) or {}, newer.get(key) or {}) for key in IMAGE_MODELS]
    return tuple((_named(a), _named(b)) for a, b in pairs if a.get("digest") != b.get("digest"))


def _named(model: Mapping[str, Any]) -> str:
    """Name and version; `no model` for none."""
    return f"{model['name']} {model.get('version', '')}".strip() if model else "no model"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What pruning does with a snapshot."""

    snapshot: Snapshot
    kept: bool
    why: str

    def to_json(self) -> dict[str, Any]:
        return {"id": self.snapshot.id, "kept": self.kept, "why": self.why}


def fates(store: Store, snapshots: Sequence[Snapshot], keep: int) -> list[Fate]:
    """What pruning would do with each of `snapshots_of`, and why.

    The state that the map shows stays, and so do the one that spot checks were drawn from and the
    one that the answers were applied to: `quakestream verify` reads them again.

    Args:
        keep: the newest snapshots that stay, 1 or more.

    Raises:
        RequestError: if none is to stay.
    """
    if keep < 1:
        raise RequestError("no snapshot would stay", "--keep", "at least 1", str(keep))
    needed = _needed(store, snapshots)
    newest = "the newest" if keep == 1 else f"one of the {keep:,} newest"
    older = len(snapshots) - keep
    return [
        Fate(
            snapshot=one,
            kept=one.id in needed or n >= older,
            why=needed.get(one.id) or (newest if n >= older else f"not {newest}"),
        )
        for n, one in enumerate(snapshots)
    ]


def _needed(store: Store, snapshots: Sequence[Snapshot]) -> dict[str, str]:
    """Snapshots that stay however old they are, and why."""
    needed = {_sampled(store): "spot checks were drawn from it"}
    for one in snapshots:
        if not one.current:
            continue
        verification = one.run.get("verification")
        if isinstance(verification, Mapping):
            needed.setdefault(str(verification["of"]), "the current state is this one, verified")
        needed[one.id] = "the map shows it"
    return needed


def prune(store: Store, snapshots: Sequence[Snapshot], keep: int) -> list[Fate]:
    """Deletes all but the newest snapshots and those that are needed; says what became of each.

    Raises:
        RequestError: if none is to stay.
    """
    found = fates(store, snapshots, keep)
    for one in found:
        if one.kept:
            continue
        _delete(store, one.snapshot.id)
    return found


def drop_interim(store: Store, keep: Collection[str]) -> None:
    """Deletes the snapshots of interim maps, but those that `prune` would keep, too.

    Args:
        keep: ids of snapshots that stay.
    """
    snapshots = snapshots_of(store)
    needed = {*_needed(store, snapshots), *keep}
    for one in snapshots:
        if INTERIM in one.run and one.id not in needed:
            _delete(store, one.id)


def _delete(store: Store, snapshot: str) -> None:
    store.delete(f"{SNAPSHOTS}{snapshot}/{RUN_JSON}")  # from here on it is no snapshot
    for key in store.list(f"{SNAPSHOTS}{snapshot}/"):
        store.delete(key)
    store.drop_empty_folders(f"{SNAPSHOTS}{snapshot}/")


def _sampled(store: Store) -> str:
    """The snapshot that spot checks were drawn from; empty where there are none."""
    try:
        return str(json.loads(store.get(SAMPLE_JSON))["snapshot"])
    except (MissingObjectError, ValueError, KeyError, TypeError):
        return ""
