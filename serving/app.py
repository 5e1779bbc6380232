"""The service on Ray Serve: `serve run serving.app:build`.

    ingress (HTTP) ──► queue (one) ──► mappers      jobs
                  └──► predictors                   chips, in batches

Ray's own token protects the cluster and not HTTP: the tokens of the settings do that.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from quakestream.errors import QuakestreamError
from quakestream.storage import open_store
from serving.api import make_api
from serving.here import queue_of, statements
from serving.jobs import JobQueue, Outcome, ServiceJob
from serving.links import Links
from serving.mapper import Mapper
from serving.maps import OpenMaps
from serving.predictor import Chip, OpenBundle, Prediction, checked_chip
from serving.rates import RequestRates
from serving.services import BusyError, Context, Services
from serving.settings import LARGEST_BATCH, ServiceSettings, read_settings
from serving.tokens import TokenFile

# Serve's decorators turn classes and methods into other things than their types say.
deployment: Any = serve.deployment
multiplexed: Callable[..., Callable[[object], Any]] = serve.multiplexed
batch: Callable[..., Callable[[object], Any]] = serve.batch

DRAIN_S = 30.0
"""Time that a replica has to finish its requests when it is taken away."""
Handle = Any
"""A `DeploymentHandle`, whose calls are those of its class."""
LOST = (RayActorError, DeploymentUnavailableError)
"""What the queue sees when the process of a job is gone."""
NO_CORE = {"num_cpus": 0}
"""Resources of processes that mostly wait: cores are for mappers and predictors."""
REQUESTS_AT_ONCE = 64
"""Requests that one ingress works on. Serve's default of 5 makes 500 requests take 30 s."""


@deployment(
    name="mapper",
    max_ongoing_requests=1,
    max_queued_requests=-1,  # the queue sends no more jobs than there are mappers
    graceful_shutdown_timeout_s=DRAIN_S,
)
class MapperReplica:
    """Maps areas, one after the other, in one process."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._mapper = Mapper(settings.runs, open_store(settings.root, settings.options))

    async def run(self, job: ServiceJob) -> Outcome:
        """Runs one job in a thread: the replica answers health checks meanwhile."""
        return await asyncio.to_thread(self._mapper.run, job)


@deployment(
    name="queue",
    max_ongoing_requests=1000,
    graceful_shutdown_timeout_s=DRAIN_S,
    ray_actor_options=NO_CORE,
)
class QueueReplica:
    """The one queue of jobs."""

    def __init__(self, settings: ServiceSettings, mappers: Handle) -> None:
        async def run(job: ServiceJob) -> Outcome:
            outcome: Outcome = await mappers.run.remote(job)
            return outcome

        store = open_store(settings.root, settings.options)
        self._queue: JobQueue = queue_of(settings, store, run, LOST)
        self._started: asyncio.Task[None] | None = None

    async def _ready(self) -> JobQueue:
        if self._started is None:
            self._started = asyncio.create_task(self._queue.start())
        await asyncio.shield(self._started)
        return self._queue

    async def submit(
        self, owner: str, process: str, request: dict[str, Any], key: str
    ) -> ServiceJob:
        queue = await self._ready()
        return await queue.submit(owner=owner, process=process, request=request, key=key)

    async def job(self, job_id: str) -> ServiceJob | None:
        return (await self._ready()).get(job_id)

    async def jobs(self) -> list[ServiceJob]:
        return (await self._ready()).all()

    async def dismiss(self, job_id: str) -> ServiceJob:
        return await (await self._ready()).dismiss(job_id)


@deployment(name="predictor", graceful_shutdown_timeout_s=DRAIN_S)
class PredictorReplica:
    """Scores chips in batches. Serve opens a bundle where its chips arrive first."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings

    @multiplexed(max_num_models_per_replica=4)
    async def opened(self, name: str) -> OpenBundle:
        """A bundle with its engine; the time it takes decides how chips are gathered."""
        bundle = await asyncio.to_thread(OpenBundle, name, self._settings.runtime)
        size, wait_s = self._settings.batching.measured(bundle.seconds)
        self._batch.set_max_batch_size(size)
        self._batch.set_batch_wait_timeout_s(wait_s)
        return bundle

    async def predict(self, chip: Chip) -> Prediction:
        """Checks a chip before it joins a batch: a wrong one must not spoil the others."""
        bundle = await self.opened(serve.get_multiplexed_model_id())
        prediction: Prediction = await self._batch(checked_chip(chip, bundle.spec))
        return prediction

    @batch(max_batch_size=8, batch_wait_timeout_s=0.02)
    async def _batch(self, chips: list[Chip]) -> list[Prediction]:
        bundle = await self.opened(serve.get_multiplexed_model_id())
        return await asyncio.to_thread(bundle.predict, chips)

    async def check(self) -> None:
        bundle = await self.opened(serve.get_multiplexed_model_id())
        await asyncio.to_thread(bundle.check)


