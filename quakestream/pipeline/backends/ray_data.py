"""Split on Ray Data: readers are tasks on any CPU, engines a pool of actors of fixed size.

    from_items(tasks) -> map_batches(read) -> map_batches(score and commit, actors) -> reports

What crosses the object store is a batch of cells as the engine takes it, once. Commits are
idempotent, so that Ray may run anything again.
"""

import logging
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data

from quakestream.pipeline.backends.ray_errors import cause_of
from quakestream.pipeline.backends.wire import Scenes, dump_task, load_task, packed, unpacked
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What every worker of a wave is told: references, which Ray keeps alive and fetches once."""

    spec: Any
    scenes: Any


def split(
    spec: WorkerSpec, tasks: Iterable[BatchTask], *, engines: int, cpus: float, gpus: float
) -> Iterator[BatchReport]:
    """Streams batches through readers and engines; reports as they are committed.

    Args:
        cpus: what the cluster has for each engine.
        gpus: what an engine takes.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    left = iter(tasks)
    while wave := list(islice(left, engines * WAVE_BATCHES)):
        scenes: Scenes = {}
        rows = [{"task": dump_task(task, scenes)} for task in wave]
        source = ray.data.from_items(rows, override_num_blocks=len(rows))
        told = Told(spec=ray.put(spec), scenes=ray.put(scenes))
        arrow: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow"}
        stream = source.map_batches(
            cast("Any", _read), fn_args=(told,), num_cpus=1, **arrow
        ).map_batches(
            cast("Any", _Score),
            fn_constructor_args=(told,),
            compute=ray.data.ActorPoolStrategy(size=engines),
            num_cpus=min(ENGINE_CPUS, cpus),
            num_gpus=gpus or None,
            zero_copy_batch=True,
            **arrow,
        )
        try:
            for row in stream.iter_rows():
                yield pickle.loads(row["report"])
        except ray.exceptions.RayError as error:
            raise cause_of(error) from error


_readers: dict[Any, Reader] = {}
"""One reader a worker process, so that scenes stay open between batches."""


def _read(table: pa.Table, told: Told) -> pa.Table:
    task = load_task(table["task"][0].as_py(), ray.get(told.scenes))
    reader = _readers.get(told.spec)
    if reader is None:
        _readers.clear()
        reader = _readers[told.spec] = Reader(ray.get(told.spec))
    return packed([reader.read(unit) for unit in task.units])


class _Score:
    """An engine opened on its worker, next to its device; fed with what readers elsewhere read."""

    def __init__(self, told: Told) -> None:
        self._scorer = Scorer(ray.get(told.spec))

    def __call__(self, table: pa.Table) -> pa.Table:
        scorer = self._scorer
        results = [score_unit(cell, scorer.engine, scorer.spec) for cell in unpacked(table)]
        return pa.table({"report": [pickle.dumps(scorer.commit(results))]})
