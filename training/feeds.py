"""Batches made ahead of the step that needs them."""

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from training.lessons.base import Batch

AHEAD = 2
"""Batches that may lie waiting."""
_POLL_S = 0.1


@contextmanager
def threaded(make: Callable[[int], Batch], numbers: range) -> Iterator[Iterator[Batch]]:
    """Batches made by a thread while the last one is computed with.

    What `make` raises is raised where the batch is taken.
    """
    ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=AHEAD)
    stop = threading.Event()

    def put(item: Batch | BaseException) -> None:
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
        yield _taken(ready, len(numbers))
    finally:
        stop.set()
        thread.join()


def _taken(ready: "queue.Queue[Batch | BaseException]", count: int) -> Iterator[Batch]:
    for _ in range(count):
        item = ready.get()
        if isinstance(item, BaseException):
            raise item
        yield item
