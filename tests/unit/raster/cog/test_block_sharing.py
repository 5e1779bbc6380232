"""Blocks in memory or on their way: found once, made once, requested once."""

from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from quakestream.raster.cog.block_plan import BlockPart, Rect, block_parts
from quakestream.raster.cog.block_sharing import SceneBlocks
from quakestream.raster.cog.places import BlockTask, SamplePlace
from quakestream.raster.cog.workers import Team
from tests.helpers.cog_case import RemoteFetcher, finish_requests, small_level

PLACE = SamplePlace({}, planes_apart=False)
BLOCK = np.zeros((16, 24, 3), np.uint8)


def parts(rows: int = 16, cols: int = 24) -> list[BlockPart]:
    rect = Rect(top=0, left=0, height=rows, width=cols)
    return list(block_parts(small_level(32, 48), 0, rect, [0]))


@pytest.fixture
def team() -> Iterator[Team]:
    with Team(requests=1, cache_bytes=1 << 20) as team:
        yield team


def test_only_blocks_used_in_part_are_shared(team: Team) -> None:
    (whole,), (some,) = parts(), parts(cols=10)
    assert not SceneBlocks("scene", team).is_shared(whole)
    assert SceneBlocks("scene", team).is_shared(some)
    with Team(cache_bytes=0) as without_cache:
        assert not SceneBlocks("scene", without_cache).is_shared(some)


def test_the_first_makes_a_block_and_others_wait_for_it(team: Team) -> None:
    blocks = SceneBlocks("scene", team)
    (part,) = parts(cols=10)
    first, second, third = (BlockTask(part, PLACE) for _ in range(3))
    assert blocks.find(first) is None
    assert first.claimed
    answer = blocks.find(second)
    assert isinstance(answer, Future)
    assert not second.claimed
    blocks.settle(second, None)  # it claimed nothing, so this ends nothing
    assert not answer.done()
    blocks.settle(first, BLOCK)
    blocks.settle(first, ValueError("too late"))
    assert answer.result() is BLOCK
    assert blocks.find(third) is BLOCK


def test_scenes_and_axes_do_not_share_blocks(team: Team) -> None:
    (part,) = parts(cols=10)
    task = BlockTask(part, PLACE)
    SceneBlocks("scene", team).find(task)
    SceneBlocks("scene", team).settle(task, BLOCK)
    assert SceneBlocks("other", team).find(BlockTask(part, PLACE)) is None
    blocks = SceneBlocks("scene", team)
    assert blocks.missing([part], planar=False) == []
    assert blocks.missing([part], planar=True) == [part]


def test_blocks_are_prefetched_once_and_together(team: Team, tmp_path: Path) -> None:
    path = tmp_path / "blocks.bin"
    path.write_bytes(bytes(range(200)) * 2)
    fetcher, blocks = RemoteFetcher(path), SceneBlocks("scene", team)
    needed = parts(cols=48)
    missing = blocks.missing(needed + needed, planar=False)
    assert [part.index for part in missing] == [0, 1]
    blocks.prefetch(missing, fetcher)
    assert blocks.missing(needed, planar=False) == []
    finish_requests(team)
    assert fetcher.ranges == [(0, 200)]
    taken = blocks.take_prefetch(needed[1])
    assert taken is not None
    answer, start = taken
    assert bytes(answer.result()[start : start + 100]) == bytes(range(100, 200))
    assert blocks.take_prefetch(needed[1]) is None


def test_a_block_in_memory_needs_no_prefetch(team: Team, tmp_path: Path) -> None:
    path = tmp_path / "blocks.bin"
    path.write_bytes(bytes(400))
    blocks = SceneBlocks("scene", team)
    (part,) = parts(cols=10)
    blocks.prefetch([part], RemoteFetcher(path))
    task = BlockTask(part, PLACE)
    blocks.find(task)
    blocks.settle(task, BLOCK)
    assert team.prefetches.held_bytes == 100
    assert blocks.find(BlockTask(part, PLACE)) is BLOCK
    assert team.prefetches.held_bytes == 0
