"""What the readers of one process share: threads, and blocks that neighbours need again."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")
Result = TypeVar("Result")


class BlockCache:
    """Decoded blocks that were used in part, most recently used last, at most so many bytes.

    A window's outer blocks reach into its neighbours: at 512 px blocks and 1,088 px
    windows every second block would else be decoded twice.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes, self._held = limit_bytes, 0
        self._blocks: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        return self._held

    def get(self, key: Hashable) -> NDArray[Any] | None:
        with self._lock:
            found = self._blocks.get(key)
            if found is not None:
                self._blocks.move_to_end(key)
            return found

    def put(self, key: Hashable, block: NDArray[Any]) -> None:
        """Keeps a block; it must own its memory and not change any more."""
        if block.nbytes > self.limit_bytes:
            return
        with self._lock:
            if key in self._blocks:
                return
            self._blocks[key] = block
            self._held += block.nbytes
            while self._held > self.limit_bytes:
                self._held -= self._blocks.popitem(last=False)[1].nbytes


class Team:
    """Threads that decode beside the one that asks, threads that wait for bytes, and kept blocks.

    Several windows may be read at once: each reader works on its own window and
    takes what helpers are free.

    Args:
        threads: that decode, the asking one included.
        requests: that may be under way at once.
        cache_bytes: bound of the decoded blocks held for neighbouring windows.
    """

    def __init__(self, threads: int = 1, requests: int = 8, cache_bytes: int = 0) -> None:
        self._threads = threads
        self.blocks = BlockCache(cache_bytes)
        self._helpers = ThreadPoolExecutor(threads - 1, "decode") if threads > 1 else None
        self._fetchers = ThreadPoolExecutor(requests, "fetch")  # starts none before it must

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
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
            self._arrays[key] = np.empty(shape, dtype)
        return self._arrays[key]
