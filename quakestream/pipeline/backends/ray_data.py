"""The same stages on Ray Data, in one of two shapes. Reports come back in both.

    joined: from_items(tasks) -> map(read ahead, score and commit; actors)
    split:  from_items(tasks) -> map_batches(read) -> map_batches(score and commit, actors)

Joined, readers are threads beside their engine, and what crosses the object store is what to
do. Split, readers are tasks on any CPU, and what crosses it is a batch of cells as the engine
takes it, once. Engines are a pool of fixed size in both. Commits are idempotent, so that Ray
may run anything again.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray
import ray.data

from quakestream.errors import QuakestreamError, StorageError
from quakestream.pipeline.backends.joined import Joined, calls_at_once
from quakestream.pipeline.backends.wire import Scenes, dump_task, load_task, packed, unpacked
from quakestream.pipeline.capacity import choose_stream, takes_gpu
from quakestream.pipeline.prepare import Job
from quakestream.pipeline.read import Reader
from quakestream.pipeline.score import score_unit
from quakestream.pipeline.stages import BatchReport, Scorer
from quakestream.pipeline.tasks import BatchTask, WorkerSpec

ENGINE_CPUS = 0.9
"""Not a reader's 1: Ray Data would fuse stages that ask for the same, and an engine would
then wait for every read."""
WAVE_BATCHES = 256
"""Batches an engine is given before the driver makes more: what the driver holds of tasks does
not grow with the run, for the price of a new pipeline (some seconds) every few minutes."""


class RayBackend:
    """A cluster, or this machine when no address is given.

    Args:
        address: of a running cluster; None starts one here and ends it on close.
        engines: engine actors; 0: one per GPU where the runtime takes one, else per machine.
    """

    name = "ray"

    def __init__(self, *, address: str | None = None, engines: int = 0) -> None:
        self._engines = engines
        self._own = not ray.is_initialized()
        if self._own:
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            if address is None:  # its C++ layer calls things errors that are none
                os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            ray.init(
                address=address,
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False

    def __enter__(self) -> "RayBackend":
        return self

    def __exit__(self, *_: object) -> None:
        if self._own:
            ray.shutdown()

    def each(self, function: Callable[[Job], Any], jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        """Runs small jobs as tasks; results in order."""
        remote = ray.remote(function)
        pending = [remote.remote(job) for job in jobs]
        for job, reference in zip(jobs, pending, strict=True):
            yield job, ray.get(reference)

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
        make = self._joined if self.stream(spec) == "joined" else self._split
        left, engines = iter(tasks), self._engines_for(spec)
        while wave := list(islice(left, engines * WAVE_BATCHES)):
            scenes: Scenes = {}
            rows = [{"task": dump_task(task, scenes)} for task in wave]
            source = ray.data.from_items(rows, override_num_blocks=len(rows))
            told = _Told(spec=ray.put(spec), scenes=ray.put(scenes))
            batch_cells = max(len(task.units) for task in wave)
            try:
                for row in make(source, told, spec, batch_cells).iter_rows():
                    yield pickle.loads(row["report"])
            except ray.exceptions.RayError as error:
                raise _cause(error) from error

    def _joined(
        self, source: ray.data.Dataset, told: "_Told", spec: WorkerSpec, batch_cells: int
    ) -> ray.data.Dataset:
        cores = self._cores_per_engine(spec)
        readers = spec.readers
        if _gpus(spec):  # an engine on CPU wants the cores for itself, one on a GPU none
            readers = max(readers, min(spec.readers_wanted, int(cores)))
        calls = calls_at_once(readers, batch_cells)
        return source.map(
            cast("Any", _ReadAndScore),
            fn_constructor_args=(told, readers),
            compute=ray.data.ActorPoolStrategy(
                size=self._engines_for(spec),
                max_tasks_in_flight_per_actor=2 * calls,
                max_concurrent_calls_per_actor=calls,
                enable_true_multi_threading=True,
            ),
            num_cpus=min(readers, int(cores)) if cores >= 1 else cores,
            num_gpus=_gpus(spec) or None,
        )

    def _split(
        self, source: ray.data.Dataset, told: "_Told", spec: WorkerSpec, batch_cells: int
    ) -> ray.data.Dataset:
        arrow: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
        engines = self._engines_for(spec)
        spare = sum(node.get("CPU", 0.0) for node in _nodes()) - 1  # one is for readers
        return source.map_batches(
            cast("Any", _read), fn_args=(told,), num_cpus=1, **arrow
        ).map_batches(
            cast("Any", _Score),
            fn_constructor_args=(told,),
            compute=ray.data.ActorPoolStrategy(size=engines),
            num_cpus=max(0.0, min(ENGINE_CPUS, spare / engines)),
            num_gpus=_gpus(spec) or None,
            zero_copy_batch=True,
            **arrow,
        )

    def _engines_for(self, spec: WorkerSpec) -> int:
        """Engine actors: as asked for, else one per device."""
        kind = "GPU" if _gpus(spec) else "CPU"
        there = [node.get(kind, 0.0) for node in _nodes()]
        return self._engines or max(1, int(sum(there) if _gpus(spec) else np.count_nonzero(there)))

    def _cores_per_engine(self, spec: WorkerSpec) -> float:
        """CPUs of the cluster for each engine, and no more than its machine has."""
        cores = [node.get("CPU", 0.0) for node in _nodes()]
        return float(min(sum(cores) / self._engines_for(spec), max(cores, default=1.0)))


def _nodes() -> list[dict[str, float]]:
    """Resources of each machine of the cluster."""
    told = cast("Any", ray).nodes()
    return [node["Resources"] for node in told if node["Alive"]]


def _gpus(spec: WorkerSpec) -> float:
    """GPUs of one engine: 1 where the runtime takes one and the cluster has any."""
    return float(takes_gpu(spec.runtime) and any(node.get("GPU") for node in _nodes()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What every worker of a wave is told: references, which Ray keeps alive and fetches once."""

    spec: Any
    scenes: Any


_readers: dict[Any, Reader] = {}
"""One reader a worker process, so that scenes stay open between batches."""


def _read(table: pa.Table, told: _Told) -> pa.Table:
    task = load_task(table["task"][0].as_py(), ray.get(told.scenes))
    reader = _readers.get(told.spec)
    if reader is None:
        _readers.clear()
        reader = _readers[told.spec] = Reader(ray.get(told.spec))
    return packed([reader.read(unit) for unit in task.units])


class _Score:
    """An engine opened on its worker, next to its device; fed with what readers elsewhere read."""

    def __init__(self, told: _Told) -> None:
        self._scorer = Scorer(ray.get(told.spec))

    def __call__(self, table: pa.Table) -> pa.Table:
        scorer = self._scorer
        results = [score_unit(cell, scorer.engine, scorer.spec) for cell in unpacked(table)]
        return pa.table({"report": [pickle.dumps(scorer.commit(results))]})


class _ReadAndScore:
    """An engine with readers beside it; Ray calls it for several batches at once."""

    def __init__(self, told: _Told, readers: int) -> None:
        self._joined = Joined(ray.get(told.spec), readers=readers)
        self._scenes: Scenes = ray.get(told.scenes)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        report = self._joined.report(load_task(row["task"], self._scenes))
        return {"report": pickle.dumps(report)}


def _cause(error: BaseException) -> QuakestreamError:
    """Our own error inside Ray's, or Ray's as a storage-independent failure."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, QuakestreamError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return StorageError(f"the Ray job failed: {str(error).strip().splitlines()[-1]}")
