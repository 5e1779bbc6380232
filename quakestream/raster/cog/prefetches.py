"""Requests that were sent before the windows that need their blocks are read."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

from quakestream.storage.ranges import Buffer

STALE_S = 60.0
"""Age at which an unused request makes room for others: its window was given up."""


class BlockInRequest(NamedTuple):
    """A block that a request brings."""

    name: Hashable
    start: int
    """Offset of its first byte in the answer."""


@dataclass(slots=True, eq=False)
class _Request:
    answer: Future[Buffer]
    length: int
    sent_s: float
    """Time of the request, seconds of the monotonic clock."""
    left: set[Hashable]
    """Blocks that no window has taken yet."""


class Prefetches:
    """Prefetch requests by block, with a bound on their bytes. Safe to use from several threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._held = limit_bytes, 0
        self._blocks: dict[Hashable, tuple[_Request, int]] = {}
        self._requests: dict[int, _Request] = {}
        """Requests by identity, oldest first."""
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes requested and not taken; a request counts whole until its last block is taken."""
        return self._held

    def __contains__(self, name: Hashable) -> bool:
        return name in self._blocks

    def request(
        self, length: int, blocks: Sequence[BlockInRequest], submit: Callable[[], Future[Buffer]]
    ) -> bool:
        """Sends a request if it fits the bound and brings a block that is not under way.

        Returns:
            True if the request was sent.
        """
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
        """Removes a block; returns the answer that brings it and its offset there."""
        with self._lock:
            entry = self._blocks.pop(name, None)
            if entry is None:
                return None
            request, start = entry
            request.left.discard(name)
            if not request.left:
                self._drop(request)
        return request.answer, start

    def clear(self) -> None:
        """Cancels and drops every request."""
        with self._lock:
            for request in list(self._requests.values()):
                request.answer.cancel()
                self._drop(request)

    def _make_room(self, length: int) -> None:
        """Drops the oldest stale requests. They are not cancelled: one may be half taken."""
        latest_s = time.monotonic() - STALE_S
        for request in list(self._requests.values()):
            if self._held + length <= self._limit or request.sent_s > latest_s:
                return
            self._drop(request)

    def _drop(self, request: _Request) -> None:
        del self._requests[id(request)]
        self._held -= request.length
        for name in request.left:
            del self._blocks[name]
