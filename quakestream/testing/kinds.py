"""Contract tests for kinds: what is scored, and how its results are committed."""

import pickle
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from quakestream.engines import Engine, open_engine
from quakestream.outputs.layout import LEDGER
from quakestream.pipeline.kinds.base import CellPixels, Kind
from quakestream.pipeline.work.read import CellReads
from quakestream.pipeline.work.results import UnitResult
from quakestream.pipeline.work.scenes import OpenScenes, opener
from quakestream.pipeline.work.tasks import JobSpec, UnitTask, WorkerSpec


class KindContract:
    """Tests over the protocols Kind and CellPixels."""

    uses_engine = True
    """False for a kind that makes its rows without the engine."""

    def spec(self) -> WorkerSpec:
        """A run with a job of the kind."""
        raise NotImplementedError

    def tasks(self) -> Sequence[UnitTask]:
        """At least two units of that job, over ground that scenes show."""
        raise NotImplementedError

    def job(self) -> JobSpec:
        return self.spec().jobs[self.tasks()[0].job]

    def engine(self) -> Engine:
        job = self.job()
        return open_engine(job.bundle, runtime=job.engine.runtime, threads=1)

    def read(self, task: UnitTask) -> CellPixels:
        scenes = OpenScenes(opener(self.spec()), self.spec().options)
        try:
            return self.job().kind.read(task, self.job(), CellReads(scenes))
        finally:
            scenes.close()

    def result(self, task: UnitTask) -> UnitResult:
        return self.job().kind.score(self.read(task), self.engine(), self.job())

    def test_a_kind_is_a_value_that_travels(self) -> None:
        kind: Kind = self.job().kind
        assert pickle.loads(pickle.dumps(kind)) == kind  # noqa: S301  # made in the same line
        assert kind.commits.startswith(LEDGER)

    def test_a_unit_that_can_be_read_is_complete(self) -> None:
        for task in self.tasks()[:2]:
            pixels, result = self.read(task), self.result(task)
            assert pixels.task is task
            assert not pixels.failures
            assert result.complete
            assert pixels.mpx > 0
            assert len(task.shifts) == result.windows > 0

    def test_a_unit_gives_the_same_rows_again(self) -> None:
        kind, task = self.job().kind, self.tasks()[0]
        one, other = (kind.rows([self.result(task)]) for _ in range(2))
        assert one.equals(other)

    def test_rows_of_several_units_are_those_of_each(self) -> None:
        kind, tasks = self.job().kind, self.tasks()[:2]
        results = [self.result(task) for task in tasks]
        together = kind.rows(results)
        alone = [kind.rows([result]) for result in results]
        numbered = [_with_cell(table, n) for n, table in enumerate(alone)]
        assert together.equals(pa.concat_tables(numbered))

    def test_an_engine_that_fails_is_a_failure_and_no_exception(self) -> None:
        class BrokenEngine:
            name, on_gpu, batch = "broken", False, 0

            def score(self, batch: object) -> np.ndarray:
                raise MemoryError("no memory left")

            def sums(self, batch: object, owner_NYX: object) -> np.ndarray:
                raise MemoryError("no memory left")

        task = self.tasks()[0]
        result = self.job().kind.score(self.read(task), BrokenEngine(), self.job())
        assert result.complete != self.uses_engine
        kinds = {failure.kind for failure in result.failures}
        assert kinds == ({"model_error"} if self.uses_engine else set())

    def test_requests_cover_what_is_read(self) -> None:
        task, job = self.tasks()[0], self.job()
        requests = job.kind.requests(task, job)
        assert {epoch for epoch, _ in requests} == set(task.scenes)
        assert all(0 not in window.shape for _, window in requests)

    def test_memory_is_stated(self) -> None:
        job = self.job()
        small, large = (job.kind.memory(job.bundle.spec, side) for side in (1, 4))
        assert 0 < small.cell_bytes < large.cell_bytes
        assert small.copies > 0
        assert small.engine_px > 0


def _with_cell(table: pa.Table, number: int) -> pa.Table:
    cell = pa.array(np.full(len(table), number, np.int32))
    return table.set_column(table.column_names.index("cell"), "cell", cell)
