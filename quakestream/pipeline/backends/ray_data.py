"""The same stages on Ray Data: readers on CPUs, a fixed pool of engines, one hop of pixels.

    from_items(batches) -> map(read) -> map(score and commit, actors) -> reports

What crosses the object store is a batch of cells as the engine takes it, once.
Commits are idempotent, so that Ray may run anything again.
"""

import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import ray
import ray.data

from quakestream.errors import QuakestreamError, StorageError
from quakestream.pipeline.prepare import Job
from quakestream.pipeline.read import Reader
from quakestream.pipeline.score import score_unit
from quakestream.pipeline.stages import BatchReport, Scorer
from quakestream.pipeline.tasks import BatchTask, WorkerSpec

ENGINE_CPUS = 0.9
"""Not a reader's 1: Ray Data would fuse stages that ask for the same, and an engine would
then wait for every read."""


class RayBackend:
    """A cluster, or this machine when no address is given.

    Args:
        address: of a running cluster; None starts one here and ends it on close.
        engines: engine actors; one per device.
        gpus_per_engine: 1 for engines on a GPU, 0 on CPU.
    """

    name = "ray"

    def __init__(
        self, *, address: str | None = None, engines: int = 1, gpus_per_engine: float = 0
    ) -> None:
        self._engines, self._gpus = engines, gpus_per_engine
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

    def batches(self, spec: WorkerSpec, tasks: Iterable[BatchTask]) -> Iterator[BatchReport]:
        """Streams batches through readers and engines; reports as they are committed."""
        rows = [{"task": pickle.dumps(task, protocol=5)} for task in tasks]
        if not rows:
            return
        shared = ray.put(spec)
        stream = (
            ray.data.from_items(rows, override_num_blocks=len(rows))
            .map(cast("Any", _read), fn_args=(shared,), num_cpus=1)
            .map(
                cast("Any", _Score),
                fn_constructor_args=([shared],),
                compute=ray.data.ActorPoolStrategy(size=self._engines),
                num_cpus=ENGINE_CPUS,
                num_gpus=self._gpus or None,
            )
        )
        try:
            for row in stream.iter_rows():
                yield pickle.loads(row["report"])
        except ray.exceptions.RayError as error:
            raise _cause(error) from error


_readers: dict[Any, Reader] = {}
"""One reader a worker process, so that scenes stay open between batches."""


def _read(row: dict[str, Any], shared: Any) -> dict[str, Any]:
    task: BatchTask = pickle.loads(row["task"])
    spec: WorkerSpec = ray.get(shared)
    reader = _readers.get(shared)
    if reader is None:
        _readers.clear()
        reader = _readers[shared] = Reader(spec)
    return {"pixels": pickle.dumps([reader.read(unit) for unit in task.units], protocol=5)}


class _Score:
    """An engine opened on its worker, next to its device."""

    def __init__(self, shared: list[Any]) -> None:
        self._scorer = Scorer(ray.get(shared[0]))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        scorer = self._scorer
        cells = pickle.loads(row["pixels"])
        results = [score_unit(cell, scorer.engine, scorer.spec) for cell in cells]
        return {"report": pickle.dumps(scorer.commit(results))}


def _cause(error: BaseException) -> QuakestreamError:
    """Our own error inside Ray's, or Ray's as a storage-independent failure."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, QuakestreamError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return StorageError(f"the Ray job failed: {str(error).strip().splitlines()[-1]}")
