"""Reading ahead: threads read cells before the engine needs them.

Commit groups overlap. While one is written, another is scored and the cells of the next are read,
so that neither the engine nor the readers wait where one group ends and the next begins.
"""

import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from quakestream.pipeline.work.read import Reader
from quakestream.pipeline.work.scenes import OpenSource
from quakestream.pipeline.work.tasks import CellTask, WorkerSpec

if TYPE_CHECKING:
    from quakestream.pipeline.kinds.base import CellPixels

INTERRUPTIONS = (KeyboardInterrupt, SystemExit)
"""What ends a process at once. Threads that read or score are not waited for then."""
PREFETCHED_CELLS = 4
"""Cells, for each reader, whose bytes are requested before one of them is read."""


def held_cells(readers: int) -> int:
    """Cells of pixels that exist beside an engine: one per reader, one waits, one is scored."""
    return readers + 2


def groups_at_once(readers: int, group_cells: int) -> int:
    """Commit groups that a worker works on at a time.

    They hold as many cells as may exist, and one more group is being written, so that there is
    always another cell to read.
    """
    return 1 + -(-held_cells(readers) // max(group_cells, 1))


@contextmanager
def threads(number: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads for the time of the block.

    The end of the block waits for what they do, unless the process was told to stop.
    """
    pool = ThreadPoolExecutor(number, name)
    try:
        yield pool
    except INTERRUPTIONS:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        if sys.exc_info()[0] not in INTERRUPTIONS:
            pool.shutdown()


class CellReader(Protocol):
    """Reads cells for several threads."""

    def read(self, cell: CellTask) -> "tuple[CellPixels, ...]": ...

    def prefetch(self, *cells: CellTask) -> None:
        """Asks for the bytes of cells that will be read soon, and returns at once."""
        ...


class ThreadReaders:
    """One `Reader` per thread, since threads cannot share GDAL datasets."""

    def __init__(self, spec: WorkerSpec, open_source: OpenSource | None = None) -> None:
        self._spec, self._open, self._local = spec, open_source, threading.local()

    def read(self, cell: CellTask) -> "tuple[CellPixels, ...]":
        return self._reader().read(cell)

    def prefetch(self, *cells: CellTask) -> None:
        self._reader().prefetch(*cells)

    def _reader(self) -> Reader:
        if not hasattr(self._local, "reader"):
            self._local.reader = Reader(self._spec, self._open)
        reader: Reader = self._local.reader
        return reader


@dataclass(slots=True, eq=False)
class _CellRequest:
    """A cell that a consumer will take."""

    cell: CellTask
    future: "Future[tuple[CellPixels, ...]]"
    prefetched: bool = False
    """True once its bytes have been requested."""


class ReadAhead:
    """Reads cells in threads before they are taken, in the order they were handed in.

    A cell is held from when its reading begins until its consumer takes the next one, and at most
    `held` cells are. Since cells begin in order, the first cell that nobody has taken yet is
    always among them, and whoever waits for it goes on. The bytes of the following cells are
    requested early, so that a slow store does not stop the readers.
    """

    def __init__(self, reader: CellReader, *, readers: int) -> None:
        self.held = held_cells(readers)
        self._reader, self._free, self._idle = reader, self.held, readers
        self._prefetched = PREFETCHED_CELLS * readers
        self._pool = ThreadPoolExecutor(readers, "reader")
        self._waiting: deque[_CellRequest] = deque()
        self._lock, self._closed = threading.Lock(), False

    def cells(self, cells: Iterable[CellTask]) -> "Generator[tuple[CellPixels, ...]]":
        """Yields the pixels of a group's cells, in order.

        Raises:
            CancelledError: this was closed meanwhile.
        """
        requests = [_CellRequest(cell, Future()) for cell in cells]
        futures = deque(request.future for request in requests)
        with self._lock:
            self._waiting.extend(requests)
            del requests
            self._begin()
        try:
            while futures:
                try:
                    yield futures.popleft().result()
                finally:
                    self._release()
        finally:  # the consumer gave up: a cell that is being read counts until it has been
            for left in futures:
                if not left.cancel():
                    left.add_done_callback(lambda _: self._release())

    def close(self, *, wait: bool = True) -> None:
        """Begins no other cell, and waits for those that are being read."""
        with self._lock:
            self._closed = True
            self._begin()
        self._pool.shutdown(wait=wait)

    def _release(self) -> None:
        with self._lock:
            self._free += 1
            self._begin()

    def _begin(self) -> None:
        """Begins as many cells as may be held and as there are idle threads.

        The caller holds the lock.
        """
        if self._closed:
            for request in self._waiting:
                request.future.cancel()
            self._waiting.clear()
        while self._free and self._idle and self._waiting:
            request = self._waiting.popleft()
            if request.future.set_running_or_notify_cancel():
                self._free, self._idle = self._free - 1, self._idle - 1
                self._pool.submit(self._read, request)

    def _read(self, request: _CellRequest) -> None:
        try:
            if cells := self._cells_to_prefetch():
                self._reader.prefetch(*cells)
            request.future.set_result(self._reader.read(request.cell))
        except BaseException as error:  # raised where the cell is taken
            request.future.set_exception(error)
        with self._lock:
            self._idle += 1
            self._begin()

    def _cells_to_prefetch(self) -> list[CellTask]:
        """The next cells whose bytes were not requested yet.

        None while they are less than half of the next cells: neighbours that are requested
        together cost a store fewer requests.
        """
        with self._lock:
            soon = list(islice(self._waiting, self._prefetched))
            new = [request for request in soon if not request.prefetched]
            if 2 * len(new) < len(soon):
                return []
            for request in new:
                request.prefetched = True
        return [request.cell for request in new]
