"""Contract tests for what reads the cells of a run on a worker."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, Scene, Window
from quakestream.pipeline.assemble import UnitPixels
from quakestream.pipeline.backends.joined import Cell, Reads
from quakestream.pipeline.crops import Scenes
from quakestream.pipeline.tasks import UnitTask
from quakestream.testing.engines import raises

THREADS = 3


class ScenesContract:
    """Tests over the protocol Scenes."""

    def scenes(self) -> Scenes:
        raise NotImplementedError

    def scene_and_grid(self) -> tuple[Scene, Grid]:
        raise NotImplementedError

    def inside(self) -> Window:
        """A window that lies wholly inside the scene."""
        raise NotImplementedError

    def broken(self) -> tuple[Scene, Grid]:
        """A scene that cannot be read."""
        raise NotImplementedError

    def test_an_attempt_that_succeeds_is_a_read(self) -> None:
        scenes, window = self.scenes(), self.inside()
        read = scenes.read(*self.scene_and_grid(), window)
        attempt = scenes.attempt(*self.scene_and_grid(), window)
        assert not isinstance(attempt, Exception)
        assert np.array_equal(attempt.counts_BYX, read.counts_BYX)
        assert np.array_equal(attempt.valid_YX, read.valid_YX)
        assert read.valid_YX.any()

    def test_an_attempt_that_fails_gives_the_error_that_a_read_raises(self) -> None:
        scenes, window = self.scenes(), self.inside()
        attempt = scenes.attempt(*self.broken(), window)
        assert isinstance(attempt, Exception)
        with raises(type(attempt)):
            scenes.read(*self.broken(), window)

    def test_a_scene_says_whether_its_windows_are_seamless(self) -> None:
        assert self.scenes().seamless(*self.scene_and_grid()) in (True, False)


class ReadsContract:
    """Tests over the protocol Reads."""

    def reads(self) -> Reads:
        raise NotImplementedError

    def tasks(self) -> Sequence[UnitTask]:
        """At least two cells of one run."""
        raise NotImplementedError

    def test_a_cell_reads_the_same_again(self) -> None:
        reads, task = self.reads(), self.tasks()[0]
        assert_same_cells(reads.read(task), reads.read(task))

    def test_prefetched_cells_read_as_others_do(self) -> None:
        tasks = self.tasks()
        expected = [self.reads().read(task) for task in tasks]
        reads = self.reads()
        reads.prefetch(*tasks)
        for task, cell in zip(tasks, expected, strict=True):
            assert_same_cells(reads.read(task), cell)

    def test_several_threads_may_read_at_once(self) -> None:
        reads, tasks = self.reads(), self.tasks()
        expected = [self.reads().read(task) for task in tasks]
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(reads.read, tasks))
        for one, other in zip(found, expected, strict=True):
            assert_same_cells(one, other)


def assert_same_cells(one: Cell, other: Cell) -> None:
    """Asserts that two readings of a cell hold the same pixels."""
    assert type(one) is type(other)
    for left, right in zip(_pixels(one), _pixels(other), strict=True):
        assert np.array_equal(left, right)


def _pixels(cell: Cell) -> list[NDArray[Any]]:
    if isinstance(cell, UnitPixels):
        return [*cell.batch.images.values(), cell.owner_NYX]
    return [patch.counts_BYX for patches in cell.patches.values() for patch in patches]
