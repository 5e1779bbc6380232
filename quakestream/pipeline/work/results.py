"""What a unit becomes once it is read and scored."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.events import WorkerTime
from quakestream.pipeline.work.tasks import UnitTask
from quakestream.redaction import redacted


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One window or crop of a unit that could not be read or scored."""

    row: int
    col: int
    """Of a window on its lattice; of a crop's upper left pixel on the grid."""
    kind: str
    """`read_error` or `model_error`."""
    cause: str
    subject: str
    """Id of the scene or cell that failed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cause", redacted(self.cause))

    retryable: bool = True
    """False where the same file is there at the next try: a file of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitResult:
    """One unit, read and scored: small, and all that is kept of its pixels."""

    task: UnitTask
    failures: tuple[Failure, ...]
    quality_Q: NDArray[np.int64]
    """Pixels of the cores, or crops, per `Quality`."""
    mpx: float
    """Pixels read for the unit, all epochs, millions."""
    read_s: float
    score_s: float

    @property
    def complete(self) -> bool:
        return not self.failures

    @property
    def windows(self) -> int:
        """Windows, or crops."""
        return len(self.task.shifts)

    @property
    def shift_m(self) -> float:
        """Median shift of the unit's windows or crops, metres."""
        gsd_m = self.task.cell.gsd_m
        return float(np.median([s.metres(gsd_m) for s in self.task.shifts]))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupReport:
    """What the driver learns of a committed group."""

    commits: tuple[tuple[int, str], ...]
    """Job index and key of each commit object."""
    keys: tuple[str, ...]
    """Keys of the units."""
    units: int
    """Units: cells, once for each view and job."""
    units_failed: int
    """Units with a window or crop that failed."""
    windows: int
    """Windows, or crops."""
    km2: float
    """Ground that was scored, once however many jobs score it."""

    mpx: float
    read_s: float
    score_s: float
    failures: tuple[Failure, ...]
    spent: WorkerTime
