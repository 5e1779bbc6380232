"""Batches through Ray Data: other processes make them, the worker takes them in order.

    range(first, last) ── map(lesson.batch), one batch a block ── object store ── worker
                  └── scheduled by a separate process

A batch is a pure function of its number, so the process that makes it does not change it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import numpy as np
import ray
import ray.data
import torch

from training.config import TrainConfig
from training.lessons import Lesson
from training.lessons.base import TrainingBatch
from training.worker_group import Share, WorkerGroup

READER_CPUS = 0.5
READERS = 1
PREFETCH = 4
"""Batches that may wait in the object store for a worker."""
PIPELINE_BATCHES = 1000
"""Batches of one pipeline. Ray Data keeps metadata of every block, so pipelines are short."""


def by_ray_data(
    config: TrainConfig, opened: Callable[[TrainConfig], Lesson]
) -> Callable[[Lesson, range, WorkerGroup], AbstractContextManager[Iterator[TrainingBatch]]]:
    """A feeder whose batches are made by actors that open the lesson themselves."""

    @contextmanager
    def feeder(_: Lesson, numbers: range, group: WorkerGroup) -> Iterator[Iterator[TrainingBatch]]:
        yield _batches(config, opened, numbers, group)

    return feeder


def _batches(
    config: TrainConfig, opened: Callable[[TrainConfig], Lesson], numbers: range, group: WorkerGroup
) -> Iterator[TrainingBatch]:
    share = Share(total=config.schedule.global_batch, rank=group.rank, world=group.world)
    for first in range(numbers.start, numbers.stop, PIPELINE_BATCHES):
        pipeline = range(first, min(first + PIPELINE_BATCHES, numbers.stop))
        for row in _stream(config, opened, pipeline, share):
            yield TrainingBatch(
                tensors={name: torch.from_numpy(np.array(a)) for name, a in row.items()},
                share=share,
            )


def _stream(
    config: TrainConfig, opened: Callable[[TrainConfig], Lesson], numbers: range, share: Share
) -> Iterator[dict[str, Any]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    rows = [{"number": number} for number in numbers]
    stream = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        cast("Any", _BatchReader),
        fn_constructor_args=(config, opened, share.rank, share.world),
        compute=ray.data.ActorPoolStrategy(size=READERS),
        num_cpus=READER_CPUS,
    )
    # Ray Data's scheduling loop spins while batches wait. As a thread of the worker it would hold
    # the interpreter lock between the operations of a step; a split runs it in another process.
    part = stream.streaming_split(1)[0]
    for batch in part.iter_batches(batch_size=1, prefetch_batches=PREFETCH, batch_format="numpy"):
        yield {str(name): values[0] for name, values in batch.items()}


class _BatchReader:
    """Makes batches in its own process; opens the lesson once."""

    def __init__(
        self,
        config: TrainConfig,
        opened: Callable[[TrainConfig], Lesson],
        rank: int,
        world: int,
    ) -> None:
        torch.set_num_threads(1)
        self._lesson, self._rank, self._world = opened(config), rank, world

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        batch = self._lesson.batch(int(row["number"]), self._rank, self._world)
        return {name: tensor.numpy() for name, tensor in batch.tensors.items()}
