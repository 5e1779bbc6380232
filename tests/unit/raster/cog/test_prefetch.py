"""Prefetches and blocks that several windows share: requested once, bounded, errors reported."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quakestream.domain import Grid, Window
from quakestream.errors import ReadError
from quakestream.raster.cog import prefetches
from quakestream.raster.cog.block_cache import BlockCache
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.prefetches import BlockInRequest, Prefetches
from quakestream.raster.cog.source import CogSource
from quakestream.raster.cog.workers import Team
from quakestream.raster.tiles.placement import extent_on
from quakestream.storage.ranges import Buffer
from tests.helpers.cog_case import RemoteFetcher, finish_requests
from tests.helpers.tiles_case import GRID, LOCAL, assert_same, gdal, scene_of, windows, write_tiff

KINDS: dict[str, dict[str, Any]] = {
    "pixels": {},
    "mask": {"masked": True},
    "bands apart": {"interleave": "band"},
}


@contextmanager
def remote_source(
    path: Path, team: Team, grid: Grid = GRID
) -> Iterator[tuple[CogSource, RemoteFetcher, Window]]:
    """A source over a remote file, its fetcher, and the window around the scene."""
    scene, fetcher = scene_of(path), RemoteFetcher(path)
    layout = make_layout(str(path), LOCAL)
    with CogSource(scene, grid, layout, team=team, opens=lambda *_: fetcher) as source:
        yield source, fetcher, extent_on(scene, grid)


@pytest.mark.parametrize("gsd_m", [0.5, 0.7], ids=["aligned", "resampled"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_read_after_a_prefetch_sends_no_request(
    kind: dict[str, Any], gsd_m: float, tmp_path: Path
) -> None:
    path = write_tiff(tmp_path / "scene.tif", compress="deflate", **kind)
    grid = Grid(epsg=32637, gsd_m=gsd_m)
    with (
        Team(requests=1, cache_bytes=64 << 20) as team,
        remote_source(path, team, grid) as (source, fetcher, held),
        Team() as other,
        remote_source(path, other, grid) as (plain, _, _),
    ):
        for window in windows(held):
            source.prefetch(window)
            source.prefetch(window)
            finish_requests(team)
            sent = fetcher.requests
            assert_same(source.read(window), plain.read(window))
            assert fetcher.requests == sent
        assert team.prefetches.held_bytes == 0
        once = sum(size for _, size in set(fetcher.ranges))
        assert fetcher.bytes == once, "a block was fetched twice"


def test_neighbours_request_shared_blocks_once(tmp_path: Path) -> None:
    """All windows are prefetched before the first is read, and reading sends no request."""
    path = write_tiff(tmp_path / "scene.tif", compress="zstd")
    with Team(cache_bytes=64 << 20) as team, remote_source(path, team) as (source, fetcher, held):
        cells = [
            Window(row=held.row + r, col=held.col + c, height=300, width=300).grown(16)
            for r in (0, 300, 600)
            for c in (0, 300, 600)
        ]
        for cell in cells:
            source.prefetch(cell)
        size = int(make_layout(str(path), LOCAL).levels[0].bytes_N.sum())
        assert size <= team.prefetches.held_bytes <= 1.1 * size
        with gdal(scene_of(path)) as oracle:
            for cell in cells:
                assert_same(source.read(cell), oracle.read(cell))
        assert size <= fetcher.bytes <= 1.1 * size
        assert team.prefetches.held_bytes == 0


@pytest.mark.parametrize("gsd_m", [0.5, 0.7], ids=["aligned", "resampled"])
def test_neighbours_prefetched_together_take_fewer_requests(gsd_m: float, tmp_path: Path) -> None:
    """The same bytes come once, and reading sends no request."""
    path = write_tiff(tmp_path / "scene.tif", compress="zstd")
    requests, fetched, pixels = [], [], []
    for together in (False, True):
        grid = Grid(epsg=32637, gsd_m=gsd_m)
        with (
            Team(requests=1, cache_bytes=64 << 20) as team,
            remote_source(path, team, grid) as opened,
        ):
            source, fetcher, held = opened
            side = held.width // 3
            cells = [
                Window(row=held.row, col=held.col + side * n, height=200, width=side)
                for n in range(3)
            ]
            for group in [cells] if together else [[cell] for cell in cells]:
                source.prefetch(*group)
            finish_requests(team)
            requests.append(fetcher.requests)
            pixels.append([source.read(cell) for cell in cells])
            assert fetcher.requests == requests[-1]
            assert team.prefetches.held_bytes == 0
            fetched.append(fetcher.bytes)
    assert requests[1] == 1 < requests[0]
    assert fetched[1] <= 1.1 * fetched[0]
    for one, other in zip(*pixels, strict=True):
        assert_same(one, other)


def test_prefetches_are_bounded_and_the_rest_is_read_later(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif")
    with (
        Team(prefetch_bytes=300_000) as team,
        remote_source(path, team) as (source, _, held),
        gdal(scene_of(path)) as oracle,
    ):
        source.prefetch(held)  # 2.4 MB in requests of 4 MB at most
        assert team.prefetches.held_bytes == 0
        small = Window(row=held.row, col=held.col, height=200, width=200)
        source.prefetch(small)
        assert 0 < team.prefetches.held_bytes <= 300_000
        for window in (held, small):
            assert_same(source.read(window), oracle.read(window))
        assert team.prefetches.held_bytes == 0


def test_a_local_file_is_not_prefetched(tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif"))
    with Team() as team, CogSource(scene, GRID, make_layout(scene.href, LOCAL), team=team) as near:
        near.prefetch(extent_on(scene, GRID))
        assert team.prefetches.held_bytes == 0


def test_the_read_reports_a_failed_prefetch_and_the_next_read_retries(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", compress="zstd")
    with (
        Team(cache_bytes=64 << 20) as team,
        remote_source(path, team) as (source, fetcher, held),
        gdal(scene_of(path)) as oracle,
    ):
        fetcher.failing = True
        source.prefetch(held)
        with pytest.raises(ReadError, match=r"\(scene scene, block \d,\d\): 503 Slow Down"):
            source.read(held)
        fetcher.failing = False
        assert_same(source.read(held), oracle.read(held))
        assert team.prefetches.held_bytes == 0


def test_closing_cancels_unused_prefetches(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", compress="zstd")
    before = set(threading.enumerate())
    team = Team(requests=1)
    with remote_source(path, team) as (source, fetcher, held):
        fetcher.open.clear()
        for row in range(held.row, held.row_end, 256):
            source.prefetch(Window(row=row, col=held.col, height=50, width=50))
        assert team.prefetches.held_bytes > 0
        fetcher.open.set()
        team.close()
    assert team.prefetches.held_bytes == 0
    assert fetcher.requests <= 2, "queued requests were sent after closing"
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("ahead", [False, True])
def test_windows_read_at_once_make_a_shared_block_once(ahead: bool, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", compress="deflate", predictor=2)
    with (
        Team(cache_bytes=64 << 20) as team,
        remote_source(path, team) as (source, fetcher, held),
        gdal(scene_of(path)) as oracle,
        ThreadPoolExecutor(4) as pool,
    ):
        cells = [
            Window(row=held.row + r, col=held.col + c, height=380, width=480).grown(20)
            for r in (0, 350)
            for c in (0, 450)
        ]
        fetcher.open.clear()
        for cell in cells if ahead else ():
            source.prefetch(cell)
        reads = [pool.submit(source.read, cell) for cell in cells]
        threading.Timer(0.2, fetcher.open.set).start()  # by then all four have begun
        for cell, read in zip(cells, reads, strict=True):
            assert_same(read.result(20), oracle.read(cell))
        blocks = {start for start, _ in fetcher.ranges}
        assert len(blocks) == fetcher.requests
        assert fetcher.bytes <= 1.1 * int(make_layout(str(path), LOCAL).levels[0].bytes_N.sum())


def test_a_broken_block_is_lost_to_those_that_need_it_only(tmp_path: Path) -> None:
    """Of many windows read at once, only those that need the broken block fail."""
    path = write_tiff(tmp_path / "scene.tif", compress="deflate")
    with Team(cache_bytes=64 << 20) as team, remote_source(path, team) as (source, fetcher, held):
        level = make_layout(str(path), LOCAL).levels[0]
        start, size = int(level.offset_N[5]), int(level.bytes_N[5])  # row 1, column 1
        data = path.read_bytes()
        path.write_bytes(data[:start] + b"\x11" * size + data[start + size :])
        fetcher.open.clear()
        cells = [
            Window(row=held.row + r, col=held.col + c, height=40, width=40)
            for r in (236, 300, 492)
            for c in (236, 300, 492, 560)
        ]
        with ThreadPoolExecutor(len(cells)) as pool:
            reads = [pool.submit(source.read, cell) for cell in cells]
            threading.Timer(0.2, fetcher.open.set).start()
            failed = [isinstance(read.exception(20), ReadError) for read in reads]
    touching = [
        held.row + 256 < c.row_end
        and c.row < held.row + 512
        and held.col + 256 < c.col_end
        and c.col < held.col + 512
        for c in cells
    ]
    assert failed == touching
    assert 0 < sum(touching) < len(cells)


def _done(length: int) -> Callable[[], Future[Buffer]]:
    def submit() -> Future[Buffer]:
        made: Future[Buffer] = Future()
        made.set_result(bytes(length))
        return made

    return submit


@given(
    steps=st.lists(
        st.tuples(
            st.booleans(), st.lists(st.integers(0, 9), min_size=1, max_size=4), st.integers(1, 60)
        ),
        max_size=40,
    )
)
def test_prefetches_keep_to_their_bound_and_drop_blocks_that_are_taken(
    steps: list[tuple[bool, list[int], int]],
) -> None:
    table = Prefetches(100)
    for is_request, names, length in steps:
        if is_request:
            sent = table.request(length, [BlockInRequest(n, n) for n in names], _done(length))
            assert not sent or all(name in table for name in names)
        else:
            for name in names:
                there = name in table
                found = table.take(name)
                assert (found is not None) == there
                assert found is None or found[1] == name
                assert name not in table
        assert 0 <= table.held_bytes <= 100
    for name in range(10):
        table.take(name)
    assert table.held_bytes == 0


def test_stale_requests_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Prefetches(100)
    assert table.request(80, [BlockInRequest("a", 0), BlockInRequest("b", 5)], _done(80))
    assert table.take("a") is not None
    assert not table.request(80, [BlockInRequest("c", 0)], _done(80))
    monkeypatch.setattr(prefetches, "STALE_S", 0.0)
    assert table.request(80, [BlockInRequest("c", 0)], _done(80))
    assert "b" not in table
    assert table.held_bytes == 80


def test_blocks_that_were_read_whole_go_first() -> None:
    cache = BlockCache(30)
    for name, share in (("half", 0.5), ("most", 0.6), ("third", 0.3)):
        assert cache.claim(name, share) is None
        cache.settle(name, np.zeros(10, np.uint8))
    assert isinstance(cache.claim("most", 0.5), np.ndarray)  # overlaps, and that was all
    assert cache.claim("new", 0.1) is None
    cache.settle("new", np.zeros(10, np.uint8))
    assert [cache.has(name) for name in ("half", "most", "third", "new")] == [
        True,
        False,
        True,
        True,
    ]


def test_a_claim_ends_with_a_block_an_error_or_nothing() -> None:
    cache = BlockCache(5)
    for outcome in (np.zeros(10, np.uint8), ValueError("spoilt"), None):
        assert cache.claim("x", 0.5) is None
        waiting = cache.claim("x", 0.5)
        assert isinstance(waiting, Future)
        cache.settle("x", outcome)
        if isinstance(outcome, Exception):
            assert waiting.exception() is outcome
        else:
            assert waiting.result() is outcome
        assert cache.held_bytes == 0  # larger than the cache, or none at all
