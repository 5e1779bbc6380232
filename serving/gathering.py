"""Gathers chips while earlier ones are scored, and refuses what would wait too long.

Serve's own `@serve.batch` forms a batch in a fixed time and lets formed batches wait for each
other: under load it sends many small ones. Here a chip that finds nothing under way goes at once,
and those that arrive meanwhile go together.
"""

import asyncio
import math
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from prometheus_client import Counter, Histogram

from serving.services import BusyError
from serving.settings import LARGEST_BATCH, Batching

Item = TypeVar("Item")
Answer = TypeVar("Answer")

CHIPS = Counter("quakestream_chips", "Chips by what became of them", ["bundle", "outcome"])
BATCHES = Histogram(
    "quakestream_chips_of_a_batch",
    "Chips that were scored together",
    ["bundle"],
    buckets=(1, 2, 4, 8, 16, LARGEST_BATCH),
)
NEWEST = 5
"""Batches whose median is the measured time of an item: one that stalls closes no queue."""


class Gatherer(Generic[Item, Answer]):
    """Answers items in batches. All calls are made on one event loop.

    Args:
        name: of the bundle, for metrics.
        work: answers a batch, in its order.
        batching: most items of a batch and of the queue.
        at_once: batches that are worked on at the same time.
        ahead: batches that are sent before there is a place for them. Only full ones are: others
            would be small, and items that arrive before their turn could not join.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        batching: Batching,
        at_once: int = 1,
        ahead: int = 0,
    ) -> None:
        self._name, self._work, self._batching = name, work, batching
        self._at_once, self._ahead = at_once, ahead
        self._freed = float("-inf")
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._newest_s: deque[float] = deque(maxlen=NEWEST)
        self._item_s: float | None = None
        self._opened = False

    def check_room(self) -> None:
        """Checks that one more item may wait.

        Raises:
            BusyError: the queue is full.
        """
        turn_s = None if self._item_s is None else self._item_s / self._at_once
        most = self._batching.most_queued(turn_s)
        if len(self._waiting) >= most:
            CHIPS.labels(self._name, "refused").inc()
            wait_s = len(self._waiting) * (turn_s or 0.0)
            raise BusyError(
                f"the queue of chips is full: at most {most:,}", max(math.ceil(wait_s), 1)
            )

    async def answer(self, item: Item) -> Answer:
        """The answer of one item.

        Raises:
            BusyError: the queue is full.
            Exception: what the work on its batch raised.
        """
        self.check_room()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._send()
        return await future

    def _send(self) -> None:
        """Starts batches while there are items and free places."""
        size = self._batching.most_together(self._item_s)
        while self._waiting and self._has_place(size):
            batch: list[tuple[Item, asyncio.Future[Answer]]] = []
            while self._waiting and len(batch) < size:
                entry = self._waiting.popleft()
                if not entry[1].done():  # its client has gone
                    batch.append(entry)
            if batch:
                task = asyncio.create_task(self._do(batch))
                self._under_way.add(task)
                task.add_done_callback(self._done)

    def _has_place(self, size: int) -> bool:
        """True if a batch may be sent now, which is full where as many items wait as `size`."""
        under_way = len(self._under_way)
        if under_way < self._at_once:
            return True
        return under_way < self._at_once + self._ahead and len(self._waiting) >= size

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        self._freed = time.perf_counter()
        self._send()

    async def _do(self, batch: "list[tuple[Item, asyncio.Future[Answer]]]") -> None:
        sent, waits = time.perf_counter(), len(self._under_way) > self._at_once
        try:
            answers = await self._work([item for item, _ in batch])
        except Exception as error:  # whatever it is, each client waits for an answer
            CHIPS.labels(self._name, "failed").inc(len(batch))
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        CHIPS.labels(self._name, "answered").inc(len(batch))
        BATCHES.labels(self._name).observe(len(batch))
        began = max(sent, self._freed) if waits else sent
        self._measure((time.perf_counter() - began) / len(batch))
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    def _measure(self, item_s: float) -> None:
        """Learns the time of an item; the first batch also opened the engine."""
        if self._opened:
            self._newest_s.append(item_s)
            self._item_s = statistics.median(self._newest_s)
        self._opened = True
