"""Counts the bytes that this process fetches, for the metrics of a run."""

import threading

from quakestream.storage.ranges import Buffer


class ByteCount:
    """A sum that several threads add to."""

    def __init__(self) -> None:
        self._lock, self._total = threading.Lock(), 0

    @property
    def total(self) -> int:
        return self._total

    def add(self, number: int) -> int:
        """Adds a number, and returns it."""
        with self._lock:
            self._total += number
        return number


FETCHED = ByteCount()
"""Bytes that fetchers of this process have read, since it started."""


def counted(data: Buffer) -> Buffer:
    """The same bytes, counted as fetched."""
    FETCHED.add(len(data))
    return data