class ServeServices:
    """The services as deployments."""

    def __init__(self, settings: ServiceSettings, queue: Handle, predictors: Handle) -> None:
        self._settings, self._queue, self._predictors = settings, queue, predictors

    async def submit(
        self, owner: str, process: str, request: dict[str, Any], key: str
    ) -> ServiceJob:
        job: ServiceJob = await _answer(self._queue.submit.remote(owner, process, request, key))
        return job

    async def job(self, job_id: str) -> ServiceJob | None:
        found: ServiceJob | None = await _answer(self._queue.job.remote(job_id))
        return found

    async def jobs(self) -> Sequence[ServiceJob]:
        found: Sequence[ServiceJob] = await _answer(self._queue.jobs.remote())
        return found

    async def dismiss(self, job_id: str) -> ServiceJob:
        job: ServiceJob = await _answer(self._queue.dismiss.remote(job_id))
        return job

    async def predict(self, bundle: str, chip: Chip) -> Prediction:
        handle = self._predictors.options(multiplexed_model_id=bundle)
        prediction: Prediction = await _answer(handle.predict.remote(chip))
        return prediction

    async def bundles(self) -> Sequence[dict[str, Any]]:
        return await asyncio.to_thread(statements, self._settings.bundles)

    async def check(self) -> None:
        for name in self._settings.bundles:
            handle = self._predictors.options(multiplexed_model_id=name)
            await _answer(handle.check.remote())


async def _answer(response: Any) -> Any:
    """What a deployment answers.

    Raises:
        QuakestreamError: what it raised.
        BusyError: it has too much to do, or is being replaced.
    """
    try:
        return await response
    except BackPressureError as error:
        raise BusyError("too many chips wait") from error
    except LOST as error:
        raise BusyError("a process was lost and is being replaced") from error
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, QuakestreamError):
            raise cause from error
        raise


@deployment(
    name="ingress",
    max_ongoing_requests=REQUESTS_AT_ONCE,
    max_queued_requests=4 * REQUESTS_AT_ONCE,
    graceful_shutdown_timeout_s=DRAIN_S,
    ray_actor_options=NO_CORE,
)
@serve.ingress()
class Ingress:
    """Answers HTTP."""

    def __init__(self, settings: ServiceSettings, queue: Handle, predictors: Handle) -> None:
        store = open_store(settings.root, settings.options)
        self._context = Context(
            settings=settings,
            services=ServeServices(settings, queue, predictors),
            tokens=TokenFile(settings.tokens),
            store=store,
            maps=OpenMaps(settings),
            links=Links(store, settings.limits.link_s),
            rates=RequestRates(settings.limits.requests_per_minute),
        )

    def __serve_build_asgi_app__(self) -> Any:
        return make_api(self._context)


def build(args: Mapping[str, str] | None = None) -> serve.Application:
    """The application, for `serve run serving.app:build`.

    Args:
        args: `settings=PATH`; without it, the file that `QUAKESTREAM_SERVICE` names.

    Raises:
        ConfigError: there are no settings, or they are wrong.
    """
    return application(read_settings((args or {}).get("settings")))


def application(settings: ServiceSettings) -> serve.Application:
    """The application of some settings, which are checked before anything starts."""
    TokenFile(settings.tokens)
    batching = settings.batching
    classes: Any = (MapperReplica, QueueReplica, PredictorReplica, Ingress)
    mapper, queue_class, predictor, ingress = classes
    mappers = mapper.options(num_replicas=settings.mappers).bind(settings)
    queue = queue_class.bind(settings, mappers)
    predictors = predictor.options(
        num_replicas=settings.predictors,
        max_ongoing_requests=4 * (batching.size or LARGEST_BATCH),
        max_queued_requests=batching.queued,
    ).bind(settings)
    ingresses = ingress.options(num_replicas=settings.ingresses)
    app: serve.Application = ingresses.bind(settings, queue, predictors)
    return app


_: type[Services] = ServeServices
