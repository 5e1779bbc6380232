"""What the readers of one process share: threads, and blocks that neighbours need again."""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from quakestream.raster.cog.pending import Pending

AHEAD_BYTES = 64 << 20
"""Encoded bytes on their way to windows that are not read yet, of all scenes together."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class BlockCache:
    """Decoded blocks that were used in part, at most so many bytes of them.

    A window's outer blocks reach into its neighbours: at 512 px blocks and 1,088 px
    windows every second block would else be decoded twice. A block that windows which
    are read at the same time need is made by one of them, and the others wait for it.

    First to go are blocks of which as much was read as there is, then those that were not
    read for longest: of a row of cells only the blocks that the next row needs are left.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self._held = limit_bytes, 0
        self._blocks: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._left: dict[Hashable, float] = {}
        """Share of each block that was not read yet, overlaps counted twice."""
        self._making: dict[Hashable, Future[NDArray[Any] | None]] = {}
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        return self._held

    def has(self, key: Hashable) -> bool:
        """True if a block is kept or being made."""
        return key in self._blocks or key in self._making

    def get(self, key: Hashable, share: float = 0.0) -> NDArray[Any] | None:
        """A block that is kept.

        Args:
            share: of its pixels that is wanted now.
        """
        with self._lock:
            return self._got(key, share)

    def claim(
        self, key: Hashable, share: float
    ) -> "NDArray[Any] | Future[NDArray[Any] | None] | None":
        """A kept block; else what another thread will `settle`; else None, and the caller must.

        The future's result is None where the other thread gave up before it came to the block.
        """
        with self._lock:
            found = self._got(key, share)
            if found is not None:
                return found
            if key in self._making:
                self._left[key] -= share
                return self._making[key]
            self._making[key] = Future()
            self._left[key] = 1.0 - share
            return None

    def settle(self, key: Hashable, made: NDArray[Any] | Exception | None) -> None:
        """Keeps a claimed block for whoever needs it; or says why there is none.

        A block must own its memory and not change any more. None: the claim is given up.
        """
        if isinstance(made, np.ndarray):
            self.put(key, made)
        with self._lock:
            waiting = self._making.pop(key, None)
            if key not in self._blocks:
                self._left.pop(key, None)
        if waiting is None:
            return
        if isinstance(made, Exception):
            waiting.set_exception(made)
        else:
            waiting.set_result(made)

    def put(self, key: Hashable, block: NDArray[Any]) -> None:
        """Keeps a block; it must own its memory and not change any more."""
        if block.nbytes > self.limit_bytes:
            return
        with self._lock:
            if key in self._blocks:
                return
            self._blocks[key] = block
            self._blocks.move_to_end(key, last=self._left.get(key, 1.0) > 0)
            self._held += block.nbytes
            while self._held > self.limit_bytes:
                dropped, gone = self._blocks.popitem(last=False)
                self._held -= gone.nbytes
                self._left.pop(dropped, None)

    def _got(self, key: Hashable, share: float) -> NDArray[Any] | None:
        found = self._blocks.get(key)
        if found is not None:
            left = self._left[key] = self._left.get(key, 1.0) - share
            self._blocks.move_to_end(key, last=left > 0)
        return found


class Team:
    """Threads that decode beside the one that asks, threads that wait for bytes, and kept blocks.

    Several windows may be read at once: each reader works on its own window and
    takes what helpers are free.

    Args:
        threads: that decode, the asking one included.
        requests: that may be under way at once.
        cache_bytes: bound of the decoded blocks held for neighbouring windows.
        ahead_bytes: bound of the encoded bytes asked for before their windows are read.
    """

    def __init__(
        self,
        threads: int = 1,
        requests: int = 8,
        cache_bytes: int = 0,
        ahead_bytes: int = AHEAD_BYTES,
    ) -> None:
        self._threads = threads
        self.blocks = BlockCache(cache_bytes)
        self.ahead = Pending(ahead_bytes)
        self.scratch = Scratch()
        self._helpers = ThreadPoolExecutor(threads - 1, "decode") if threads > 1 else None
        self._fetchers = ThreadPoolExecutor(requests, "fetch")  # starts none before it must

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.ahead.clear()
        if self._helpers is not None:
            self._helpers.shutdown(cancel_futures=True)
        self._fetchers.shutdown(cancel_futures=True)

    def later(self, what: Callable[[], Result]) -> "Future[Result]":
        """Does something that mostly waits."""
        return self._fetchers.submit(what)

    def each(self, items: Iterable[Item], do: Callable[[Item], None]) -> None:
        """Does all items, in any order; the first exception ends it and is raised."""
        queue = deque(items)
        failures: list[BaseException] = []

        def drain() -> None:
            while queue and not failures:
                try:
                    item = queue.popleft()
                except IndexError:  # another thread took the last
                    return
                try:
                    do(item)
                except BaseException as error:
                    failures.append(error)

        helpers: list[Future[None]] = []
        if self._helpers is not None:
            wanted = min(self._threads, len(queue)) - 1
            helpers = [self._helpers.submit(drain) for _ in range(wanted)]
        drain()
        for helper in helpers:
            if not helper.cancel():  # one that has not begun has nothing left to do
                helper.result()
        if failures:
            raise failures[0]


def between_vectors(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """An empty array that begins 16 bytes past a multiple of 32, to be decoded into.

    Where its output begins at one, libjpeg-turbo writes past the cache, though what is decoded
    is read next: a block then takes 1.84 ms a MB instead of 1.41.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room_N = np.empty(size + 32, np.uint8)
    first = (16 - room_N.ctypes.data) % 32
    return room_N[first : first + size].view(dtype).reshape(shape)


class Scratch(threading.local):
    """Arrays of one thread that are overwritten block after block."""

    def __init__(self) -> None:
        self._arrays: dict[Hashable, NDArray[Any]] = {}
        self._room = bytearray()

    def room(self, size: int) -> memoryview:
        """Bytes to be written over; larger ones than before are made anew."""
        if len(self._room) < size:
            self._room = bytearray(size + size // 4)
        return memoryview(self._room)[:size]

    def array(self, use: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """The array for a use; its content is what was left in it."""
        key = (use, shape, dtype)
        if key not in self._arrays:
            if len(self._arrays) > 16:  # another scene's shapes
                self._arrays.clear()
            self._arrays[key] = between_vectors(shape, dtype)
        return self._arrays[key]

    def askew(self, use: str, beside_YX: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An array of another's shape whose rows begin elsewhere within 32 bytes than its rows.

        `cv2.split` writes faster then: see `bands_apart`.
        """
        height, width = beside_YX.shape
        pitch = width + (beside_YX.strides[0] - width) % 32
        room_N = self.array(use, (height * pitch + 32,), "|u1")
        first = (beside_YX.ctypes.data + 16 - room_N.ctypes.data) % 32
        return room_N[first : first + height * pitch].reshape(height, pitch)[:, :width]
