"""The clock of a worker: a moment counts once, and scoring counts before waiting."""

import time
from collections.abc import Iterator

import pytest

from quakestream.pipeline.work.clock import StageClock
from quakestream.storage.traffic import FETCHED


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved by the test."""
    moment = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: moment[0])
    return moment


def test_overlapping_work_counts_once(now: list[float]) -> None:
    clock = StageClock()
    clock.start()

    def cells() -> Iterator[int]:
        now[0] += 2  # the first cell is read, and nothing else happens
        yield 1
        with clock.scoring(), clock.scoring():  # another group scores while this one waits
            now[0] += 5
        now[0] += 1
        yield 2

    for _ in clock.waiting_for(cells()):
        now[0] += 10  # summed and written: neither scored nor waited
    spent = clock.take()
    assert (spent.worker_s, spent.busy_s, spent.wait_s) == (28, 5, 3)


def test_each_report_says_what_is_new(now: list[float]) -> None:
    clock = StageClock()
    now[0] += 100  # before the first group nothing counts
    clock.start()
    with clock.scoring():
        now[0] += 4
        first = clock.take()
        now[0] += 2
    clock.start()
    FETCHED.add(7)
    second = clock.take()
    assert (first.worker_s, first.busy_s) == (4, 4)
    assert (second.worker_s, second.busy_s, second.wait_s) == (2, 2, 0)
    assert second.fetched_bytes == 7


def test_a_failing_engine_does_not_stay_busy(now: list[float]) -> None:
    clock = StageClock()
    clock.start()
    with pytest.raises(MemoryError), clock.scoring():
        raise MemoryError
    now[0] += 3
    assert clock.take().busy_s == 0
