"""Two runs into one output: one writes, the other is told who does; and what `status` says."""

import json
import os
import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quakestream.config import RunFile, open_run
from quakestream.errors import InUseError
from quakestream.events import Event, GroupCommitted, MapPublished, OutputNotice, StageStarted
from quakestream.outputs import lease
from quakestream.outputs.layout import LEASE
from quakestream.outputs.progress import read_status
from quakestream.outputs.readback import current_run
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.run import Result, map_run
from quakestream.storage import open_store
from quakestream.testing import make_world
from tests.helpers.mapping import same


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFile:
    execution = {"runtime": "threshold", "cell_windows": 1, "group_cells": 2}
    world = make_world(
        tmp_path_factory.mktemp("world"), seed=21, side_px=300, buildings=30, execution=execution
    )
    return open_run(world.run_file)


class Pause:
    """Stops a run at the first event of a kind until it is let go."""

    def __init__(self, kind: type, name: str = "") -> None:
        self.kind, self.name = kind, name
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, self.kind) and self.name in ("", getattr(event, "name", "")):
            self.reached.set()
            assert self.go.wait(60)


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_the_second_run_is_told_who_writes_and_changes_nothing(
    run: RunFile, tmp_path: Path, place: str
) -> None:
    out = str(tmp_path / "out") if place == "folder" else f"memory://{tmp_path.name}/out"
    store, pause, made = open_store(out), Pause(GroupCommitted), list[Result]()

    def first() -> None:
        made.append(map_run(run, backend=LocalBackend(), out=out, observers=[pause]))

    thread = threading.Thread(target=first)
    thread.start()
    assert pause.reached.wait(60)
    before = store.list("snapshots/"), store.exists("run.json")
    for fresh in (False, True):
        with pytest.raises(InUseError, match=rf"process {os.getpid()} on .*, since ..:.. UTC"):
            map_run(run, backend=LocalBackend(), out=out, fresh=fresh)
    assert (store.list("snapshots/"), store.exists("run.json")) == before
    status = read_status(store)
    assert status.state == "running"
    assert f"process {os.getpid()} on " in status.holder
    pause.go.set()
    thread.join()
    assert made[0].run["counts"]["cells_scored"] == made[0].run["counts"]["cells"]
    assert read_status(store).state == "finished"
    again = map_run(run, backend=LocalBackend(), out=out)
    assert again.run["counts"]["cells_scored"] == 0


def test_a_run_that_was_taken_over_writes_no_fixed_name(run: RunFile, tmp_path: Path) -> None:
    """Its machine slept, another one took over and published; then it wakes."""
    out, pause = tmp_path / "out", Pause(StageStarted, "publish")
    failure: list[BaseException] = []

    def sleeper() -> None:
        try:
            map_run(run, backend=LocalBackend(), out=str(out), observers=[pause])
        except InUseError as error:
            failure.append(error)

    thread = threading.Thread(target=sleeper)
    thread.start()
    assert pause.reached.wait(60)
    store, notices = open_store(str(out)), list[str]()
    held = lease.newest_lease(store)[1]
    assert held is not None
    asleep = replace(held, machine="another", sign=datetime.now(UTC) - timedelta(minutes=2))
    store.put(f"{LEASE}00000001.json", asleep.to_json())

    def told(event: Event) -> None:
        if isinstance(event, OutputNotice):
            notices.append(event.text)

    made = map_run(run, backend=LocalBackend(), out=str(out), observers=[told])
    assert "taken over from" in notices[0]
    assert made.run["counts"]["cells_scored"] == 0
    names = {p: p.stat().st_mtime_ns for p in out.glob("*.*")}
    pause.go.set()
    thread.join()
    assert "another run has taken over" in str(failure[0])
    assert {p: p.stat().st_mtime_ns for p in out.glob("*.*")} == names
    assert read_status(store).state == "finished"


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")]
)
def test_status_counts_what_is_committed_when_a_run_ends_early(
    run: RunFile, tmp_path: Path, error: type[BaseException], state: str
) -> None:
    seen = 0

    def stop(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, GroupCommitted)
        if seen == 3:
            raise error

    out = tmp_path / "out"
    with pytest.raises(error):
        map_run(run, backend=LocalBackend(), out=str(out), observers=[stop])
    status = read_status(open_store(str(out)))
    stored = len(list((out / "_ledger" / "cells").iterdir()))
    assert status.state == state
    assert (status.groups_done, status.commits) == (stored, stored)
    assert stored >= 3
    assert 0 < status.cells_done < status.cells_total
    whole = map_run(run, backend=LocalBackend(), out=str(out))
    assert whole.run["counts"]["cells_resumed"] > 0
    same(whole.buildings, map_run(run, backend=LocalBackend(), out=f"{out}-fresh").buildings)


def test_status_of_a_run_that_said_nothing(run: RunFile, tmp_path: Path) -> None:
    out = tmp_path / "out"
    map_run(run, backend=LocalBackend(), out=str(out))
    store = open_store(str(out))
    held = lease.newest_lease(store)[1]
    assert held is not None
    sign = datetime(2023, 2, 7, 14, 3, tzinfo=UTC)
    killed = replace(held, machine="another", ended="", sign=sign)
    store.put(f"{LEASE}00000001.json", killed.to_json())
    progress = json.loads(store.get("_ledger/progress.json"))
    progress |= {"updated": sign.isoformat(), "groups_done": 1, "commits": 1, "cells_done": 2}
    store.put("_ledger/progress.json", json.dumps(progress).encode())
    commits = sorted((out / "_ledger" / "cells").iterdir())
    for path in commits[6:]:
        path.unlink()
    status = read_status(store)
    assert (status.state, status.last_sign) == ("stopped", "2023-02-07T14:03:00+00:00")
    assert (status.groups_done, status.groups_total) == (6, len(commits))
    assert read_status(store, sign + timedelta(seconds=5)).state == "running"


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"cells_done": "x"}'])
def test_garbage_beside_a_map_is_no_traceback(run: RunFile, tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "out"
    first = map_run(run, backend=LocalBackend(), out=str(out))
    for path in [*out.glob("*.*"), out / "_ledger" / "progress.json"]:
        path.write_bytes(content)
    shutil.rmtree(out / "_ledger" / "lease")
    read_status(open_store(str(out)))
    published: list[MapPublished] = []
    again = map_run(
        run,
        backend=LocalBackend(),
        out=str(out),
        observers=[lambda e: published.append(e) if isinstance(e, MapPublished) else None],
    )
    same(again.buildings, first.buildings)
    assert current_run(again.store)["snapshot"] == published[0].snapshot == first.run["snapshot"]
