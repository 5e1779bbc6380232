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
from serving.health import Health
from serving.here import gatherers_of, queue_of, statements
from serving.jobs import JobQueue, Outcome, ServiceJob
from serving.links import Links
from serving.mapper import Mapper
from serving.maps import OpenMaps
from serving.predictor import BundleSpecs, Chip, OpenBundle, Prediction, checked_chip
from serving.rates import RequestRates
from serving.services import BusyError, Context, Services
from serving.settings import ServiceSettings, read_settings
from serving.tokens import TokenFile

# Serve's decorators turn classes and methods into other things than their types say.
deployment: Any = serve.deployment
multiplexed: Callable[..., Callable[[object], Any]] = serve.multiplexed

QUIET = {"enable_access_log": False}
"""Serve's proxy notes each request; the processes behind it need not do so again."""
DRAIN_S = 30.0
"""Time that a replica has to finish its requests when it is taken away."""
Handle = Any
"""A `DeploymentHandle`, whose calls are those of its class."""
LOST = (RayActorError, DeploymentUnavailableError)
"""What the queue sees when the process of a job is gone."""
NO_CORE = {"num_cpus": 0}
"""Resources of processes that mostly wait: cores are for mappers and predictors."""
REQUESTS_AT_ONCE = 1000
"""Requests that one ingress works on. It refuses chips itself, with a problem document: requests
that waited outside would be answered late, and by Serve's proxy in plain text. Followers of a
job's progress hold a place each."""
BATCHES_AHEAD = 1
"""Full batches of a bundle that an ingress sends to each predictor while it scores another one."""
BATCHES_QUEUED = 64
"""Batches that may wait for predictors; ingresses send few."""


@deployment(
    name="mapper",
    max_ongoing_requests=1,
    max_queued_requests=-1,  # the queue sends no more jobs than there are mappers
    graceful_shutdown_timeout_s=DRAIN_S,
    logging_config=QUIET,
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
    max_ongoing_requests=REQUESTS_AT_ONCE,
    max_queued_requests=REQUESTS_AT_ONCE,
    graceful_shutdown_timeout_s=DRAIN_S,
    ray_actor_options=NO_CORE,
    logging_config=QUIET,
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


@deployment(name="predictor", graceful_shutdown_timeout_s=DRAIN_S, logging_config=QUIET)
class PredictorReplica:
    """Scores batches of chips. Serve opens a bundle where its chips arrive first."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings

    @multiplexed(max_num_models_per_replica=4)
    async def opened(self, name: str) -> OpenBundle:
        """A bundle with its engine."""
        return await asyncio.to_thread(OpenBundle, name, self._settings.runtime)

    async def predict(self, chips: Sequence[Chip]) -> list[Prediction]:
        """Scores chips that an ingress has checked and gathered."""
        bundle = await self.opened(serve.get_multiplexed_model_id())
        return await asyncio.to_thread(bundle.predict, chips)

    async def check(self) -> None:
        bundle = await self.opened(serve.get_multiplexed_model_id())
        await asyncio.to_thread(bundle.check)


class ServeServices:
    """The services as deployments."""

    def __init__(self, settings: ServiceSettings, queue: Handle, predictors: Handle) -> None:
        self._settings, self._queue, self._predictors = settings, queue, predictors
        self._specs = BundleSpecs()
        at_once, ahead = settings.predictors, BATCHES_AHEAD * settings.predictors
        self._gatherers = gatherers_of(settings, self._score, at_once, ahead)

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
        checked = checked_chip(chip, await self._specs.of(bundle))
        return await self._gatherers[bundle].answer(checked)

    def check_room(self, bundle: str) -> None:
        self._gatherers[bundle].check_room()

    async def _score(self, bundle: str, chips: Sequence[Chip]) -> Sequence[Prediction]:
        """Scores a batch; one whose process is lost is sent once more."""
        handle = self._predictors.options(multiplexed_model_id=bundle)
        try:
            found: Sequence[Prediction] = await _answer(handle.predict.remote(chips))
        except LostError:
            found = await _answer(handle.predict.remote(chips))
        return found

    async def bundles(self) -> Sequence[dict[str, Any]]:
        return await asyncio.to_thread(statements, self._settings.bundles)

    async def check(self) -> None:
        for name in self._settings.bundles:
            handle = self._predictors.options(multiplexed_model_id=name)
            await _answer(handle.check.remote())


class LostError(BusyError):
    """The process that worked on it was lost and is being replaced."""


async def _answer(response: Any) -> Any:
    """What a deployment answers.

    Raises:
        QuakestreamError: what it raised.
        BusyError: it has too much to do, or is being replaced.
    """
    try:
        return await response
    except BackPressureError as error:
        raise BusyError("too many requests wait") from error
    except LOST as error:
        raise LostError("a process was lost and is being replaced") from error
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, QuakestreamError):
            raise cause from error
        raise


@deployment(
    name="ingress",
    max_ongoing_requests=REQUESTS_AT_ONCE,
    max_queued_requests=REQUESTS_AT_ONCE,
    graceful_shutdown_timeout_s=DRAIN_S,
    ray_actor_options=NO_CORE,
    logging_config=QUIET,
)
@serve.ingress()
class Ingress:
    """Answers HTTP."""

    def __init__(self, settings: ServiceSettings, queue: Handle, predictors: Handle) -> None:
        store = open_store(settings.root, settings.options)
        services = ServeServices(settings, queue, predictors)
        self._context = Context(
            settings=settings,
            services=services,
            health=Health(services.check),
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
    classes: Any = (MapperReplica, QueueReplica, PredictorReplica, Ingress)
    mapper, queue_class, predictor, ingress = classes
    mappers = mapper.options(num_replicas=settings.mappers).bind(settings)
    queue = queue_class.bind(settings, mappers)
    predictors = predictor.options(
        num_replicas=settings.predictors,
        max_ongoing_requests=BATCHES_QUEUED,
        max_queued_requests=BATCHES_QUEUED,
    ).bind(settings)
    ingresses = ingress.options(num_replicas=settings.ingresses)
    app: serve.Application = ingresses.bind(settings, queue, predictors)
    return app


_: type[Services] = ServeServices
