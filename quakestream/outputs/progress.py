"""Progress of a run, read from its output, without a connection to the run."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from quakestream.errors import RequestError
from quakestream.outputs.layout import COMMITS, PROGRESS
from quakestream.storage import MissingObjectError, Store

SILENT_AFTER = timedelta(seconds=60)
"""A run that wrote no progress for this long has stopped; it writes every few seconds."""

State = Literal["running", "stopped", "publishing", "finished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Progress of a run."""

    state: State
    """`stopped`: work is left, and nothing was written for a minute."""
    run_id: str
    cells_done: int
    cells_total: int
    km2_done: float
    km2_total: float
    buildings_done: int
    failed: int
    commits: int
    """Commit groups that are stored."""
    elapsed_s: float
    km2_per_h: float | None
    remaining_s: float | None
    counts: dict[str, Any]
    """Counts of the finished map; empty before that."""
    snapshot: str


def read_status(store: Store, now: datetime | None = None) -> Status:
    """Counts and rates of a running, stopped or finished run.

    Raises:
        RequestError: if there is no run.
    """
    progress = _json_at(store, PROGRESS)
    run = _json_at(store, "run.json")
    commits = len(store.list(COMMITS))
    if not progress and not run and not commits:
        raise RequestError("holds no run", store.uri, f"run.json or {PROGRESS}")
    done, total = int(progress.get("cells_done", 0)), int(progress.get("cells_total", 0))
    elapsed = _seconds(progress.get("started"), progress.get("updated"))
    km2_done, km2_total = float(progress.get("km2_done", 0)), float(progress.get("km2_total", 0))
    km2_here = km2_done - float(progress.get("km2_resumed", 0))
    rate = km2_here / elapsed if elapsed > 0 and km2_here > 0 else None
    state = _state(progress, run, now or datetime.now(UTC))
    return Status(
        state=state,
        run_id=str(progress.get("run_id", run.get("run_id", ""))),
        cells_done=done,
        cells_total=total,
        km2_done=km2_done,
        km2_total=km2_total,
        buildings_done=int(progress.get("buildings_done", 0)),
        failed=int(progress.get("failed", 0)),
        commits=commits,
        elapsed_s=elapsed,
        km2_per_h=rate * 3600 if rate else None,
        remaining_s=(km2_total - km2_done) / rate if rate and state == "running" else None,
        counts=dict(run.get("counts", {})),
        snapshot=str(run.get("snapshot", "")),
    )


def _state(progress: dict[str, Any], run: dict[str, Any], now: datetime) -> State:
    if not progress:
        return "finished" if run else "stopped"
    published, updated = _time(run.get("published")), _time(progress.get("updated"))
    complete = progress.get("cells_done", 0) >= progress.get("cells_total", 0)
    if published and complete and (not updated or published >= updated - SILENT_AFTER):
        return "finished"
    if updated and now - updated > SILENT_AFTER:
        return "stopped"
    return "publishing" if complete else "running"


def _json_at(store: Store, key: str) -> dict[str, Any]:
    try:
        value = json.loads(store.get(key))
    except (MissingObjectError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _time(text: Any) -> datetime | None:
    if not text:
        return None
    time = datetime.fromisoformat(str(text))
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _seconds(start: Any, end: Any) -> float:
    first, last = _time(start), _time(end)
    return (last - first).total_seconds() if first and last else 0.0
