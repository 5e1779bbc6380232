"""One worker: the engines of a run's jobs, the threads that read for them, and their commits.

    tasks -> reader threads -> engines, one cell at a time -> commits -> reports

The local loop is one worker in this process; on Ray every actor holds one. Workers import this
and nothing that plans, so that their processes start a second sooner.
"""

import sys
import threading
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.engines import Batch, Engine, EngineSpec, open_engine
from quakestream.pipeline.work import ledger
from quakestream.pipeline.work.clock import StageClock
from quakestream.pipeline.work.readahead import (
    INTERRUPTIONS,
    ReadAhead,
    ThreadReaders,
    threads,
)
from quakestream.pipeline.work.results import GroupReport, UnitResult
from quakestream.pipeline.work.scenes import OpenSource
from quakestream.pipeline.work.tasks import GroupTask, WorkerSpec
from quakestream.storage import open_store

EngineKey = tuple[str, EngineSpec, int]
"""Bundle digest, runtime and batch, threads: engines of one key are the same."""


def engine_key(bundle: Bundle, engine: EngineSpec, threads: int) -> EngineKey:
    return (bundle.digest, engine, threads)


class SharedEngine:
    """An engine that several groups use, one call at a time.

    What is summed and written for one group is then done while another is scored.
    """

    def __init__(self, engine: Engine, clock: StageClock) -> None:
        self._engine, self._turn, self._clock = engine, threading.Lock(), clock

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def on_gpu(self) -> bool:
        return self._engine.on_gpu

    @property
    def batch(self) -> int:
        return self._engine.batch

    def score(self, batch: Batch) -> NDArray[np.float32]:
        with self._turn, self._clock.scoring():
            return self._engine.score(batch)

    def sums(self, batch: Batch, owner_NYX: NDArray[np.int32]) -> NDArray[np.int64]:
        with self._turn, self._clock.scoring():
            return self._engine.sums(batch, owner_NYX)


class Worker:
    """Reads, scores and commits groups.

    Args:
        readers: threads that read.
        engines: engines that are open already, by key; others are opened here.
        open_source: opens scenes; None for what suits the run.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        readers: int,
        engines: Mapping[EngineKey, Engine] | None = None,
        open_source: OpenSource | None = None,
    ) -> None:
        self._jobs, self._clock = spec.jobs, StageClock()
        self.engines = _engines(spec, engines or {}, self._clock)
        self._store = open_store(spec.ledger_uri, spec.options)
        self._ahead = ReadAhead(ThreadReaders(spec, open_source), readers=readers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ahead.close(wait=kind not in INTERRUPTIONS)

    def run(self, group: GroupTask) -> GroupReport:
        """Reads, scores and commits a group. Several threads may call it at once."""
        results: list[UnitResult] = []
        self._clock.start()
        with closing(self._ahead.cells(group.cells)) as cells:
            for parts in self._clock.waiting_for(cells):
                for pixels in parts:
                    job = self._jobs[pixels.task.job]
                    engine = self.engines[pixels.task.job]
                    results.append(job.kind.score(pixels, engine, job))
                del parts, pixels  # before the next cell is waited for
        return self._commit(group, results)

    def reports(self, groups: Iterable[GroupTask]) -> Iterator[GroupReport]:
        """Reports of groups in their order; tasks are taken as there is room for them."""
        enough = self._ahead.held + 1
        running: deque[tuple[int, Future[GroupReport]]] = deque()
        with threads(enough + 1, "group") as pool:
            try:
                for group in groups:
                    running.append((len(group.cells), pool.submit(self.run, group)))
                    while sum(cells for cells, _ in running) - running[0][0] >= enough:
                        yield running.popleft()[1].result()
                while running:
                    yield running.popleft()[1].result()
            finally:
                self._ahead.close(wait=sys.exc_info()[0] not in INTERRUPTIONS)

    def _commit(self, group: GroupTask, results: list[UnitResult]) -> GroupReport:
        """Writes one object per job, and says what the group held."""
        of_job: dict[int, list[UnitResult]] = defaultdict(list)
        for result in results:
            of_job[result.task.job].append(result)
        commits = []
        for job, parts in sorted(of_job.items()):
            kind = self._jobs[job].kind
            commits.append((job, ledger.commit(self._store, kind.commits, parts, kind.rows(parts))))
        return GroupReport(
            commits=tuple(commits),
            keys=tuple(r.task.key for r in results),
            units=len(results),
            units_failed=sum(not r.complete for r in results),
            windows=sum(r.windows for r in results),
            km2=sum(cell.km2 for cell in group.cells),
            mpx=sum(r.mpx for r in results),
            read_s=sum(r.read_s for r in results),
            score_s=sum(r.score_s for r in results),
            failures=tuple(f for r in results for f in r.failures),
            spent=self._clock.take(),
        )


def _engines(
    spec: WorkerSpec, ready: Mapping[EngineKey, Engine], clock: StageClock
) -> list[SharedEngine]:
    """The engine of each job; jobs with the same bundle share one."""
    shared: dict[EngineKey, SharedEngine] = {}
    engines = []
    for job in spec.jobs:
        key = engine_key(job.bundle, job.engine, spec.threads)
        if key not in shared:
            engine = ready.get(key) or open_engine(
                job.bundle,
                runtime=job.engine.runtime,
                threads=spec.threads,
                batch=job.engine.batch,
            )
            shared[key] = SharedEngine(engine, clock)
        engines.append(shared[key])
    return engines


_: type[Engine] = SharedEngine
