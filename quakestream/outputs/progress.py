"""Progress of a run, read from its output, without a connection to the run."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from quakestream.errors import RequestError
from quakestream.outputs.buckets import check_bucket
from quakestream.outputs.expected import Expected, expected
from quakestream.outputs.layout import COMMITS, INTERIM, PROGRESS
from quakestream.outputs.lease import SILENT_AFTER, LeaseRecord, newest_lease
from quakestream.outputs.left_out import left_out_line
from quakestream.outputs.numerals import models_text
from quakestream.storage import MissingObjectError, Store

State = Literal["running", "publishing", "interrupted", "failed", "stopped", "finished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Progress of a run."""

    state: State
    """`interrupted` and `failed` are what a run said when it ended; `stopped`: it said nothing,
    and its process is gone or silent for a minute."""
    holder: str
    """Process and machine of the run, and since when; empty where nothing says so."""
    last_sign: str
    """Time of its last sign of life, ISO 8601; empty where there was none."""
    run_id: str
    groups_done: int
    """Commit groups that are stored, of this run and of those before it."""
    groups_total: int
    cells_done: int
    cells_total: int
    """Cells to read, once for each view and model. coverage.parquet has cells with nothing to read,
    too, and a cell once for each model: see `coverage` in the counts."""
    aoi_km2: float | None
    """Ground of the AOI; None for runs of earlier versions."""
    covered_km2: float | None
    """Ground of the AOI within the outlines of the images in use."""
    km2_done: float
    km2_total: float
    """Ground to score, in whole windows, once for each view."""
    buildings_done: int
    failed: int
    commits: int
    """Commit groups that are stored."""
    elapsed_s: float
    """Time from the plan to the last commit, preparation of scenes included."""
    map_s: float
    """Time of it that mapping took: reading, scoring and committing."""
    km2_per_h: float | None
    """Ground scored in an hour of mapping, as `rates` of run.json has it."""
    remaining_s: float | None
    counts: dict[str, Any]
    """Counts of the finished map; empty before that."""
    snapshot: str
    interim: bool = False
    """True where the published map is one of what the run has read so far."""
    models: str = ""
    """Models that judge images, and the profile; empty for runs of earlier versions that go on."""
    expected: Expected | None = None
    """How many buildings of the published map are destroyed, where its bundle is calibrated."""
    left_out: str = ""
    """What the map says of landslides on flat ground that are no product; empty for none."""


def read_status(store: Store, now: datetime | None = None) -> Status:
    """Counts and rates of a running, stopped or finished run.

    Raises:
        RequestError: if there is no run.
    """
    progress, run = _json_at(store, PROGRESS), _json_at(store, "run.json")
    if not progress and not run:
        check_bucket(store)
    commits = len(store.list(COMMITS))
    lease = newest_lease(store)[1]
    if not progress and not run and not commits and lease is None:
        raise _no_run(store)
    numbers = {name: _number(progress, name) for name in _NUMBERS}
    work = _with_later_commits(numbers, commits)
    now = now or datetime.now(UTC)
    updated = _time(progress.get("updated"))
    sign = max(filter(None, (updated, lease.sign if lease else None)), default=None)
    complete = work["cells_done"] >= work["cells_total"]
    if lease is not None:
        state = _state_of(lease, complete, bool(run), now)
    else:
        state = _state(progress, run, complete, now)
    elapsed = _seconds(progress.get("started"), progress.get("updated"))
    map_s, rate = _rate(numbers, elapsed, run if state == "finished" else {})
    left_km2 = work["km2_total"] - work["km2_done"]
    counts = run.get("counts")
    rates = run.get("rates") or {}
    ground = {key: progress.get(key, rates.get(key)) for key in ("aoi_km2", "covered_km2")}
    return Status(
        state=state,
        holder=str(lease or ""),
        last_sign=sign.isoformat(timespec="seconds") if sign else "",
        run_id=str(progress.get("run_id", run.get("run_id", ""))),
        groups_done=int(work["groups_done"]),
        groups_total=int(work["groups_total"]),
        cells_done=int(work["cells_done"]),
        cells_total=int(work["cells_total"]),
        aoi_km2=ground["aoi_km2"],
        covered_km2=ground["covered_km2"],
        km2_done=work["km2_done"],
        km2_total=work["km2_total"],
        buildings_done=int(numbers["buildings_done"]),
        failed=int(numbers["failed"]),
        commits=commits,
        elapsed_s=elapsed,
        map_s=map_s,
        km2_per_h=rate * 3600 if rate else None,
        remaining_s=left_km2 / rate if rate and state == "running" else None,
        counts=dict(counts) if isinstance(counts, dict) else {},
        snapshot=str(run.get("snapshot", "")),
        interim=INTERIM in run,
        models=_models(progress, run if state == "finished" else {}),
        expected=expected(run),
        left_out=left_out_line(run),
    )


