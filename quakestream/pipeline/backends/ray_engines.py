"""Joined on Ray: engines with their readers, as actors that are started before they are needed.

    driver -> batches of tasks -> engines (read ahead, score, commit) -> reports

What crosses the cluster is what to do and what was done, never a pixel. An engine's process
takes seconds to start; it does so while pairs are prepared, and where engines hold all cores
of the cluster, pairs are prepared in their processes. A batch whose engine dies is given to
another, since commits are idempotent.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import ray

from quakestream.pipeline.backends.joined import Joined
from quakestream.pipeline.backends.ray_actors import RESTARTS, Actors
from quakestream.pipeline.backends.wire import Scenes, dump_task, load_task
from quakestream.pipeline.prepare import Job
from quakestream.pipeline.stages import BatchReport
from quakestream.pipeline.tasks import BatchTask, SceneTask, WorkerSpec

SCENES_KEPT = 256
"""Scenes that lie in the object store for the batches that need them, the last used ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Engines of a run, and what each takes of its machine."""

    engines: int
    readers: int
    """Threads that read beside an engine."""
    calls: int
    """Batches an engine works on at a time."""
    jobs: int
    """Scenes and pairs that are prepared beside an engine at a time."""
    cpus: float
    gpus: float


class EnginePool:
    """Engines that start at once and are used when they are there."""

    def __init__(self, spec: WorkerSpec, fleet: Fleet) -> None:
        self.spec, self.fleet = spec, fleet
        make = cast("Any", ray.remote(JoinedEngine)).options(
            num_cpus=fleet.cpus,
            num_gpus=fleet.gpus or None,
            max_concurrency=max(fleet.calls, fleet.jobs),
            max_restarts=RESTARTS,
            scheduling_strategy="SPREAD",
        )
        self._told = ray.put(spec)  # kept: an engine that comes back is told again
        self._actors = Actors(
            [make.remote(self._told, fleet.readers) for _ in range(fleet.engines)]
        )
        self._scenes: OrderedDict[tuple[str, str], Any] = OrderedDict()

    def close(self) -> None:
        """Ends the engines' processes."""
        self._actors.close()

    def reports(self, tasks: Iterable[BatchTask]) -> Iterator[BatchReport]:
        """Reads, scores and commits batches; reports in any order."""

        def ask(engine: Any, task: BatchTask) -> Any:
            scenes: Scenes = {}
            raw = dump_task(task, scenes)
            stored = [self._stored(key, scene) for key, scene in scenes.items()]
            return engine.report.remote(raw, list(scenes), *stored)

        # twice what it works on: the next batch is there when one ends
        yield from self._actors.answers(tasks, ask, 2 * self.fleet.calls)

    def each(self, function: Callable[[Job], Any], jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        """Runs small jobs in the engines' processes; results in order."""

        def ask(engine: Any, numbered: tuple[int, Job]) -> Any:
            return engine.run.remote(function, *numbered)

        early: dict[int, Any] = {}
        following = 0
        for number, result in self._actors.answers(enumerate(jobs), ask, self.fleet.jobs):
            early[number] = result
            while following in early:
                yield jobs[following], early.pop(following)
                following += 1

    def _stored(self, key: tuple[str, str], scene: SceneTask) -> Any:
        """A scene in the object store: its masks are megabytes, and travel once."""
        if key not in self._scenes:
            self._scenes[key] = ray.put(scene)
            if len(self._scenes) > SCENES_KEPT:
                self._scenes.popitem(last=False)
        self._scenes.move_to_end(key)
        return self._scenes[key]


class JoinedEngine:
    """An engine with readers beside it; asked for several batches at once."""

    def __init__(self, spec: WorkerSpec, readers: int) -> None:
        self._spec, self._readers = spec, readers
        self._joined: Joined | None = None

    @ray.method(max_task_retries=-1)  # asked of a process that died, the next one answers
    def open(self) -> None:
        if self._joined is None:
            self._joined = Joined(self._spec, readers=self._readers)

    def report(self, raw: bytes, keys: list[tuple[str, str]], *scenes: SceneTask) -> BatchReport:
        assert self._joined is not None
        return self._joined.report(load_task(raw, dict(zip(keys, scenes, strict=True))))

    def run(self, function: Callable[[Job], Any], number: int, job: Job) -> tuple[int, Any]:
        return number, function(job)
