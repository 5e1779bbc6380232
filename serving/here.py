"""The services in this process: for tests, and as the meaning of what Serve spreads out."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from quakestream.bundles import bundle_statement, load_bundle
from quakestream.storage import Store
from serving.gathering import Gatherer
from serving.jobs import JobQueue, Outcome, ServiceJob
from serving.mapper import Mapper
from serving.predictor import (
    BundleSpecs,
    Chip,
    OpenBundle,
    Prediction,
    checked_chip,
)
from serving.services import Services
from serving.settings import ServiceSettings


class LocalServices:
    """A queue, a mapper and engines in this process."""

    def __init__(self, settings: ServiceSettings, store: Store) -> None:
        self._settings = settings
        self._mapper = Mapper(settings.runs, store)
        self.queue = queue_of(settings, store, self._run)
        self._bundles: dict[str, OpenBundle] = {}
        self._specs = BundleSpecs()
        self._gatherers = gatherers_of(settings, self._score)

    async def submit(
        self, owner: str, process: str, request: dict[str, Any], key: str
    ) -> ServiceJob:
        return await self.queue.submit(owner=owner, process=process, request=request, key=key)

    async def job(self, job_id: str) -> ServiceJob | None:
        return self.queue.get(job_id)

    async def jobs(self) -> Sequence[ServiceJob]:
        return self.queue.all()

    async def dismiss(self, job_id: str) -> ServiceJob:
        return await self.queue.dismiss(job_id)

    async def predict(self, bundle: str, chip: Chip) -> Prediction:
        checked = checked_chip(chip, await self._specs.of(bundle))
        return await self._gatherers[bundle].answer(checked)

    def check_room(self, bundle: str) -> None:
        self._gatherers[bundle].check_room()

    async def bundles(self) -> Sequence[dict[str, Any]]:
        return await asyncio.to_thread(statements, self._settings.bundles)

    async def check(self) -> None:
        for name in self._settings.bundles:
            await asyncio.to_thread(self._opened(name).check)

    async def _score(self, bundle: str, chips: Sequence[Chip]) -> Sequence[Prediction]:
        opened = await asyncio.to_thread(self._opened, bundle)
        return await asyncio.to_thread(opened.predict, chips)

    def _opened(self, name: str) -> OpenBundle:
        if name not in self._bundles:
            self._bundles[name] = OpenBundle(name, self._settings.runtime)
        return self._bundles[name]

    async def _run(self, job: ServiceJob) -> Outcome:
        return await asyncio.to_thread(self._mapper.run, job)


def queue_of(settings: ServiceSettings, store: Store, run: Any, died: Any = ()) -> JobQueue:
    """The queue of a service, with the limits of its settings."""
    limits = settings.limits
    return JobQueue(
        store,
        run,
        workers=settings.mappers,
        waiting=limits.jobs_waiting,
        per_token=limits.jobs_per_token,
        died=died,
    )


def gatherers_of(
    settings: ServiceSettings,
    score: Callable[[str, Sequence[Chip]], Awaitable[Sequence[Prediction]]],
    at_once: int = 1,
    ahead: int = 0,
) -> dict[str, Gatherer[Chip, Prediction]]:
    """What gathers the chips of each bundle that is offered."""
    return {
        name: Gatherer(name, partial(score, name), settings.batching, at_once, ahead)
        for name in settings.bundles
    }


def statements(names: Sequence[str]) -> list[dict[str, Any]]:
    """What each bundle takes and gives."""
    return [bundle_statement(load_bundle(name)) for name in names]


_: type[Services] = LocalServices
