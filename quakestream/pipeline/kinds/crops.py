"""Crops: a network scores a square of ground around each footprint, with its hazard values."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Grid, Quality, Window
from quakestream.engines import PIXELS_AT_ONCE, Engine, crop_shares
from quakestream.errors import QuakestreamError
from quakestream.pipeline.kinds.base import Kind, MemoryNeeds
from quakestream.pipeline.kinds.crop_reading import (
    CHUNK_PX,
    CellCrops,
    crop_requests,
    read_crops,
)
from quakestream.pipeline.kinds.footprints import FootprintKind, FootprintResult, failures_of
from quakestream.pipeline.kinds.units import LatticeOf, PlanInputs, Unit, grouped_units
from quakestream.pipeline.work.read import CellReads
from quakestream.pipeline.work.results import Failure
from quakestream.pipeline.work.tasks import JobSpec, UnitTask
from quakestream.tiling import (
    Lattice,
    WindowTouches,
    around,
    crop_corners,
    crop_groups,
    crop_windows,
)

LATTICE_PX = 512
"""Side of the squares that make up a cell. They only decide which crops are worked on together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CropKind(FootprintKind):
    """The kind of building models. A footprint belongs to the cell that holds its crop's middle."""

    name: str = "crops"
    tasks: tuple[str, ...] = ("building",)
    footprint_s: float = 0.0007
    """Measured by `python -m benchmarks.capacity`."""

    def lattice(self, spec: BundleSpec, grid: Grid, cell_windows: int) -> Lattice:
        return Lattice(grid=grid, window_px=LATTICE_PX, halo_px=0, cell_windows=cell_windows)

    def units(
        self, inputs: PlanInputs, spec: BundleSpec, lattice_of: LatticeOf
    ) -> tuple[Unit, ...]:
        units: list[Unit] = []
        for epsg, footprint_A, view_A in inputs.pairs_by_zone():
            lattice = lattice_of(epsg)
            bounds_A4 = shapely.bounds(inputs.polygon_N[footprint_A])
            corner_A2 = crop_corners(bounds_A4, lattice.grid, spec.window_px)
            sizes = _CropSizes(corner_A2=corner_A2, side_px=spec.window_px)
            middles = _middles(corner_A2, spec.window_px, lattice)
            units.extend(grouped_units(view_A, footprint_A, middles, lattice, sizes))
        return tuple(units)

    def shift_windows(
        self, unit: Unit, polygon_F: NDArray[np.object_], job: JobSpec
    ) -> list[Window]:
        return crop_windows(shapely.bounds(polygon_F), unit.cell.grid, job.bundle.spec.window_px)

    def requests(self, task: UnitTask, job: JobSpec) -> list[tuple[str, Window]]:
        return crop_requests(task, job.bundle.spec.window_px)

    def read(self, task: UnitTask, job: JobSpec, reads: CellReads) -> CellCrops:
        return read_crops(task, job.bundle.spec.window_px, reads.scenes)

    def score(self, pixels: Any, engine: Engine, job: JobSpec) -> FootprintResult:
        """Scores crops by this rule: a crop's probabilities, as whole numbers (p × 65535,
        rounded), count once for every valid pixel of its footprint.

        Sums of several views then add up exactly. Each view weighs by the pixels of the
        footprint that it showed, and the share of the total is the probability, as for windows.
        """
        began = time.perf_counter()
        crops: CellCrops = pixels
        scores = _CropScores.empty(crops, job.bundle.spec)
        size = crops.chunk
        todo = [(n, min(n + size, len(crops))) for n in range(0, len(crops), size)]
        while todo:
            start, stop = todo.pop(0)
            try:
                scores.add((start, stop), engine)
            except (QuakestreamError, MemoryError) as error:
                if stop - start > 1:  # failures must not depend on what else was in the cell
                    todo += [(n, n + 1) for n in range(start, stop)]
                else:
                    scores.fail(start, str(error))
        return FootprintResult(
            task=crops.task,
            failures=(*crops.failures, *scores.failures),
            quality_Q=crops.sums.quality_Q,
            mpx=crops.mpx,
            read_s=crops.seconds,
            score_s=time.perf_counter() - began,
            sums=crops.sums,
            sum_FC=scores.sum_FC,
            failure_F=failures_of(crops.sums, scores.failed),
        )

    def memory(self, spec: BundleSpec, cell_windows: int) -> MemoryNeeds:
        """Crops are slices of windows that together are no larger than the cell with half a
        crop around it, however many buildings stand there."""
        bytes_per_px = len(spec.bands) * len(spec.epochs) + 8
        return MemoryNeeds(
            cell_bytes=(cell_windows * LATTICE_PX + spec.window_px) ** 2 * bytes_per_px,
            copies=1,  # crops are stacked a few at a time
            stacked_bytes=CHUNK_PX * len(spec.bands) * len(spec.epochs),
            engine_px=max(spec.window_px**2, PIXELS_AT_ONCE),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _CropSizes:
    """What a unit of crops costs: its crops, and the pixels of the windows they are read in."""

    corner_A2: NDArray[np.int64]
    side_px: int

    def __call__(self, window_W2: NDArray[np.int64], pair_T: NDArray[np.int64]) -> tuple[int, int]:
        corner_N2, side = self.corner_A2[pair_T], self.side_px
        windows = [around(corner_N2[group], side) for group in crop_groups(corner_N2, side)]
        return len(pair_T), sum(window.height * window.width for window in windows)


def _middles(corner_A2: NDArray[np.int64], side_px: int, lattice: Lattice) -> WindowTouches:
    """The one window of the lattice that holds the middle pixel of each crop."""
    middle_A2 = (corner_A2 + side_px // 2) // lattice.core_px
    return WindowTouches(
        item_T=np.arange(len(corner_A2)), row_T=middle_A2[:, 0], col_T=middle_A2[:, 1]
    )


@dataclass(slots=True)
class _CropScores:
    """The sums of a unit's crops while chunks are scored."""

    crops: CellCrops
    spec: BundleSpec
    sum_FC: NDArray[np.int64]
    failed: list[int] = field(default_factory=list)
    """Footprints that the engine failed on."""
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def empty(cls, crops: CellCrops, spec: BundleSpec) -> "_CropScores":
        shape = (len(crops.task.building_F), len(spec.classes))
        return cls(crops=crops, spec=spec, sum_FC=np.zeros(shape, np.int64))

    def add(self, span: tuple[int, int], engine: Engine) -> None:
        """Scores crops start..stop; a crop without a finite score fails."""
        logits_NK = engine.score(self.crops.batch(*span))
        finite_N = np.asarray(np.isfinite(logits_NK).all(axis=1))
        share_NC = crop_shares(np.where(finite_N[:, None], logits_NK, 0), self.spec)
        for n, crop in enumerate(self.crops.crops[slice(*span)]):
            if finite_N[n]:
                valid = self.crops.sums.pixels_FQ[crop.footprint, Quality.VALID]
                self.sum_FC[crop.footprint] = share_NC[n] * valid
            else:
                self.fail(span[0] + n, f"{engine.name} gave no finite score")

    def fail(self, place: int, cause: str) -> None:
        crop, cell = self.crops.crops[place], self.crops.task.cell
        _, window = crop.windows["post"]
        self.failed.append(crop.footprint)
        self.failures.append(
            Failure(
                row=window.row, col=window.col, kind="model_error", cause=cause, subject=cell.id
            )
        )


_: type[Kind] = CropKind
