"""The threads, cached blocks and prefetches that the readers of one process share."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

from quakestream.raster.cog.block_cache import BlockCache
from quakestream.raster.cog.prefetches import Prefetches
from quakestream.raster.cog.scratch import Scratch

PREFETCH_BYTES = 64 << 20
"""Encoded bytes that all scenes together may prefetch at a time."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class Team:
    """Threads that decode beside the caller, threads that wait for bytes, and shared blocks.

    Several windows may be read at once: each reader works on its own window and gets the
    decoding threads that are free.

    Args:
        threads: threads that decode, the calling one included.
        requests: requests that may be under way at once.
        cache_bytes: bound on the decoded blocks held for neighbouring windows.
        prefetch_bytes: bound on the encoded bytes requested before their windows are read.
    """

    def __init__(
        self,
        threads: int = 1,
        requests: int = 8,
        cache_bytes: int = 0,
        prefetch_bytes: int = PREFETCH_BYTES,
    ) -> None:
        self._threads = threads
        self.blocks = BlockCache(cache_bytes)
        self.prefetches = Prefetches(prefetch_bytes)
        self.scratch = Scratch()
        self._helpers = ThreadPoolExecutor(threads - 1, "decode") if threads > 1 else None
        self._fetchers = ThreadPoolExecutor(requests, "fetch")  # starts its threads when needed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.prefetches.clear()
        if self._helpers is not None:
            self._helpers.shutdown(cancel_futures=True)
        self._fetchers.shutdown(cancel_futures=True)

    def submit(self, work: Callable[[], Result]) -> "Future[Result]":
        """Runs work that mostly waits, such as a request."""
        return self._fetchers.submit(work)

    def for_each(self, items: Iterable[Item], work: Callable[[Item], None]) -> None:
        """Works on all items in any order; the first exception stops the work and is raised."""
        queue = deque(items)
        failures: list[BaseException] = []

        def drain() -> None:
            while queue and not failures:
                try:
                    item = queue.popleft()
                except IndexError:  # another thread took the last item
                    return
                try:
                    work(item)
                except BaseException as error:
                    failures.append(error)

        helpers: list[Future[None]] = []
        if self._helpers is not None:
            count = min(self._threads, len(queue)) - 1
            helpers = [self._helpers.submit(drain) for _ in range(count)]
        drain()
        for helper in helpers:
            if not helper.cancel():  # a helper that has not started has nothing left to do
                helper.result()
        if failures:
            raise failures[0]
