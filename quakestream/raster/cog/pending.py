"""Bytes on their way: blocks asked for before the window that needs them is read."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from quakestream.raster.cog.fetch import Buffer

BlockName = tuple[int, int]
"""Image of the layout, block of the image."""


class Pending:
    """Requests under way by block, at most so many bytes of them. Safe to use from threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._held = limit_bytes, 0
        self._answers: dict[BlockName, tuple[Future[Buffer], int, int]] = {}
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        return self._held

    def room_for(self, size: int) -> bool:
        """True if so many bytes more may be asked for."""
        return self._held + size <= self._limit

    def __contains__(self, name: BlockName) -> bool:
        return name in self._answers

    def add(self, answer: Future[Buffer], blocks: Sequence[tuple[BlockName, int, int]]) -> None:
        """Notes a request that brings blocks: (name, first byte in the answer, bytes)."""
        with self._lock:
            for name, start, size in blocks:
                if name not in self._answers:
                    self._answers[name] = answer, start, size
                    self._held += size

    def take(self, name: BlockName) -> tuple[Future[Buffer], int] | None:
        """The request that brings a block and where it lies in the answer; forgotten here."""
        with self._lock:
            found = self._answers.pop(name, None)
            if found is None:
                return None
            self._held -= found[2]
        return found[:2]

    def clear(self) -> None:
        """Gives up what nobody came for."""
        with self._lock:
            for answer, _, _ in self._answers.values():
                answer.cancel()
            self._answers.clear()
            self._held = 0
