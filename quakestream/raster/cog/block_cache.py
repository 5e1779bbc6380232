"""Decoded blocks that the readers of one process share."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray


class BlockCache:
    """Keeps decoded blocks of which a part was used, up to a bound in bytes.

    The outer blocks of a window reach into its neighbours: with blocks of 512 px and windows of
    1,088 px, every second block would otherwise be decoded twice. Where several windows need a
    block at the same time, one thread makes it and the others wait for it.

    The cache first drops blocks that were read as often as they have pixels, then those that
    were not read for longest. Of a row of cells, only the blocks that the next row needs stay.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self._held = limit_bytes, 0
        self._blocks: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._unread: dict[Hashable, float] = {}
        """Share of each block that was not read yet. Overlaps count twice."""
        self._making: dict[Hashable, Future[NDArray[Any] | None]] = {}
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        return self._held

    def has(self, key: Hashable) -> bool:
        """True if a block is in the cache or being made."""
        return key in self._blocks or key in self._making

    def get(self, key: Hashable, share: float = 0.0) -> NDArray[Any] | None:
        """A block of the cache.

        Args:
            share: the share of its pixels that is read now.
        """
        with self._lock:
            return self._get(key, share)

    def claim(
        self, key: Hashable, share: float
    ) -> "NDArray[Any] | Future[NDArray[Any] | None] | None":
        """Looks a block up and, where nobody has it, makes the caller responsible for it.

        Returns:
            The block, or the future of a block that another thread makes, or None: the caller
            must make the block and call `settle`. The future's result is None where the other
            thread gave up before it came to the block.
        """
        with self._lock:
            block = self._get(key, share)
            if block is not None:
                return block
            if key in self._making:
                self._unread[key] -= share
                return self._making[key]
            self._making[key] = Future()
            self._unread[key] = 1.0 - share
            return None

    def settle(self, key: Hashable, outcome: NDArray[Any] | Exception | None) -> None:
        """Ends a claim: stores the block and hands it to the threads that wait.

        Args:
            outcome: the block, which must own its memory and not change any more; or the error
                that the waiting threads get; or None if the claim is given up.
        """
        if isinstance(outcome, np.ndarray):
            self.put(key, outcome)
        with self._lock:
            waiting = self._making.pop(key, None)
            if key not in self._blocks:
                self._unread.pop(key, None)
        if waiting is None:
            return
        if isinstance(outcome, Exception):
            waiting.set_exception(outcome)
        else:
            waiting.set_result(outcome)

    def put(self, key: Hashable, block: NDArray[Any]) -> None:
        """Stores a block, which must own its memory and not change any more."""
        if block.nbytes > self.limit_bytes:
            return
        with self._lock:
            if key in self._blocks:
                return
            self._blocks[key] = block
            self._blocks.move_to_end(key, last=self._unread.get(key, 1.0) > 0)
            self._held += block.nbytes
            while self._held > self.limit_bytes:
                oldest, dropped = self._blocks.popitem(last=False)
                self._held -= dropped.nbytes
                self._unread.pop(oldest, None)

    def _get(self, key: Hashable, share: float) -> NDArray[Any] | None:
        block = self._blocks.get(key)
        if block is not None:
            unread = self._unread[key] = self._unread.get(key, 1.0) - share
            self._blocks.move_to_end(key, last=unread > 0)
        return block
