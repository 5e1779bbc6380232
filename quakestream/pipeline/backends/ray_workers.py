"""Workers as Ray actors that start before they are needed.

    driver -> tasks of commit groups -> workers (read ahead, score, commit) -> reports

Tasks and reports cross the cluster, and never a pixel. Workers start when the engine is picked,
which the first of them does, and its engine stays open. The others open theirs while pairs are
prepared. Where workers hold all cores of the cluster, pairs are prepared in their processes. A
group whose worker dies goes to another one, since commits are idempotent.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from quakestream.bundles import Bundle
from quakestream.engines import Engine
from quakestream.errors import QuakestreamError
from quakestream.pipeline.backends.ray_access import Access, errors_name_node
from quakestream.pipeline.backends.ray_pool import RESTARTS, ActorPool
from quakestream.pipeline.backends.wire import Scenes, dump_task, load_task
from quakestream.pipeline.planning.engine import EngineFacts, open_picked
from quakestream.pipeline.work.prepare import PrepareStep
from quakestream.pipeline.work.readahead import groups_at_once
from quakestream.pipeline.work.results import GroupReport
from quakestream.pipeline.work.tasks import GroupTask, WorkerScene, WorkerSpec
from quakestream.pipeline.work.worker import EngineKey, Worker, engine_key

SCENES_KEPT = 256
"""Scenes that stay in the object store for the groups that need them, the last used ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerShape:
    """Workers of a run, and what each takes of its machine."""

    workers: int
    cpus: float
    """CPUs of one worker."""
    gpus: float
    """GPUs of one worker."""
    steps: int
    """Scenes and pairs that are prepared in one worker at a time."""
    calls: int
    """Calls that one worker answers at a time, at most."""


def start_workers(shape: WorkerShape, machines: Iterable[str] | None = None) -> list[Any]:
    """Starts the processes of workers, and returns their actor handles at once.

    Args:
        machines: where to start one each; None for all workers of the shape, on any machines.
    """
    make = cast("Any", ray.remote(RayWorker))
    options: dict[str, Any] = {
        "num_cpus": shape.cpus,
        "num_gpus": shape.gpus or None,
        "max_concurrency": shape.calls,
        "max_restarts": RESTARTS,
    }
    places: list[Any] = (
        ["SPREAD"] * shape.workers
        if machines is None
        else [NodeAffinitySchedulingStrategy(name, soft=True) for name in machines]
    )
    return [make.options(**options, scheduling_strategy=place).remote() for place in places]


class WorkerPool:
    """Workers of one run, used as soon as they are open.

    Args:
        workers: from `start_workers`.
        readers: threads that read beside the engines of one worker.
        on_death: called when a worker died and comes back.
        more, on_refusal: as of `ActorPool`.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        workers: list[Any],
        *,
        shape: WorkerShape,
        readers: int,
        on_death: Callable[[], None],
        more: Callable[[ActorPool], Sequence[Any]],
        on_refusal: Callable[[QuakestreamError], None],
    ) -> None:
        self.spec, self.shape = spec, shape
        self._groups = min(groups_at_once(readers, spec.group_cells), shape.calls)
        self._spec_ref = ray.put(spec)  # kept: a worker that is restarted fetches it again
        self._actors = ActorPool(
            workers,
            self._spec_ref,
            readers,
            on_death=on_death,
            more=more,
            on_refusal=on_refusal,
        )
        self._scenes: OrderedDict[tuple[str, ...], Any] = OrderedDict()

    def reports(self, groups: Iterable[GroupTask]) -> Iterator[GroupReport]:
        """Reads, scores and commits groups; reports in any order."""

        def submit(worker: Any, group: GroupTask) -> Any:
            scenes: Scenes = {}
            raw = dump_task(group, scenes)
            stored = [self._stored(key, scene) for key, scene in scenes.items()]
            return worker.run.remote(raw, list(scenes), *stored)

        # Twice what a worker works on, so that the next group is there when one ends.
        yield from self._actors.results(groups, submit, 2 * self._groups)

    def each(
        self, function: Callable[[PrepareStep], Any], steps: list[PrepareStep]
    ) -> Iterator[tuple[PrepareStep, Any]]:
        """Runs prepare steps in the workers' processes; results in order."""

        def submit(worker: Any, numbered: tuple[int, PrepareStep]) -> Any:
            return worker.prepare.remote(function, *numbered)

        early: dict[int, Any] = {}
        following = 0
        for number, result in self._actors.results(enumerate(steps), submit, self.shape.steps):
            early[number] = result
            while following in early:
                yield steps[following], early.pop(following)
                following += 1

    def _stored(self, key: tuple[str, ...], scene: WorkerScene) -> Any:
        """A scene in the object store. Its masks are megabytes, and travel once."""
        if key not in self._scenes:
            self._scenes[key] = ray.put(scene)
            if len(self._scenes) > SCENES_KEPT:
                self._scenes.popitem(last=False)
        self._scenes.move_to_end(key)
        return self._scenes[key]


class RayWorker:
    """An actor around a `Worker`. It receives several groups at once."""

    def __init__(self) -> None:
        self._engines: dict[EngineKey, Engine] = {}
        """Engines that `pick` opened; the worker uses them instead of opening them again."""
        self._workers: list[Worker] = []

    def pick(self, bundle: Bundle, settings: Any) -> EngineFacts:
        """Picks the engine of a bundle here, and keeps it open for the run."""
        facts, engine = open_picked(bundle, settings)
        self._engines[engine_key(bundle, facts.spec, settings.threads)] = engine
        return facts

    @ray.method(max_task_retries=-1)  # a process that was restarted answers in its stead
    def open(self, spec: WorkerSpec, readers: int) -> str:
        """Opens the engines; returns Ray's name of this machine."""
        Access(objects=spec.objects, options=spec.options).check()
        if not self._workers:
            self._workers.append(Worker(spec, readers=readers, engines=self._engines))
        return str(ray.get_runtime_context().get_node_id())

    def run(self, raw: bytes, keys: list[tuple[str, ...]], *scenes: WorkerScene) -> GroupReport:
        (worker,) = self._workers
        with errors_name_node():
            return worker.run(load_task(raw, dict(zip(keys, scenes, strict=True))))

    def prepare(
        self, function: Callable[[PrepareStep], Any], number: int, step: PrepareStep
    ) -> tuple[int, Any]:
        return number, function(step)
