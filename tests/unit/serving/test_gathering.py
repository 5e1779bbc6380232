"""Chips gather while earlier ones are scored, and a full queue refuses at once."""

import asyncio
from collections.abc import Sequence

import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from serving.gathering import Gatherer
from serving.services import BusyError
from serving.settings import LARGEST_BATCH, QUEUED, Batching


class Doubling:
    """Doubles numbers, each batch when the gate is opened."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def work(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


def test_items_gather_while_one_is_worked_on() -> None:
    async def main() -> None:
        doubling = Doubling()
        gatherer = Gatherer("doubling", doubling.work, Batching(size=3))
        tasks = [asyncio.create_task(gatherer.answer(n)) for n in range(6)]
        await asyncio.sleep(0.01)
        assert doubling.batches == [[0]]
        tasks[2].cancel()  # its client has gone
        await asyncio.sleep(0.01)
        doubling.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert doubling.batches == [[0], [1, 3, 4], [5]]
        assert answers[:2] + answers[3:] == [0, 2, 6, 8, 10]

    asyncio.run(main())


def test_only_full_batches_go_ahead_of_their_turn() -> None:
    async def main() -> None:
        doubling = Doubling()
        gatherer = Gatherer("doubling", doubling.work, Batching(size=3), ahead=1)
        tasks = [asyncio.create_task(gatherer.answer(n)) for n in range(3)]
        await asyncio.sleep(0.01)
        assert doubling.batches == [[0]], "two wait, and a third may come"
        tasks += [asyncio.create_task(gatherer.answer(n)) for n in range(3, 8)]
        await asyncio.sleep(0.01)
        assert doubling.batches == [[0], [1, 2, 3]], "no more than one"
        doubling.gate.set()
        assert await asyncio.gather(*tasks) == [2 * n for n in range(8)]
        assert doubling.batches[2:] == [[4, 5, 6], [7]]

    asyncio.run(main())


def test_a_failed_batch_fails_alone() -> None:
    async def main() -> None:
        doubling = Doubling()
        doubling.gate.set()
        gatherer = Gatherer("doubling", doubling.work, Batching(size=2))
        items = [1, 13, 14, 2, 3]
        answers = await asyncio.gather(*map(gatherer.answer, items), return_exceptions=True)
        assert answers[0] == 2
        assert [type(a) for a in answers[1:3]] == [ValueError, ValueError]
        assert answers[3:] == [4, 6]

    asyncio.run(main())


def test_a_full_queue_refuses_and_has_room_again() -> None:
    async def main() -> None:
        doubling = Doubling()
        gatherer = Gatherer("doubling", doubling.work, Batching(queued=2), at_once=1)
        tasks = [asyncio.create_task(gatherer.answer(n)) for n in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(BusyError, match="at most 2") as refused:
            await gatherer.answer(3)
        assert refused.value.retry_s >= 1
        doubling.gate.set()
        assert await asyncio.gather(*tasks) == [0, 2, 4]
        assert await gatherer.answer(4) == 8

    asyncio.run(main())


@pytest.mark.parametrize(
    ("chip_s", "together", "queued"),
    [
        (None, 1, LARGEST_BATCH),
        (1e-9, LARGEST_BATCH, QUEUED[-1]),
        (0.01, 25, 50),
        (0.1, 2, QUEUED[0]),
        (3.0, 1, QUEUED[0]),
    ],
)
def test_measured_times_bound_batches_and_the_queue(
    chip_s: float | None, together: int, queued: int
) -> None:
    assert Batching().most_together(chip_s) == together
    assert Batching().most_queued(chip_s) == queued
    assert Batching(size=5, queued=6).most_together(chip_s) == 5
    assert Batching(size=5, queued=6).most_queued(chip_s) == 6


def test_one_batch_that_stalls_does_not_close_the_queue() -> None:
    gatherer = Gatherer("stalled", Doubling().work, Batching())
    for item_s in (9.0, 0.01, 0.01, 2.0):
        gatherer._measure(item_s)
    assert gatherer._item_s == 0.01
    for _ in range(3):
        gatherer._measure(0.5)
    assert gatherer._item_s == 0.5


def test_the_time_of_an_item_is_learnt() -> None:
    """Without the time for which a batch that was sent ahead waited for its turn."""

    async def main() -> None:
        turn = asyncio.Lock()

        async def slow(items: Sequence[int]) -> Sequence[int]:
            async with turn:
                await asyncio.sleep(0.02 * len(items))
            return items

        gatherer = Gatherer("slow", slow, Batching(size=2), ahead=1)
        for n in range(3):
            await gatherer.answer(n)
        assert gatherer._item_s == pytest.approx(0.02, rel=0.5)
        await asyncio.gather(*map(gatherer.answer, range(16)))
        assert gatherer._item_s == pytest.approx(0.02, rel=0.5)

    asyncio.run(main())
