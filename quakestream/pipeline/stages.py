"""The stages as a worker runs them: a batch of cells read, scored, committed.

Workers import this and nothing that plans: their processes are there a second sooner.
"""

from dataclasses import dataclass

from quakestream.engines import Engine, open_engine
from quakestream.pipeline.assemble import Failure
from quakestream.pipeline.ledger import commit
from quakestream.pipeline.score import UnitResult
from quakestream.pipeline.tasks import WorkerSpec
from quakestream.storage import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """What the driver hears of a committed batch."""

    commit_key: str
    cells: int
    cells_failed: int
    windows: int
    """Windows, or crops."""
    km2: float
    buildings: int
    mpx: float
    read_s: float
    score_s: float
    failures: tuple[Failure, ...]


class Scorer:
    """An engine opened on this worker, its manifest, and where commits go."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.engine: Engine = open_engine(
            spec.bundle, runtime=spec.runtime, threads=spec.threads, batch=spec.batch
        )
        self.spec = spec.bundle.spec
        self._store = open_store(spec.ledger_uri, spec.options)

    def commit(self, results: list[UnitResult]) -> BatchReport:
        """Writes a scored batch and says what it held."""
        key = commit(self._store, results)
        return BatchReport(
            commit_key=key,
            cells=len(results),
            cells_failed=sum(not r.complete for r in results),
            windows=sum(r.windows for r in results),
            km2=sum(r.km2 for r in results),
            buildings=sum(len(r.building_F) for r in results),
            mpx=sum(r.mpx for r in results),
            read_s=sum(r.read_s for r in results),
            score_s=sum(r.score_s for r in results),
            failures=tuple(f for r in results for f in r.failures),
        )
