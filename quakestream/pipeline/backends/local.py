"""The local loop: the reference for what a run gives. Reads ahead while it scores."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from quakestream.pipeline.assemble import UnitPixels
from quakestream.pipeline.crops import CropPixels
from quakestream.pipeline.prepare import Job
from quakestream.pipeline.read import Reader
from quakestream.pipeline.score import UnitResult, score_unit
from quakestream.pipeline.stages import BatchReport, Scorer
from quakestream.pipeline.tasks import BatchTask, UnitTask, WorkerSpec


class LocalBackend:
    """One process: `readers` threads read, one engine scores, cell after cell."""

    name = "local"

    def __init__(self, *, readers: int = 2) -> None:
        self._readers = readers

    def each(self, function: Callable[[Job], Any], jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        """Runs small jobs side by side; results in order."""
        with ThreadPoolExecutor(self._readers) as pool:
            yield from zip(jobs, pool.map(function, jobs), strict=True)

    def batches(self, spec: WorkerSpec, tasks: Iterable[BatchTask]) -> Iterator[BatchReport]:
        """Reads, scores and commits batch by batch."""
        scorer = Scorer(spec)
        results: list[UnitResult] = []
        for last, pixels in self._read_ahead(spec, tasks):
            results.append(score_unit(pixels, scorer.engine, scorer.spec))
            if last:
                yield scorer.commit(results)
                results = []

    def _read_ahead(
        self, spec: WorkerSpec, tasks: Iterable[BatchTask]
    ) -> Iterator[tuple[bool, UnitPixels | CropPixels]]:
        """Cells in order; no more than `readers` + 1 are held, whatever the run's size."""
        waiting: deque[tuple[bool, Future[UnitPixels | CropPixels]]] = deque()
        with ThreadPoolExecutor(self._readers) as pool:
            readers = _PerThread(spec)
            try:
                for last, unit in _units(tasks):
                    waiting.append((last, pool.submit(readers.read, unit)))
                    if len(waiting) > self._readers:
                        done, future = waiting.popleft()
                        yield done, future.result()
                while waiting:
                    done, future = waiting.popleft()
                    yield done, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()


class _PerThread:
    """A reader per thread: GDAL datasets are not shared between threads."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec, self._local = spec, threading.local()

    def read(self, unit: UnitTask) -> UnitPixels | CropPixels:
        if not hasattr(self._local, "reader"):
            self._local.reader = Reader(self._spec)
        reader: Reader = self._local.reader
        return reader.read(unit)


def _units(tasks: Iterable[BatchTask]) -> Iterator[tuple[bool, UnitTask]]:
    for task in tasks:
        for n, unit in enumerate(task.units):
            yield n == len(task.units) - 1, unit
