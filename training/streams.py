"""Batches through Ray Data: made by processes of their own, taken in order.

    range(first, last) ── map(lesson.batch), one batch a block ── object store ── worker
                  └── scheduled by a process of its own

A batch is a pure function of its number, so where it is made does not change it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import numpy as np
import ray
import ray.data
import torch

from training.config import TrainConfig
from training.crew import Crew, Share
from training.lessons import Lesson
from training.lessons.base import Batch

READER_CPUS = 0.5
READERS = 1
AHEAD = 4
"""Batches that may lie in the object store for a worker."""
STRETCH = 1000
"""Batches of one pipeline: Ray Data keeps book of every block."""


def by_ray_data(
    config: TrainConfig, opened: Callable[[TrainConfig], Lesson]
) -> Callable[[Lesson, range, Crew], AbstractContextManager[Iterator[Batch]]]:
    """A feeder whose batches are made by reader actors that open the lesson themselves."""

    @contextmanager
    def feeder(_: Lesson, numbers: range, crew: Crew) -> Iterator[Iterator[Batch]]:
        yield _batches(config, opened, numbers, crew)

    return feeder


def _batches(
    config: TrainConfig, opened: Callable[[TrainConfig], Lesson], numbers: range, crew: Crew
) -> Iterator[Batch]:
    share = Share(total=config.global_batch, rank=crew.rank, world=crew.world)
    for first in range(numbers.start, numbers.stop, STRETCH):
        stretch = range(first, min(first + STRETCH, numbers.stop))
        for row in _stream(config, opened, stretch, share):
            yield Batch(
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
        cast("Any", _Reader),
        fn_constructor_args=(config, opened, share.rank, share.world),
        compute=ray.data.ActorPoolStrategy(size=READERS),
        num_cpus=READER_CPUS,
    )
    # Ray Data's scheduling loop spins while batches wait to be taken. As a thread of the worker it
    # holds the interpreter lock between the step's operations; a split has a process for it.
    part = stream.streaming_split(1)[0]
    for batch in part.iter_batches(batch_size=1, prefetch_batches=AHEAD, batch_format="numpy"):
        yield {str(name): values[0] for name, values in batch.items()}


class _Reader:
    """Makes batches where it runs; opens the lesson once."""

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
