"""Contract tests for what reads the cells of a run on a worker."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.pipeline.kinds.base import CellPixels
from quakestream.pipeline.kinds.crop_reading import CellCrops
from quakestream.pipeline.kinds.rasters import CellGround
from quakestream.pipeline.kinds.windows import CellWindows
from quakestream.pipeline.work.readahead import CellReader
from quakestream.pipeline.work.tasks import CellTask

THREADS = 3


class CellReaderContract:
    """Tests over the protocols CellReader and CellPixels."""

    def reader(self) -> CellReader:
        raise NotImplementedError

    def tasks(self) -> Sequence[CellTask]:
        """At least two cells of one run."""
        raise NotImplementedError

    def test_a_cell_reads_the_same_again(self) -> None:
        reader, task = self.reader(), self.tasks()[0]
        assert_same_cells(reader.read(task), reader.read(task))

    def test_prefetched_cells_read_as_others_do(self) -> None:
        tasks = self.tasks()
        expected = [self.reader().read(task) for task in tasks]
        reader = self.reader()
        reader.prefetch(*tasks)
        for task, cell in zip(tasks, expected, strict=True):
            assert_same_cells(reader.read(task), cell)

    def test_several_threads_may_read_at_once(self) -> None:
        reader, tasks = self.reader(), self.tasks()
        expected = [self.reader().read(task) for task in tasks]
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(reader.read, tasks))
        for one, other in zip(found, expected, strict=True):
            assert_same_cells(one, other)


def assert_same_cells(ones: tuple[CellPixels, ...], others: tuple[CellPixels, ...]) -> None:
    """Asserts that two readings of a cell hold the same pixels for each of its jobs."""
    for one, other in zip(ones, others, strict=True):
        assert type(one) is type(other)
        assert one.failures == other.failures
        for left, right in zip(_pixels(one), _pixels(other), strict=True):
            assert np.array_equal(left, right)


def _pixels(cell: CellPixels) -> list[NDArray[Any]]:
    if isinstance(cell, CellCrops):
        return [patch.counts_BYX for patches in cell.patches.values() for patch in patches]
    if isinstance(cell, CellWindows):
        return [*cell.batch.images.values(), cell.owner_NYX]
    if isinstance(cell, CellGround):
        return [*cell.batch.images.values(), cell.quality_NYX]
    raise TypeError(f"add {type(cell).__name__} here")
