"""Where the time of a worker goes: engines that score, and groups that wait for pixels."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from quakestream.events import WorkerTime
from quakestream.storage.traffic import FETCHED

T = TypeVar("T")


class StageClock:
    """Adds up the time of one worker, in whichever threads it is spent.

    A moment counts once, however many threads share it. While an engine scores it is busy, also if
    other groups wait for their pixels then, since that costs nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scoring = self._waiting = 0
        self._busy_s = self._wait_s = 0.0
        self._at = self._taken_at = 0.0
        self._fetched = FETCHED.total

    def start(self) -> None:
        """Starts the clock with the first group; later calls do nothing."""
        with self._lock:
            if not self._at:
                self._at = self._taken_at = time.perf_counter()

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """An engine scores during the block."""
        self._add(1, 0)
        try:
            yield
        finally:
            self._add(-1, 0)

    def waiting_for(self, items: Iterable[T]) -> Iterator[T]:
        """The same items; the time until each of them is there counts as waiting."""
        left = iter(items)
        while True:
            self._add(0, 1)
            try:
                item = next(left)
            except StopIteration:
                return
            finally:
                self._add(0, -1)
            yield item
            del item  # the consumer lets go of it, too

    def take(self) -> WorkerTime:
        """What was spent since the last call."""
        with self._lock:
            self._advance()
            fetched = FETCHED.total
            spent = WorkerTime(
                worker_s=self._at - self._taken_at,
                busy_s=self._busy_s,
                wait_s=self._wait_s,
                fetched_bytes=fetched - self._fetched,
            )
            self._busy_s = self._wait_s = 0.0
            self._taken_at, self._fetched = self._at, fetched
        return spent

    def _add(self, scoring: int, waiting: int) -> None:
        with self._lock:
            self._advance()
            self._scoring += scoring
            self._waiting += waiting

    def _advance(self) -> None:
        """Gives the time since the last change to what went on. The caller holds the lock."""
        now = time.perf_counter()
        if self._scoring:
            self._busy_s += now - self._at
        elif self._waiting:
            self._wait_s += now - self._at
        self._at = now
