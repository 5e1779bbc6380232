"""The same stages on Ray, in one of two shapes; the plan chooses. Reports come back in both.

Joined (`ray_engines`), readers are threads beside their engine. Split (`ray_data`), they are
tasks on any CPU of the cluster, and pixels cross the object store once.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, cast

import numpy as np
import ray

from quakestream.bundles import Bundle
from quakestream.config import Profile
from quakestream.engines import AUTO, RUNTIMES
from quakestream.pipeline.backends.joined import calls_at_once
from quakestream.pipeline.backends.ray_engines import EnginePool, Fleet
from quakestream.pipeline.backends.ray_errors import cause_of
from quakestream.pipeline.capacity import choose_stream
from quakestream.pipeline.picking import Picked, pick_engine
from quakestream.pipeline.prepare import Job
from quakestream.pipeline.stages import BatchReport
from quakestream.pipeline.tasks import BatchTask, WorkerSpec


class RayBackend:
    """A cluster, or this machine when no address is given.

    Args:
        address: of a running cluster; None starts one here and ends it on close.
        engines: engine actors; 0: one per GPU where the runtime takes one, else per machine.
    """

    name = "ray"

    def __init__(self, *, address: str | None = None, engines: int = 0) -> None:
        self._engines = engines
        self._pool: EnginePool | None = None
        self._own = not ray.is_initialized()
        if self._own:
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            if address is None:  # its C++ layer calls things errors that are none
                os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
                # no worker before it is asked for: engines are processes of their own
                os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
            ray.init(
                address=address,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )

    def __enter__(self) -> "RayBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_pool()
        if self._own:
            ray.shutdown()

    def pick(self, bundle: Bundle, settings: Profile) -> Picked:
        """On a worker, unless this machine is the cluster: a head may have another processor than
        the machines that score, and no GPU."""
        if all(node["NodeID"] == _this_node() for node in _nodes() if node["Resources"].get("CPU")):
            return pick_engine(bundle, settings)
        on_gpu = settings.runtime == AUTO or RUNTIMES[settings.runtime].on_gpu
        gpus = 1 if on_gpu and any(have.get("GPU") for have in _resources()) else 0
        remote = ray.remote(pick_engine).options(num_gpus=gpus)
        try:
            return ray.get(remote.remote(bundle, settings))
        except ray.exceptions.RayError as error:
            raise cause_of(error) from error

    def begin(self, spec: WorkerSpec) -> None:
        """Starts engines whose readers are beside them; `batches` waits for what is left of it."""
        if self.stream(spec) == "joined":
            self._pool_for(spec)

    def each(self, function: Callable[[Job], Any], jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        """Runs small jobs on CPUs that no engine holds, else beside engines; results in order."""
        if self._pool is not None and self._spare() < 1:
            yield from self._pool.each(function, jobs)
            return
        remote = ray.remote(function)
        pending = [remote.remote(job) for job in jobs]
        for job, reference in zip(jobs, pending, strict=True):
            try:
                yield job, ray.get(reference)
            except ray.exceptions.RayError as error:
                raise cause_of(error) from error

    def stream(self, spec: WorkerSpec) -> str:
        """Where readers live in a run of this spec: `split` or `joined`."""
        return choose_stream(
            spec.stream,
            on_gpu=_gpus(spec) > 0,
            wanted=spec.readers_wanted,
            cores_per_engine=self._cores_per_engine(spec),
        )

    def batches(self, spec: WorkerSpec, tasks: Iterable[BatchTask]) -> Iterator[BatchReport]:
        """Streams batches through readers and engines; reports as they are committed."""
        left = iter(tasks)
        try:
            for first in left:  # no engine is opened for nothing
                yield from self._stream(spec, chain([first], left))
        finally:
            self._end_pool()

    def _stream(self, spec: WorkerSpec, tasks: Iterator[BatchTask]) -> Iterator[BatchReport]:
        if self.stream(spec) == "joined":
            yield from self._pool_for(spec).reports(tasks)
            return
        from quakestream.pipeline.backends.ray_data import split  # takes seconds to import

        engines = self._engines_for(spec)
        spare = _cpus() - 1  # one is for readers
        share = max(0.0, spare / engines)
        yield from split(spec, tasks, engines=engines, cpus=share, gpus=_gpus(spec))

    def _pool_for(self, spec: WorkerSpec) -> EnginePool:
        """Engines for this spec, begun if they are not."""
        if self._pool is not None and self._pool.spec is not spec:
            self._end_pool()
        if self._pool is None:
            self._pool = EnginePool(spec, self._fleet(spec))
        return self._pool

    def _end_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _fleet(self, spec: WorkerSpec) -> Fleet:
        cores, readers = self._cores_per_engine(spec), spec.readers
        if _gpus(spec):  # an engine on CPU wants the cores for itself, one on a GPU none
            readers = max(readers, min(spec.readers_wanted, int(cores)))
        return Fleet(
            engines=self._engines_for(spec),
            readers=readers,
            calls=calls_at_once(readers, spec.batch_cells),
            jobs=max(1, int(cores)),
            cpus=min(readers, int(cores)) if cores >= 1 else cores,
            gpus=_gpus(spec),
        )

    def _spare(self) -> float:
        """CPUs of the cluster that engines do not hold."""
        held = self._pool.fleet.engines * self._pool.fleet.cpus if self._pool else 0.0
        return _cpus() - held

    def _engines_for(self, spec: WorkerSpec) -> int:
        """Engine actors: as asked for, else one per device."""
        kind = "GPU" if _gpus(spec) else "CPU"
        there = [have.get(kind, 0.0) for have in _resources()]
        return self._engines or max(1, int(sum(there) if _gpus(spec) else np.count_nonzero(there)))

    def _cores_per_engine(self, spec: WorkerSpec) -> float:
        """CPUs of the cluster for each engine, and no more than its machine has."""
        cores = [have.get("CPU", 0.0) for have in _resources()]
        return float(min(sum(cores) / self._engines_for(spec), max(cores, default=1.0)))


def _nodes() -> list[dict[str, Any]]:
    """Machines of the cluster, as Ray describes them."""
    return [node for node in cast("Any", ray).nodes() if node["Alive"]]


def _resources() -> list[dict[str, float]]:
    """Of each machine of the cluster."""
    return [node["Resources"] for node in _nodes()]


def _cpus() -> float:
    """Of the whole cluster."""
    return sum(have.get("CPU", 0.0) for have in _resources())


def _this_node() -> str:
    return str(cast("Any", ray).get_runtime_context().get_node_id())


def _gpus(spec: WorkerSpec) -> float:
    """GPUs of one engine: 1 where the runtime takes one and the cluster has any."""
    return float(RUNTIMES[spec.runtime].on_gpu and any(have.get("GPU") for have in _resources()))
