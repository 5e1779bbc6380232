"""Bytes on their way: blocks asked for before the window that needs them is read."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

from quakestream.storage.ranges import Buffer

STALE_S = 60.0
"""A request nobody came for in this time makes room for others: its window was given up."""


class Wanted(NamedTuple):
    """A block a request brings."""

    name: Hashable
    start: int
    """Of its first byte in the answer."""


@dataclass(slots=True, eq=False)
class _Request:
    answer: Future[Buffer]
    length: int
    asked: float
    """When, seconds of the monotonic clock."""
    left: set[Hashable]
    """Blocks nobody came for yet."""


class Pending:
    """Requests made ahead, by block; of so many bytes at most. Safe to use from threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._held = limit_bytes, 0
        self._blocks: dict[Hashable, tuple[_Request, int]] = {}
        self._requests: dict[int, _Request] = {}
        """Oldest first."""
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Asked for and not taken; a request counts whole until its last block is taken."""
        return self._held

    def __contains__(self, name: Hashable) -> bool:
        return name in self._blocks

    def ask(
        self, length: int, blocks: Sequence[Wanted], submit: Callable[[], Future[Buffer]]
    ) -> bool:
        """Makes a request where there is room for it and one of its blocks is not under way."""
        with self._lock:
            new = [block for block in blocks if block.name not in self._blocks]
            if not new:
                return False
            self._make_room(length)
            if self._held + length > self._limit:
                return False
            request = _Request(submit(), length, time.monotonic(), {b.name for b in new})
            self._requests[id(request)] = request
            self._held += length
            self._blocks.update({block.name: (request, block.start) for block in new})
            return True

    def take(self, name: Hashable) -> tuple[Future[Buffer], int] | None:
        """The request that brings a block and where it lies in the answer; forgotten here."""
        with self._lock:
            found = self._blocks.pop(name, None)
            if found is None:
                return None
            request, start = found
            request.left.discard(name)
            if not request.left:
                self._forget(request)
        return request.answer, start

    def clear(self) -> None:
        """Gives up what nobody came for."""
        with self._lock:
            for request in list(self._requests.values()):
                request.answer.cancel()
                self._forget(request)

    def _make_room(self, length: int) -> None:
        """Forgets the oldest that are stale. They are not cancelled: one may be half taken."""
        before = time.monotonic() - STALE_S
        for request in list(self._requests.values()):
            if self._held + length <= self._limit or request.asked > before:
                return
            self._forget(request)

    def _forget(self, request: _Request) -> None:
        del self._requests[id(request)]
        self._held -= request.length
        for name in request.left:
            del self._blocks[name]
