"""The queue of jobs: order, limits, lost processes, restarts."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from quakestream.errors import RequestError
from quakestream.storage import Store
from serving.jobs import ATTEMPTS, FullError, JobQueue, Outcome, ServiceJob

DONE = Outcome(state="successful", message="done")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(uri=str(tmp_path))


async def settled(queue: JobQueue, job_id: str) -> ServiceJob:
    async with asyncio.timeout(10):
        while True:
            job = queue.get(job_id)
            assert job is not None
            if job.state not in ("accepted", "running"):
                return job
            await asyncio.sleep(0.005)


def with_queue(
    store: Store,
    run: Callable[[ServiceJob], Awaitable[Outcome]],
    use: Callable[[JobQueue], Awaitable[Any]],
    **limits: Any,
) -> Any:
    async def main() -> Any:
        queue = JobQueue(store, run, died=(ConnectionError,), **limits)
        await queue.start()
        try:
            return await use(queue)
        finally:
            await queue.stop()

    return asyncio.run(main())


async def submit(queue: JobQueue, owner: str = "ada", **more: Any) -> ServiceJob:
    return await queue.submit(owner=owner, process="map", request={"n": 1}, **more)


def test_a_job_is_started_again_when_its_process_is_lost(store: Store) -> None:
    seen: list[int] = []

    async def run(job: ServiceJob) -> Outcome:
        seen.append(job.attempts)
        if len(seen) < ATTEMPTS:
            raise ConnectionError
        return DONE

    async def use(queue: JobQueue) -> ServiceJob:
        return await settled(queue, (await submit(queue)).id)

    job = with_queue(store, run, use)
    assert job.state == "successful"
    assert seen == list(range(1, ATTEMPTS + 1))


def test_a_job_whose_process_is_always_lost_fails(store: Store) -> None:
    async def run(_: ServiceJob) -> Outcome:
        raise ConnectionError

    async def use(queue: JobQueue) -> ServiceJob:
        return await settled(queue, (await submit(queue)).id)

    job = with_queue(store, run, use)
    assert job.state == "failed"
    assert "lost" in job.message


def test_jobs_run_in_order_and_not_more_than_workers(store: Store) -> None:
    order: list[str] = []
    running, most = 0, 0

    async def run(job: ServiceJob) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(job.id)
        await asyncio.sleep(0.02)
        running -= 1
        return DONE

    async def use(queue: JobQueue) -> list[str]:
        jobs = [await submit(queue, str(n)) for n in range(6)]
        for job in jobs:
            await settled(queue, job.id)
        return [job.id for job in jobs]

    submitted = with_queue(store, run, use, workers=2)
    assert sorted(submitted) == sorted(order)
    moved = [abs(order.index(job) - n) for n, job in enumerate(submitted)]
    assert max(moved) < 2  # two workers take jobs in order and start them side by side
    assert most == 2


def test_limits(store: Store) -> None:
    async def run(_: ServiceJob) -> Outcome:
        await asyncio.sleep(60)
        return DONE

    async def use(queue: JobQueue) -> None:
        await submit(queue)
        await submit(queue)
        with pytest.raises(FullError, match="unfinished"):
            await submit(queue)
        await asyncio.sleep(0.05)
        await submit(queue, "ben")
        await submit(queue, "ben")
        with pytest.raises(FullError, match="full"):
            await submit(queue, "cem")

    with_queue(store, run, use, per_token=2, waiting=3)


def test_a_new_queue_goes_on_with_what_was_left(store: Store) -> None:
    async def never(_: ServiceJob) -> Outcome:
        await asyncio.sleep(60)
        return DONE

    async def leave(queue: JobQueue) -> list[str]:
        jobs = [await submit(queue, key=str(n)) for n in range(2)]
        await asyncio.sleep(0.05)
        return [job.id for job in jobs]

    ids = with_queue(store, never, leave)

    async def done(_: ServiceJob) -> Outcome:
        return DONE

    async def use(queue: JobQueue) -> list[str]:
        again = await submit(queue, key="0")
        assert again.id == ids[0]
        return [(await settled(queue, job)).state for job in ids]

    assert with_queue(store, done, use) == ["successful", "successful"]


def test_a_key_names_one_request(store: Store) -> None:
    async def run(_: ServiceJob) -> Outcome:
        return DONE

    async def use(queue: JobQueue) -> None:
        first = await submit(queue, key="a")
        assert (await submit(queue, key="a")).id == first.id
        with pytest.raises(RequestError):
            await queue.submit(owner="ada", process="map", request={"n": 2}, key="a")
        assert (await submit(queue, "ben", key="a")).id != first.id

    with_queue(store, run, use)


def test_a_dismissed_job_stays_dismissed(store: Store) -> None:
    started = asyncio.Event()
    go_on = asyncio.Event()

    async def run(_: ServiceJob) -> Outcome:
        started.set()
        await go_on.wait()
        return DONE

    async def use(queue: JobQueue) -> ServiceJob | None:
        job = await submit(queue)
        store.put(f"{job.out}/run.json", b"{}")
        await started.wait()
        await queue.dismiss(job.id)
        go_on.set()
        async with asyncio.timeout(10):
            while store.exists(f"{job.out}/run.json"):
                await asyncio.sleep(0.005)
        return queue.get(job.id)

    job = with_queue(store, run, use)
    assert job is not None
    assert job.state == "dismissed"
