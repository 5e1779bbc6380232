"""The seam for what is scored: a kind owns its steps from the plan's inputs to its products.

To add a kind, write one file here and a row in `kinds/table.py`. docs/extending.md shows how.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Grid, Window
from quakestream.engines import Engine
from quakestream.errors import TileReadError
from quakestream.pipeline.kinds.units import LatticeOf, PlanInputs, Unit
from quakestream.pipeline.work.read import CellReads
from quakestream.pipeline.work.results import Failure, UnitResult
from quakestream.pipeline.work.tasks import JobSpec, UnitTask
from quakestream.storage import Store, is_remote
from quakestream.tiling import Lattice

if TYPE_CHECKING:
    from quakestream.pipeline.result.context import KindProducts, RunContext


class CellPixels(Protocol):
    """One unit as it was read, ready for its engine."""

    @property
    def task(self) -> UnitTask: ...

    @property
    def failures(self) -> tuple[Failure, ...]: ...

    @property
    def mpx(self) -> float:
        """Pixels that were read for it, all epochs, millions."""
        ...

    @property
    def seconds(self) -> float:
        """Time that reading took on its thread."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeeds:
    """Memory that one job's cells take on a worker."""

    cell_bytes: int
    """A cell of pixels while it is read, waits and is scored."""
    copies: int
    """How often a reader holds those pixels at its peak."""
    stacked_bytes: int
    """What is stacked for the engine at a time, beside the cells."""
    engine_px: int
    """Pixels an engine works on at a time."""


class Kind(Protocol):
    """What is scored and reduced alike. A small picklable value without state."""

    @property
    def name(self) -> str:
        """For keys and messages: `windows`, `crops`, `rasters`."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the bundles that it works with."""
        ...

    @property
    def key(self) -> str:
        """Part of the keys of units; empty for the kinds whose tallies one model gives alike."""
        ...

    @property
    def footprint_s(self) -> float:
        """CPU seconds for each footprint of a cell, besides pixels."""
        ...

    def lattice(self, spec: BundleSpec, grid: Grid, cell_windows: int) -> Lattice:
        """The lattice of windows that cells of this kind consist of."""
        ...

    def units(
        self, inputs: PlanInputs, spec: BundleSpec, lattice_of: LatticeOf
    ) -> tuple[Unit, ...]:
        """Units in an order that reads each scene from top to bottom."""
        ...

    def shift_windows(
        self, unit: Unit, polygon_F: NDArray[np.object_], job: JobSpec
    ) -> list[Window]:
        """Where the pair's shift is looked up: one window for each window or crop."""
        ...

    def requests(self, task: UnitTask, job: JobSpec) -> list[tuple[str, Window]]:
        """Windows that `read` will read at once of seamless scenes, with the epoch of each."""
        ...

    def read(self, task: UnitTask, job: JobSpec, reads: CellReads) -> CellPixels:
        """Reads one unit. What cannot be read becomes failures, never an exception."""
        ...

    def score(self, pixels: Any, engine: Engine, job: JobSpec) -> UnitResult:
        """Scores what `read` gave. An engine's failure becomes failures, never an exception."""
        ...

    @property
    def commits(self) -> str:
        """Prefix of this kind's commit objects in the ledger."""
        ...

    def rows(self, results: list[Any]) -> pa.Table:
        """Rows to commit; the column `cell` is the index of the result."""
        ...

    def memory(self, spec: BundleSpec, cell_windows: int) -> MemoryNeeds: ...

    def publish(
        self, store: Store, commits: Iterable[str], keys: set[str], context: "RunContext"
    ) -> "KindProducts":
        """Reduces the commits of a job and makes its products.

        Args:
            store: the run's output.
            commits: keys of the commit objects of this kind.
            keys: keys of the job's units.
            context: the plan, hazard values and failed views.
        """
        ...


def read_failure(task: UnitTask, row: int, col: int, epochs: Mapping[str, object]) -> Failure:
    """The failure of a window or crop of which an epoch is an exception."""
    epoch, error = next((e, s) for e, s in epochs.items() if isinstance(s, Exception))
    tile = error.where if isinstance(error, TileReadError) else ""
    scene = task.scenes[epoch].scene
    return Failure(
        row=row,
        col=col,
        kind="read_error",
        cause=str(error),
        subject=tile or scene.id,
        retryable=is_remote(scene.href),
    )


def statistics_of(
    task: UnitTask, items: int, spec: BundleSpec | None = None
) -> dict[str, NDArray[np.float32]]:
    """Scene statistics as a graph takes them, the same for every window or crop of a unit.

    Args:
        spec: the bundle; nothing for one of fixed normalisation. None: it takes statistics.
    """
    if spec is not None and spec.normalisation != "per_scene":
        return {}
    statistics = {}
    for epoch, scene in task.scenes.items():
        for name, value_B in (
            ("mean", scene.statistics.mean_B),
            ("std", scene.statistics.std_B),
        ):
            row_1B = np.array([value_B], np.float32)
            statistics[f"{epoch}_{name}_NB"] = np.repeat(row_1B, items, axis=0)
    return statistics
