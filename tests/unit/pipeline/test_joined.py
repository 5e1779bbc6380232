"""Reading ahead: what is held is bounded, order is kept, and nothing waits for ever."""

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quakestream.pipeline.work.readahead import ReadAhead, groups_at_once, held_cells


@dataclass(slots=True)
class Shelf:
    """Reads numbers: gives them back as pixels would be, and counts how many are out."""

    bad: frozenset[int] = frozenset()
    slow_s: float = 0.0
    began: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    out: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, task: Any) -> Any:
        with self.lock:
            self.began.append(task)
            self.out += 1
            self.most = max(self.most, self.out)
        time.sleep(self.slow_s)
        if task in self.bad:
            raise OSError(f"{task} is bad")
        return task

    def prefetch(self, *tasks: Any) -> None:
        with self.lock:
            self.asked.extend(tasks)

    def back(self) -> None:
        with self.lock:
            self.out -= 1


def taken(ahead: ReadAhead, shelf: Shelf, numbers: list[int]) -> list[int]:
    got = []
    with closing(ahead.cells(cast("Any", numbers))) as cells:
        for cell in cells:
            got.append(cast("int", cell))
            shelf.back()
    return got


@given(
    readers=st.integers(1, 4),
    sizes=st.lists(st.integers(0, 9), max_size=8),
    takers=st.integers(1, 5),
)
def test_every_batch_gets_its_cells_in_order_and_few_are_held(
    readers: int, sizes: list[int], takers: int
) -> None:
    shelf = Shelf()
    ahead = ReadAhead(shelf, readers=readers)
    ends = np.cumsum([0, *sizes]).tolist()
    batches = [list(range(a, b)) for a, b in pairwise(ends)]
    with ThreadPoolExecutor(takers) as pool:
        futures = [pool.submit(taken, ahead, shelf, batch) for batch in batches]
        assert [f.result(timeout=30) for f in futures] == batches
    ahead.close()
    assert sorted(shelf.began) == list(range(ends[-1]))
    assert shelf.most <= ahead.held == held_cells(readers)
    assert len(shelf.asked) == len(set(shelf.asked)), "bytes are asked for once"


def test_cells_begin_in_the_order_they_were_handed_in() -> None:
    shelf = Shelf(slow_s=0.002)
    ahead = ReadAhead(shelf, readers=1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(taken, ahead, shelf, list(range(9)))
        while not shelf.began:
            time.sleep(0.001)
        second = pool.submit(taken, ahead, shelf, list(range(9, 14)))
        assert first.result(timeout=30) == list(range(9))
        assert second.result(timeout=30) == list(range(9, 14))
    ahead.close()
    assert shelf.began == list(range(14))
    assert shelf.asked == sorted(shelf.asked)


def test_a_bad_cell_is_told_to_its_batch_alone() -> None:
    shelf = Shelf(bad=frozenset({2}))
    ahead = ReadAhead(shelf, readers=2)
    with pytest.raises(OSError, match="2 is bad"):
        taken(ahead, shelf, [0, 1, 2, 3, 4, 5, 6, 7])
    assert taken(ahead, shelf, [10, 11, 12, 13, 14, 15, 16]) == [10, 11, 12, 13, 14, 15, 16]
    ahead.close()


def test_a_batch_that_gives_up_leaves_room_for_the_others() -> None:
    shelf = Shelf(slow_s=0.005)
    ahead = ReadAhead(shelf, readers=2)
    for _ in range(6):
        cells = ahead.cells(cast("Any", list(range(20))))
        next(cells)
        cells.close()
    assert taken(ahead, shelf, list(range(100, 112))) == list(range(100, 112))
    ahead.close()


def test_closing_tells_those_who_wait() -> None:
    shelf = Shelf(slow_s=0.01)
    ahead = ReadAhead(shelf, readers=1)
    cells = ahead.cells(cast("Any", list(range(50))))
    next(cells)
    ahead.close()
    with pytest.raises(CancelledError):
        list(cells)
    assert len(shelf.began) < 50


@given(readers=st.integers(1, 16), group_cells=st.integers(1, 64))
def test_batches_at_work_hold_more_cells_than_may_exist(readers: int, group_cells: int) -> None:
    calls = groups_at_once(readers, group_cells)
    assert calls >= 2
    assert (calls - 1) * group_cells >= held_cells(readers)
