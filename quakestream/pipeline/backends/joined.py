"""Reader threads and one engine in one process: the local loop, and an engine's actor on Ray.

    tasks -> reader threads -> engine, one cell at a time -> commit -> reports

Batches overlap: while one is written another is scored and the cells of the next are read,
so that neither the engine nor the readers wait where one batch ends and another begins.
"""

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from quakestream.engines import Batch, Engine
from quakestream.pipeline.assemble import UnitPixels
from quakestream.pipeline.crops import CropPixels
from quakestream.pipeline.read import Reader
from quakestream.pipeline.score import score_unit
from quakestream.pipeline.stages import BatchReport, Scorer
from quakestream.pipeline.tasks import BatchTask, UnitTask, WorkerSpec

Cell = UnitPixels | CropPixels
ASKED_AHEAD = 4
"""Cells, for each reader, whose bytes are asked for before one of them is read."""


def held_cells(readers: int) -> int:
    """Cells of pixels that exist beside an engine: one per reader, one waits, one is scored."""
    return readers + 2


def calls_at_once(readers: int, batch_cells: int) -> int:
    """Batches to work on at a time, so that there is always another cell to read: as many as
    hold the cells that may exist, and one that is being written."""
    return 1 + -(-held_cells(readers) // max(batch_cells, 1))


class Joined:
    """One engine and the threads that read for it.

    Args:
        readers: threads.
    """

    def __init__(self, spec: WorkerSpec, *, readers: int) -> None:
        self._scorer = Scorer(spec)
        self._engine = InTurn(self._scorer.engine)
        self._ahead = Ahead(ThreadReaders(spec), readers=readers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ahead.close()

    def report(self, task: BatchTask) -> BatchReport:
        """Reads, scores and commits a batch; may be called by several threads at once."""
        results = []
        with closing(self._ahead.cells(task.units)) as cells:
            for pixels in cells:
                results.append(score_unit(pixels, self._engine, self._scorer.spec))
                del pixels  # before the next is waited for
        return self._scorer.commit(results)

    def reports(self, tasks: Iterable[BatchTask]) -> Iterator[BatchReport]:
        """Reports of batches in their order; tasks are taken as there is room for them."""
        enough = self._ahead.held + 1
        flying: deque[tuple[int, Future[BatchReport]]] = deque()
        with ThreadPoolExecutor(enough + 1, "batch") as pool:
            try:
                for task in tasks:
                    flying.append((len(task.units), pool.submit(self.report, task)))
                    while sum(cells for cells, _ in flying) - flying[0][0] >= enough:
                        yield flying.popleft()[1].result()
                while flying:
                    yield flying.popleft()[1].result()
            finally:
                self._ahead.close()


class Reads(Protocol):
    """What reads cells for several threads."""

    def read(self, task: UnitTask) -> Cell: ...

    def prefetch(self, *tasks: UnitTask) -> None:
        """Asks for the bytes of cells that will be read soon; returns at once."""
        ...


@dataclass(slots=True, eq=False)
class _Wanted:
    """A cell somebody will ask for."""

    unit: UnitTask
    future: Future[Cell]
    asked: bool = False
    """True once its bytes are on their way."""


class Ahead:
    """Cells read by threads before they are asked for, first come first served.

    A cell counts as held from when its reading begins until its taker asks for the next, and
    no more than `held` are: cells begin in the order they were handed in, so that the first
    one that nobody has taken yet is always among them, and whoever waits for it goes on. Of the
    next ones the bytes are asked for, so that a store that answers late is not waited for.
    """

    def __init__(self, reads: Reads, *, readers: int) -> None:
        self.held = held_cells(readers)
        self._reads, self._free, self._idle = reads, self.held, readers
        self._soon = ASKED_AHEAD * readers
        self._pool = ThreadPoolExecutor(readers, "reader")
        self._waiting: deque[_Wanted] = deque()
        self._lock, self._closed = threading.Lock(), False

    def cells(self, units: Iterable[UnitTask]) -> Generator[Cell]:
        """Cells of a batch in order.

        Raises:
            CancelledError: if this was closed meanwhile.
        """
        wanted = [_Wanted(unit, Future()) for unit in units]
        futures = deque(one.future for one in wanted)
        with self._lock:
            self._waiting.extend(wanted)
            del wanted
            self._begin()
        try:
            while futures:
                try:
                    yield futures.popleft().result()
                finally:
                    self._release()
        finally:  # the taker gave up: what is being read counts until it has been
            for left in futures:
                if not left.cancel():
                    left.add_done_callback(lambda _: self._release())

    def close(self) -> None:
        """Begins no other cell; waits for those that are being read."""
        with self._lock:
            self._closed = True
            self._begin()
        self._pool.shutdown()

    def _release(self) -> None:
        with self._lock:
            self._free += 1
            self._begin()

    def _begin(self) -> None:
        """Begins as many cells as may be held and threads are there for. Called with the lock."""
        if self._closed:
            for one in self._waiting:
                one.future.cancel()
            self._waiting.clear()
        while self._free and self._idle and self._waiting:
            one = self._waiting.popleft()
            if one.future.set_running_or_notify_cancel():
                self._free, self._idle = self._free - 1, self._idle - 1
                self._pool.submit(self._one, one)

    def _one(self, one: _Wanted) -> None:
        try:
            if coming := self._next():
                self._reads.prefetch(*coming)
            one.future.set_result(self._reads.read(one.unit))
        except BaseException as error:  # whoever waits for the cell is told
            one.future.set_exception(error)
        with self._lock:
            self._idle += 1
            self._begin()

    def _next(self) -> list[UnitTask]:
        """The next cells whose bytes nobody asked for yet, once they are half of those that are
        asked for ahead: neighbours asked for together cost a store fewer requests."""
        with self._lock:
            soon = list(islice(self._waiting, self._soon))
            new = [one for one in soon if not one.asked]
            if 2 * len(new) < len(soon):
                return []
            for one in new:
                one.asked = True
        return [one.unit for one in new]


class InTurn:
    """An engine that several batches use, one call at a time: what is summed and written for
    one batch is then done while another is scored."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._turn = engine, threading.Lock()

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def on_gpu(self) -> bool:
        return self._engine.on_gpu

    @property
    def batch(self) -> int:
        return self._engine.batch

    def score(self, batch: Batch) -> NDArray[np.float32]:
        with self._turn:
            return self._engine.score(batch)

    def sums(self, batch: Batch, owner_NYX: NDArray[np.int32]) -> NDArray[np.int64]:
        with self._turn:
            return self._engine.sums(batch, owner_NYX)


class ThreadReaders:
    """A reader per thread: GDAL datasets are not shared between threads."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec, self._local = spec, threading.local()

    def read(self, task: UnitTask) -> Cell:
        return self._reader().read(task)

    def prefetch(self, *tasks: UnitTask) -> None:
        self._reader().prefetch(*tasks)

    def _reader(self) -> Reader:
        if not hasattr(self._local, "reader"):
            self._local.reader = Reader(self._spec)
        reader: Reader = self._local.reader
        return reader
