"""Cuts shards of a store on Ray. Tasks and reports travel; pixels stay off the object store."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import ray
import ray.data

from quakestream.pipeline.backends.cluster import ray_failure
from quakestream.pipeline.backends.ray_backend import RayBackend
from quakestream.pipeline.work.prepare import PrepareStep
from training.data.cutting import ChipShardTask, CutJob, ShardReport, cut_shard


class RayShardWorkers:
    """A Ray cluster, or this machine if no address is given. A context manager that closes it.

    A shard is written by the task that cuts it. If Ray runs a task again, the task writes the same
    bytes under the same name.
    """

    def __init__(self, address: str | None = None) -> None:
        self._backend = RayBackend(address=address)

    def __enter__(self) -> "RayShardWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        self._backend.__exit__()

    def each(
        self, function: Callable[[PrepareStep], Any], steps: list[PrepareStep]
    ) -> Iterator[tuple[PrepareStep, Any]]:
        """Runs prepare steps as tasks; results come in order."""
        yield from self._backend.each(function, steps)

    def shards(self, job: CutJob, tasks: Iterable[ChipShardTask]) -> Iterator[ShardReport]:
        """Cuts shards on the CPUs of the cluster; reports come as shards are written.

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
                yield pickle.loads(row["report"])  # noqa: S301  # of our own worker
        except ray.exceptions.RayError as error:
            raise ray_failure(error) from error


def _cut(row: dict[str, Any], shared: Any) -> dict[str, Any]:
    report = cut_shard(pickle.loads(row["task"]), ray.get(shared))  # noqa: S301  # of our own driver
    return {"report": pickle.dumps(report)}
