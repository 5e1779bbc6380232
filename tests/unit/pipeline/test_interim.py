"""Maps of what a run has read so far: what they say, and that they change nothing."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from quakestream.config import open_run
from quakestream.errors import StorageError
from quakestream.events import Event, OutputNotice
from quakestream.outputs.snapshots import snapshots_of
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.interim import InterimMaps
from quakestream.pipeline.result.unread_units import UnreadUnits
from quakestream.pipeline.run import map_run
from quakestream.pipeline.work.results import GroupReport
from quakestream.pipeline.work.tasks import GroupTask, WorkerSpec
from quakestream.storage import open_store
from quakestream.testing.worlds import World, make_world
from tests.helpers.mapping import by_id, edit, map_file, same

SMALL = {"runtime": "threshold", "cell_windows": 2, "group_cells": 6, "readers": 1}


class StoppedError(Exception):
    """The run ends in the middle."""


class Watched(LocalBackend):
    """Waits after the first group until an interim map is published, and keeps its files."""

    def __init__(self, out: Path, *, stop: bool = False) -> None:
        super().__init__(readers=1)
        self.run_json: dict[str, Any] = {}
        self.frames: dict[str, pd.DataFrame] = {}
        self.summary = ""
        self._out, self._stop = out, stop

    def run(self, spec: WorkerSpec, groups: Iterable[GroupTask]) -> Iterator[GroupReport]:
        for number, report in enumerate(super().run(spec, groups)):
            yield report
            if number == 0:
                self._wait()
                if self._stop:
                    raise StoppedError

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while not (self._out / "run.json").exists():
            assert time.monotonic() < until, "no interim map"
            time.sleep(0.02)
        self.run_json = json.loads((self._out / "run.json").read_text())
        self.summary = (self._out / "summary.csv").read_text()
        for name in ("buildings", "coverage"):
            self.frames[name] = pd.read_parquet(self._out / f"{name}.parquet")


def in_groups(folder: Path, **more: float) -> World:
    return make_world(folder, seed=4, execution={**SMALL, "interim_s": 0.0, **more})


def test_an_interim_map_says_what_it_lacks_and_the_finished_one_is_the_same(
    tmp_path: Path,
) -> None:
    world = in_groups(tmp_path)
    plain = map_file(world.run_file, tmp_path / "plain")
    edit(world.run_file, lambda content: content["execution"].update(interim_s=0.01))
    backend, heard = Watched(world.folder / "out"), list[Event]()
    made = map_run(open_run(world.run_file), backend=backend, observers=[heard.append])

    counts, left = backend.run_json["counts"], backend.run_json["interim"]
    rows = backend.frames["buildings"].set_index("building_id").sort_index()
    waiting = rows[rows["reason"] == "pending"]
    seen = rows[rows["status"] == "assessed"]
    assert len(rows) == counts["footprints"] == made.run["counts"]["footprints"]
    assert len(waiting) == left["buildings_pending"] == counts["reasons"]["pending"] > 0
    assert waiting["damage"].isna().all()
    assert len(seen) > 0
    final = by_id(made.buildings)
    verdicts = ["damage", "valid_fraction", "p_destroyed", "shift_m"]
    pd.testing.assert_frame_equal(
        seen[verdicts], final.loc[seen.index, verdicts], check_dtype=False, check_exact=True
    )
    cells = backend.frames["coverage"]
    assert (cells["status"] == "pending").sum() == left["cells_pending"] > 0
    assert "not_assessed_pending" in backend.summary
    told = [event.text for event in heard if isinstance(event, OutputNotice)]
    said = f"{len(seen)} of {len(rows)} buildings assessed, {len(waiting)} not read yet"
    assert any(said in text for text in told)

    same(made.buildings, plain.buildings)
    assert "interim" not in made.run
    assert "pending" not in (world.folder / "out" / "summary.csv").read_text()
    store = open_store(str(world.folder / "out"))
    assert [one.id for one in snapshots_of(store)] == [made.run["snapshot"]]
    assert len(list((world.folder / "out" / "snapshots").iterdir())) == 1


def test_a_run_that_ends_in_the_middle_leaves_a_map_and_goes_on_from_there(tmp_path: Path) -> None:
    world = in_groups(tmp_path, interim_s=0.01)
    out = world.folder / "out"
    with pytest.raises(StoppedError):
        map_run(open_run(world.run_file), backend=Watched(out, stop=True))
    assert json.loads((out / "run.json").read_text())["interim"]["buildings_pending"] > 0
    made = map_file(world.run_file)
    assert made.run["counts"]["cells_resumed"] > 0
    assert "interim" not in made.run
    assert len(list((out / "snapshots").iterdir())) == 1


def test_a_finished_map_is_not_replaced_by_an_interim_one(tmp_path: Path) -> None:
    world = in_groups(tmp_path, interim_s=0.01)
    first = map_file(world.run_file)
    backend = Watched(world.folder / "out")
    map_run(open_run(world.run_file), backend=backend, fresh=True)
    assert backend.run_json["snapshot"] == first.run["snapshot"]
    assert "interim" not in backend.run_json


class Left(UnreadUnits):
    def __len__(self) -> int:
        return 1

    def copy(self) -> UnreadUnits:
        return self


def test_a_map_that_is_being_made_is_stopped_at_the_end_of_the_run() -> None:
    begun, ended = threading.Event(), list[str]()

    def make(_: UnreadUnits, check: Callable[[], None]) -> str:
        begun.set()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            check()
            time.sleep(0.005)
        return "made"

    maps = InterimMaps(every_s=0.001, unread=Left((), {}), make=make, tell=ended.append)
    time.sleep(0.01)
    maps.committed([])
    assert begun.wait(10)
    maps.close()
    assert ended == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StorageError("disk is full"), "no interim map: disk is full"),
        (ValueError("of numpy"), "no interim map: unexpected ValueError: of numpy"),
    ],
)
def test_a_map_that_cannot_be_made_is_one_line(error: Exception, said: str) -> None:
    told = list[str]()

    def make(*_: object) -> str:
        raise error

    maps = InterimMaps(every_s=0.001, unread=Left((), {}), make=make, tell=told.append)
    time.sleep(0.01)
    maps.committed([])
    maps.close()
    assert told == [said]


def test_a_stopped_map_does_not_repeat_the_line_of_the_one_before() -> None:
    told, calls = list[str](), list[int]()

    def make(_: UnreadUnits, check: Callable[[], None]) -> str:
        calls.append(1)
        while len(calls) > 1:
            check()
            time.sleep(0.005)
        return "first"

    maps = InterimMaps(every_s=0.001, unread=Left((), {}), make=make, tell=told.append)
    until = time.monotonic() + 10
    while len(calls) < 2 and time.monotonic() < until:
        time.sleep(0.005)
        maps.committed([])
    maps.close(wait_s=0.0)
    assert told == ["first"]
