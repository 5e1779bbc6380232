"""The same stages on Ray: workers are actors that hold engines and their reader threads."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import Any

import ray

from quakestream.bundles import Bundle
from quakestream.config import Profile
from quakestream.engines import AUTO, RUNTIMES
from quakestream.errors import QuakestreamError
from quakestream.events import Observer, OutputNotice
from quakestream.pipeline.backends.cluster import (
    node_resources,
    ray_cluster,
    ray_failure,
)
from quakestream.pipeline.backends.protocol import Backend
from quakestream.pipeline.backends.ray_access import Access, checked
from quakestream.pipeline.backends.ray_machines import (
    WAIT_S,
    JoinedMachines,
    has_gpus,
    wait_for_cpus,
    worker_shape,
)
from quakestream.pipeline.backends.ray_metrics import RayMetrics
from quakestream.pipeline.backends.ray_pool import ActorPool
from quakestream.pipeline.backends.ray_workers import WorkerPool, WorkerShape, start_workers
from quakestream.pipeline.planning.engine import EngineFacts
from quakestream.pipeline.work.prepare import PrepareStep
from quakestream.pipeline.work.results import GroupReport
from quakestream.pipeline.work.tasks import GroupTask, WorkerSpec


class RayBackend:
    """A cluster, or this machine where no address is given.

    A machine that joins while groups are worked on gets a worker, too.

    Args:
        address: of a running cluster; None starts one here and ends it on exit.
        engines: workers; 0 for one per GPU where a runtime uses one, else one per machine. A
            stated number stays as it is when machines join.
        wait_s: time that the first machine with a CPU has to join.

    Raises:
        ClusterError: there is no cluster at the address.
    """

    name = "ray"

    def __init__(
        self, *, address: str | None = None, engines: int = 0, wait_s: float = WAIT_S
    ) -> None:
        self._engines, self._wait_s = engines, wait_s
        self._shape: WorkerShape | None = None
        self._workers: list[Any] = []
        self._pool: WorkerPool | None = None
        self._access: Access | None = None
        self._events: Observer = lambda event: None
        self._deaths = 0
        self._stack = ExitStack()
        self._stack.enter_context(ray_cluster(address))
        self.observers: tuple[Observer, ...] = (RayMetrics(),)

    def __enter__(self) -> "RayBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_workers()
        self._stack.close()

    def listen(self, events: Observer) -> None:
        self._events, self._deaths = events, 0

    def pick(self, bundle: Bundle, settings: Profile) -> EngineFacts:
        """Picks on a worker of the run, which keeps the engine open.

        The driver may be on a head with another processor than the machines that score, and
        without a GPU.

        Raises:
            ClusterError: no machine with a CPU joins in time.
        """
        wait_for_cpus(self._wait_s, self._notice)
        named = RUNTIMES.get(settings.runtime)
        wants_gpu = settings.runtime == AUTO or (named is not None and named.on_gpu)
        self._start(on_gpu=wants_gpu and has_gpus(), readers=settings.readers)
        try:
            facts: EngineFacts = ray.get(self._workers[0].pick.remote(bundle, settings))
        except ray.exceptions.RayError as error:
            raise ray_failure(error) from error
        return facts

    def begin(self, spec: WorkerSpec) -> None:
        """Opens workers; `run` waits for what is left of it."""
        self._access = Access(objects=spec.objects, options=spec.options)
        self._pool_for(spec)

    def each(
        self, function: Callable[[PrepareStep], Any], steps: list[PrepareStep]
    ) -> Iterator[tuple[PrepareStep, Any]]:
        """Runs steps on CPUs that no worker holds, else in the workers' processes.

        Raises:
            ClusterError: a machine cannot read what the driver can.
        """
        if self._access is not None:
            function = partial(checked, self._access, function)
        if self._pool is not None and self._spare_cpus() < 1:
            yield from self._pool.each(function, steps)
            return
        self._end_idle_workers()
        remote = ray.remote(function)
        pending = [remote.remote(step) for step in steps]
        for step, reference in zip(steps, pending, strict=True):
            try:
                yield step, ray.get(reference)
            except ray.exceptions.RayError as error:
                raise ray_failure(error) from error

    def run(self, spec: WorkerSpec, groups: Iterable[GroupTask]) -> Iterator[GroupReport]:
        """Reads, scores and commits groups; reports as they are committed."""
        left = iter(groups)
        try:
            for first in left:  # no worker opens where there is nothing to do
                yield from self._pool_for(spec).reports(chain([first], left))
        finally:
            self._end_workers()

    def _pool_for(self, spec: WorkerSpec) -> WorkerPool:
        """Workers that are open for this spec, or open now."""
        if self._pool is not None and self._pool.spec is not spec:
            self._end_workers()
        if self._pool is None:
            on_gpu = has_gpus() and any(RUNTIMES[j.engine.runtime].on_gpu for j in spec.jobs)
            shape = self._start(on_gpu=on_gpu, readers=spec.readers)
            readers = spec.readers
            if on_gpu:  # an engine on CPU wants the cores for itself, one on a GPU wants none
                readers = max(readers, min(spec.readers_wanted, int(shape.cpus)))
            joined = JoinedMachines(shape)
            self._pool = WorkerPool(
                spec,
                self._workers,
                shape=shape,
                readers=readers,
                on_death=self._died,
                more=partial(self._more_workers, joined),
                on_refusal=self._refused,
            )
        return self._pool

    def _start(self, *, on_gpu: bool, readers: int) -> WorkerShape:
        """Starts workers, unless workers of that shape run already."""
        shape = worker_shape(self._engines, on_gpu=on_gpu, readers=readers)
        if shape != self._shape:
            self._end_workers()
            self._shape, self._workers = shape, start_workers(shape)
        return shape

    def _more_workers(self, joined: JoinedMachines, pool: ActorPool) -> list[Any]:
        """Workers for machines that have none."""
        if self._engines or self._shape is None:
            return []
        machines = joined.without_worker(pool.machines, pool.opening)
        added = start_workers(self._shape, machines)
        self._workers += added
        if added:
            self._notice(f"machines joined, and workers of Ray start there: {len(added)}")
        return added

    def _refused(self, error: QuakestreamError) -> None:
        self._notice(f"a machine joined, and the run does without it: {error}")

    def _died(self) -> None:
        self._deaths += 1
        self._notice(
            f"a worker of Ray died ({self._deaths} so far); another one does its work, "
            "and it is started again. Ray's logs say why; lack of memory is the usual reason"
        )

    def _notice(self, text: str) -> None:
        self._events(OutputNotice(text=text))

    def _end_workers(self) -> None:
        for worker in self._workers:
            ray.kill(worker)
        self._shape, self._workers, self._pool = None, [], None

    def _end_idle_workers(self) -> None:
        """Frees the CPUs of workers that were started to pick an engine and are not needed."""
        if self._pool is None:
            self._end_workers()

    def _spare_cpus(self) -> float:
        """CPUs of the cluster that workers do not hold."""
        held = len(self._workers) * self._shape.cpus if self._shape else 0.0
        return sum(have.get("CPU", 0.0) for have in node_resources().values()) - held


_: type[Backend] = RayBackend
