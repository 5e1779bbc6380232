"""The local loop: one worker in this process. It is the reference for what a run gives."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from quakestream.bundles import Bundle
from quakestream.config import Profile
from quakestream.engines import Engine
from quakestream.events import Observer
from quakestream.pipeline.backends.protocol import Backend
from quakestream.pipeline.planning.engine import EngineFacts, open_picked
from quakestream.pipeline.work.prepare import PrepareStep
from quakestream.pipeline.work.readahead import threads
from quakestream.pipeline.work.results import GroupReport
from quakestream.pipeline.work.tasks import GroupTask, WorkerSpec
from quakestream.pipeline.work.worker import EngineKey, Worker, engine_key


class LocalBackend:
    """One process: `readers` threads read, one engine per bundle scores, cell after cell."""

    name = "local"
    observers: tuple[Observer, ...] = ()

    def __init__(self, *, readers: int = 2) -> None:
        self._readers = readers
        self._engines: dict[EngineKey, Engine] = {}
        """Engines that `pick` opened; `run` uses them instead of opening them again."""
        self._picked: dict[tuple[str, str, int, int], EngineFacts] = {}

    def listen(self, events: Observer) -> None:
        """Does nothing: this process either works or ends."""

    def pick(self, bundle: Bundle, settings: Profile) -> EngineFacts:
        """A bundle that was picked before keeps its engine: a service runs job after job."""
        wanted = (bundle.digest, settings.runtime, settings.batch, settings.threads)
        if wanted not in self._picked:
            facts, engine = open_picked(bundle, settings)
            self._engines[engine_key(bundle, facts.spec, settings.threads)] = engine
            self._picked[wanted] = facts
        return self._picked[wanted]

    def begin(self, spec: WorkerSpec) -> None:
        """Does nothing: `pick` has opened the engines."""

    def each(
        self, function: Callable[[PrepareStep], Any], steps: list[PrepareStep]
    ) -> Iterator[tuple[PrepareStep, Any]]:
        with threads(self._readers, "prepare") as pool:
            yield from zip(steps, pool.map(function, steps), strict=True)

    def run(self, spec: WorkerSpec, groups: Iterable[GroupTask]) -> Iterator[GroupReport]:
        """Several groups at a time; reports in order."""
        with Worker(spec, readers=self._readers, engines=self._engines) as worker:
            yield from worker.reports(groups)


_: type[Backend] = LocalBackend
