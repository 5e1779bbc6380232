"""Shards of a store cut on Ray: tasks out, reports back, no pixel in the object store."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import ray
import ray.data

from quakestream.pipeline.backends.ray_backend import RayBackend
from quakestream.pipeline.backends.ray_errors import cause_of
from quakestream.pipeline.prepare import Job
from training.data.cutting import CutJob, ShardReport, ShardTask, cut_shard


class RayCrew:
    """A cluster, or this machine when no address is given. Closed by its context manager.

    A shard is written by the one task that cuts it. Ray may run a task again: it then writes
    the same bytes under the same name.
    """

    def __init__(self, address: str | None = None) -> None:
        self._backend = RayBackend(address=address)

    def __enter__(self) -> "RayCrew":
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.__exit__()

    def each(self, function: Callable[[Job], Any], jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        """Runs small jobs as tasks; results in order."""
        yield from self._backend.each(function, jobs)

    def shards(self, job: CutJob, tasks: Iterable[ShardTask]) -> Iterator[ShardReport]:
        """Cuts shards on the cluster's CPUs; reports as they are written.

        Raises:
            StorageError: if a shard cannot be written.
        """
        rows = [{"task": pickle.dumps(task, protocol=5)} for task in tasks]
        shared = ray.put(job)
        stream = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            cast("Any", _cut), fn_args=(shared,), num_cpus=1
        )
        try:
            for row in stream.iter_rows():
                yield pickle.loads(row["report"])
        except ray.exceptions.RayError as error:
            raise cause_of(error) from error


def _cut(row: dict[str, Any], shared: Any) -> dict[str, Any]:
    report = cut_shard(pickle.loads(row["task"]), ray.get(shared))
    return {"report": pickle.dumps(report)}
