"""What a run says of its progress adds up, also after a resume, and guesses no time early."""

import time

import pytest

from quakestream.cli.common import ProgressState, fault_line
from quakestream.domain import Issue
from quakestream.errors import ConfigError, HazardError, Problem
from quakestream.events import GroupCommitted, PlanReady, StageStarted


def group(cells: int, km2: float, buildings: int) -> GroupCommitted:
    return GroupCommitted(
        name="g",
        cells=cells,
        km2=km2,
        buildings=buildings,
        cells_failed=0,
        mpx=1.0,
        read_s=0.1,
        score_s=0.1,
    )


def test_a_resumed_run_ends_with_whole_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    state = ProgressState()
    state.add(
        PlanReady(
            cells=10,
            cells_done=4,
            km2=20.0,
            footprints=500,
            km2_done=8.0,
            buildings=447,
            buildings_done=180,
        )
    )
    assert state.line() == "4 of 10 cells, 8.00 of 20.00 km² scored, 180 of 447 buildings"
    state.add(StageStarted(name="map"))
    for seconds, buildings in ((60.0, 40), (1.0, 40), (1.0, 40)):
        now[0] += seconds
        state.add(group(1, 2.0, buildings))
    # 6 km² in 62 s of mapping; the time left is that of the commits after the first one
    assert state.line() == (
        "7 of 10 cells, 14.00 of 20.00 km² scored, 300 of 447 buildings, 348 km²/h, about 0:03 left"
    )
    state.add(group(3, 6.0, 147))
    state.add(StageStarted(name="reduce"))
    now[0] += 300.0
    whole = "10 of 10 cells, 20.00 of 20.00 km² scored, 447 of 447 buildings, 697 km²/h"
    assert state.line() == whole, "the time to write the map does not count"


def test_no_time_is_guessed_from_one_commit() -> None:
    state = ProgressState()
    state.add(PlanReady(cells=10, cells_done=0, km2=20.0, footprints=5, buildings=1))
    state.add(group(1, 2.0, 1))
    assert state.line() == "1 of 10 cells, 2.00 of 20.00 km² scored, 1 of 1 building"


def test_a_fault_names_its_input_once() -> None:
    named = "terrain no.tif: cannot be read; give another"
    assert fault_line("terrain", "no.tif", "no.tif: cannot be read; give another") == named
    assert fault_line("terrain", "no.tif", "cannot be read; give another") == named
    assert fault_line("scene", "s1", "s1.tif: no CRS") == "scene s1: s1.tif: no CRS"


@pytest.mark.parametrize(
    ("where", "cause"),
    [
        ("dem/", "no tiles; give some"),
        ("terrain.dem dem/", "no tiles; give some"),
        ("dem/: layer 2", "layer 2: no tiles; give some"),
        ("big-dem/", "big-dem/: no tiles; give some"),
        ("", "no tiles; give some"),
    ],
)
def test_an_issue_names_its_input_once(where: str, cause: str) -> None:
    error = HazardError("no tiles", where, remedy="give some")
    assert Issue.of_error(error, "dem/", "terrain").cause == cause
    later = Issue.of_error(error, "dem/", "terrain", "there is no map", retryable=True)
    assert later.cause == f"{cause}; there is no map"
    assert later.retryable
    both = ConfigError.of_all([error.problem, Problem("no CRS", where)])
    assert Issue.of_error(both, "dem/", "terrain").cause.startswith(f"{cause}; ")
    assert Issue.of_error(OSError("full"), "dem/", "terrain").cause == "full"