def _no_run(store: Store) -> RequestError:
    return RequestError(
        "holds no run",
        store.uri,
        f"run.json or {PROGRESS}",
        remedy="give the `out` of `quakestream map`; a run that ended before its plan was made "
        "has left nothing there",
    )


def _models(progress: dict[str, Any], finished: dict[str, Any]) -> str:
    return models_text(finished) if finished else str(progress.get("models", ""))


_NUMBERS = (
    *("cells_done", "cells_total", "km2_done", "km2_total", "km2_resumed", "buildings_done"),
    *("failed", "groups_done", "groups_total", "commits", "map_s"),
)


def _rate(
    numbers: dict[str, float], elapsed_s: float, finished: dict[str, Any]
) -> tuple[float, float | None]:
    """Time that a run mapped, and km² scored in a second of it; None before the first commit.

    Args:
        elapsed_s: stands for that time in runs of earlier versions, which did not measure it.
        finished: run.json of a finished run; empty before that.
    """
    if (rates := finished.get("rates")) and rates.get("km2"):
        return rates["map_s"], rates["km2"] / rates["map_s"] if rates["map_s"] else None
    map_s = numbers["map_s"] or elapsed_s
    km2 = numbers["km2_done"] - numbers["km2_resumed"]
    return map_s, km2 / map_s if map_s > 0 and km2 > 0 else None


def _with_later_commits(numbers: dict[str, float], commits: int) -> dict[str, float]:
    """Adds the groups that were committed after the progress was last written.

    Their cells and km² are those of an average group: a killed run could not say them.
    """
    left = max(numbers["groups_total"] - numbers["groups_done"], 0.0)
    later = min(max(commits - numbers["commits"], 0), left)
    if not later:
        return numbers
    share = later / left
    work = {**numbers, "groups_done": numbers["groups_done"] + later}
    for name in ("cells", "km2"):
        rest = numbers[f"{name}_total"] - numbers[f"{name}_done"]
        work[f"{name}_done"] += rest * share
    return work


def _state_of(lease: LeaseRecord, complete: bool, published: bool, now: datetime) -> State:
    if lease.ended == "finished":
        return "finished" if published else "stopped"
    if lease.ended:
        return lease.ended
    if lease.dead(now):
        return "stopped"
    return "publishing" if complete else "running"


def _state(progress: dict[str, Any], run: dict[str, Any], complete: bool, now: datetime) -> State:
    """The state of a run of a version without leases."""
    if not progress:
        return "finished" if run else "stopped"
    published, updated = _time(run.get("published")), _time(progress.get("updated"))
    if published and complete and (not updated or published >= updated - SILENT_AFTER):
        return "finished"
    if updated and now - updated > SILENT_AFTER:
        return "stopped"
    return "publishing" if complete else "running"


def _number(progress: dict[str, Any], name: str) -> float:
    value = progress.get(name, 0)
    return float(value) if isinstance(value, int | float) else 0.0


def _json_at(store: Store, key: str) -> dict[str, Any]:
    try:
        value = json.loads(store.get(key))
    except (MissingObjectError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _time(text: Any) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _seconds(start: Any, end: Any) -> float:
    first, last = _time(start), _time(end)
    return (last - first).total_seconds() if first and last else 0.0
