"""Helper threads, the block cache, scratch memory, and files that are read in pieces."""

import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quakestream.raster.cog.block_cache import BlockCache
from quakestream.raster.cog.places import empty_bands
from quakestream.raster.cog.scratch import Scratch, offset_empty
from quakestream.raster.cog.workers import Team


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_item_is_done_once(threads: int) -> None:
    done: list[int] = []
    threads_used: set[str] = set()

    def do(item: int) -> None:
        time.sleep(0.002)
        threads_used.add(threading.current_thread().name)
        done.append(item)

    with Team(threads) as team:
        team.for_each(range(30), do)
        team.for_each([], do)
    assert sorted(done) == list(range(30))
    assert 1 <= len(threads_used) <= threads
    assert (len(threads_used) > 1) == (threads > 1)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_failure_ends_it(threads: int) -> None:
    done: list[int] = []

    def do(item: int) -> None:
        if item == 4:
            raise ValueError("four")
        time.sleep(0.001)
        done.append(item)

    with Team(threads) as team, pytest.raises(ValueError, match="four"):
        team.for_each(range(200), do)
    assert len(done) < 20


def test_a_team_that_is_busy_helps_nobody_and_stops_nobody() -> None:
    """Windows read at once share helpers, and none waits for a busy helper."""
    done: list[int] = []

    def do(item: int) -> None:
        time.sleep(0.001)
        done.append(item)

    with Team(2) as team:
        outer = [
            threading.Thread(target=team.for_each, args=(range(n, n + 50), do))
            for n in (0, 50, 100)
        ]
        for thread in outer:
            thread.start()
        for thread in outer:
            thread.join(10)
    assert sorted(done) == list(range(150))


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=40), limit=st.integers(1, 150))
def test_the_cache_keeps_to_its_bound(sizes: list[int], limit: int) -> None:
    cache = BlockCache(limit)
    for n, size in enumerate(sizes):
        cache.put(n, np.full(size, n, np.uint8))
        assert cache.held_bytes <= limit
        kept = cache.get(n)
        assert (kept is not None) == (size <= limit)
        assert kept is None or (kept == n).all()
    held = [block for n in range(len(sizes)) if (block := cache.get(n)) is not None]
    assert sum(block.nbytes for block in held) == cache.held_bytes


def test_what_was_used_last_is_kept() -> None:
    cache = BlockCache(20)
    cache.put("a", np.zeros(10, np.uint8))
    cache.put("b", np.zeros(10, np.uint8))
    cache.get("a")
    cache.put("c", np.zeros(10, np.uint8))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    cache.put("a", np.ones(10, np.uint8))  # known already
    assert cache.held_bytes == 20


def test_scratch_is_each_threads_own() -> None:
    scratch = Scratch()
    mine = scratch.array("block", (4, 4), "|u1")
    assert scratch.array("block", (4, 4), "|u1") is mine
    assert scratch.array("bands", (4, 4), "|u1") is not mine
    others: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: others.append(scratch.array("block", (4, 4), "|u1")))
    thread.start()
    thread.join()
    assert others[0] is not mine
    assert len(scratch.buffer(10)) == 10
    assert len(scratch.buffer(5)) == 5


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    col=st.integers(0, 40),
    wide=st.integers(0, 40),
)
def test_memory_begins_where_nothing_is_written_past_the_cache(
    height: int, width: int, col: int, wide: int
) -> None:
    """Output of libjpeg-turbo, and the bands of one split, have the alignment that is fast."""
    scratch = Scratch()
    for made in (
        offset_empty((height, width, 3), "|u1"),
        scratch.array("block", (height, width), "<u2"),
    ):
        assert made.ctypes.data % 32 == 16
        assert made.flags.c_contiguous
    bands_BYX = empty_bands(np.empty, 3, (height, width))
    assert bands_BYX.shape == (3, height, width)
    assert all(band_YX.flags.c_contiguous for band_YX in bands_BYX)
    starts = [band_YX.ctypes.data % 32 for band_YX in bands_BYX]
    assert all(one != other for one, other in itertools.pairwise(starts))
    whole_YX = np.empty((height, col + width + wide), np.uint8)
    beside_YX = whole_YX[:, col : col + width]
    askew_YX = scratch.offset_array("fourth", beside_YX)
    assert askew_YX.shape == beside_YX.shape
    for one_X, other_X in zip(askew_YX, beside_YX, strict=True):
        assert (one_X.ctypes.data - other_X.ctypes.data) % 32 == 16
