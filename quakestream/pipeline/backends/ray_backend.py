"""The same stages on Ray: workers are actors that hold engines and their reader threads."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

import numpy as np
import ray

from quakestream.bundles import Bundle
from quakestream.config import Profile
from quakestream.engines import AUTO, RUNTIMES
from quakestream.pipeline.backends.cluster import (
    alive_nodes,
    node_resources,
    ray_cluster,
    ray_failure,
    this_node,
)
from quakestream.pipeline.backends.protocol import Backend
from quakestream.pipeline.backends.ray_workers import WorkerPool, WorkerShape
from quakestream.pipeline.planning.engine import EngineFacts, pick_engine
from quakestream.pipeline.work.prepare import PrepareStep
from quakestream.pipeline.work.readahead import groups_at_once
from quakestream.pipeline.work.results import GroupReport
from quakestream.pipeline.work.tasks import GroupTask, WorkerSpec


class RayBackend:
    """A cluster, or this machine where no address is given.

    Args:
        address: of a running cluster; None starts one here and ends it on exit.
        engines: workers; 0 for one per GPU where a runtime uses one, else one per machine.

    Raises:
        ClusterError: there is no cluster at the address.
    """

    name = "ray"

    def __init__(self, *, address: str | None = None, engines: int = 0) -> None:
        self._workers = engines
        self._pool: WorkerPool | None = None
        self._stack = ExitStack()
        self._stack.enter_context(ray_cluster(address))

    def __enter__(self) -> "RayBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_pool()
        self._stack.close()

    def pick(self, bundle: Bundle, settings: Profile) -> EngineFacts:
        """Picks on a worker, unless this machine is the whole cluster.

        A head may have another processor than the machines that score, and no GPU.
        """
        here = this_node()
        if all(n["NodeID"] == here for n in alive_nodes() if n["Resources"].get("CPU")):
            return pick_engine(bundle, settings)
        named = RUNTIMES.get(settings.runtime)
        wants_gpu = settings.runtime == AUTO or (named is not None and named.on_gpu)
        gpus = 1 if wants_gpu and _has_gpus() else 0
        remote = ray.remote(pick_engine).options(num_gpus=gpus)
        try:
            return ray.get(remote.remote(bundle, settings))
        except ray.exceptions.RayError as error:
            raise ray_failure(error) from error

    def begin(self, spec: WorkerSpec) -> None:
        """Starts workers; `run` waits for what is left of it."""
        self._pool_for(spec)

    def each(
        self, function: Callable[[PrepareStep], Any], steps: list[PrepareStep]
    ) -> Iterator[tuple[PrepareStep, Any]]:
        """Runs steps on CPUs that no worker holds, else in the workers' processes."""
        if self._pool is not None and self._spare_cpus() < 1:
            yield from self._pool.each(function, steps)
            return
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
            for first in left:  # no worker starts where there is nothing to do
                yield from self._pool_for(spec).reports(chain([first], left))
        finally:
            self._end_pool()

    def _pool_for(self, spec: WorkerSpec) -> WorkerPool:
        """Workers for this spec, started if they are not."""
        if self._pool is not None and self._pool.spec is not spec:
            self._end_pool()
        if self._pool is None:
            self._pool = WorkerPool(spec, self._shape(spec))
        return self._pool

    def _end_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _shape(self, spec: WorkerSpec) -> WorkerShape:
        cores, readers, gpus = self._cores_per_worker(spec), spec.readers, _gpus(spec)
        if gpus:  # an engine on CPU wants the cores for itself, one on a GPU wants none
            readers = max(readers, min(spec.readers_wanted, int(cores)))
        return WorkerShape(
            workers=self._workers_for(spec),
            readers=readers,
            groups=groups_at_once(readers, spec.group_cells),
            steps=max(1, int(cores)),
            cpus=min(readers, int(cores)) if cores >= 1 else cores,
            gpus=gpus,
        )

    def _spare_cpus(self) -> float:
        """CPUs of the cluster that workers do not hold."""
        held = self._pool.shape.workers * self._pool.shape.cpus if self._pool else 0.0
        return sum(have.get("CPU", 0.0) for have in node_resources()) - held

    def _workers_for(self, spec: WorkerSpec) -> int:
        """Workers: the number that was asked for, else one per device."""
        kind = "GPU" if _gpus(spec) else "CPU"
        there = [have.get(kind, 0.0) for have in node_resources()]
        return self._workers or max(1, int(sum(there) if _gpus(spec) else np.count_nonzero(there)))

    def _cores_per_worker(self, spec: WorkerSpec) -> float:
        """CPUs of the cluster for each worker, and no more than its machine has."""
        cores = [have.get("CPU", 0.0) for have in node_resources()]
        return float(min(sum(cores) / self._workers_for(spec), max(cores, default=1.0)))


def _has_gpus() -> bool:
    return any(have.get("GPU") for have in node_resources())


def _gpus(spec: WorkerSpec) -> float:
    """GPUs of one worker: 1 where a job's runtime uses one and the cluster has any."""
    return float(_has_gpus() and any(RUNTIMES[job.engine.runtime].on_gpu for job in spec.jobs))


_: type[Backend] = RayBackend
