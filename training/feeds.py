"""Prefetches batches in a thread."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from training.lessons.base import TrainingBatch

PREFETCH = 2
"""Batches that may wait in the queue."""
_POLL_S = 0.1


@contextmanager
def threaded(
    make: Callable[[int], TrainingBatch], numbers: range
) -> Iterator[Iterator[TrainingBatch]]:
    """Makes batches in a thread while the previous batch is computed.

    An error raised by `make` is raised again where the batch is taken.
    """
    ready: queue.Queue[TrainingBatch | BaseException] = queue.Queue(maxsize=PREFETCH)
    stop = threading.Event()

    def put(item: TrainingBatch | BaseException) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=_POLL_S)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for number in numbers:
                if stop.is_set():
                    return
                put(make(number))
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        yield _from_queue(ready, len(numbers))
    finally:
        stop.set()
        thread.join()


def _from_queue(
    ready: "queue.Queue[TrainingBatch | BaseException]", count: int
) -> Iterator[TrainingBatch]:
    for _ in range(count):
        item = ready.get()
        if isinstance(item, BaseException):
            raise item
        yield item
