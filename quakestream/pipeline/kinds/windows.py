"""Windows: a network scores the pixels of lattice windows, and pixels are summed per footprint."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Quality, Shift
from quakestream.engines import Batch, Engine
from quakestream.errors import QuakestreamError
from quakestream.pipeline.kinds.base import Kind, MemoryNeeds
from quakestream.pipeline.kinds.footprints import (
    FootprintKind,
    FootprintResult,
    FootprintSums,
    failures_of,
)
from quakestream.pipeline.kinds.units import LatticeOf, PlanInputs, Unit, grouped_units
from quakestream.pipeline.kinds.window_reading import (
    PixelKind,
    model_failures,
    read_windows,
    window_memory,
    window_sizes,
)
from quakestream.pipeline.work.quality import (
    WindowPixels,
    change,
    quality_counts,
    worst_quality,
)
from quakestream.pipeline.work.read import CellReads
from quakestream.pipeline.work.results import Failure
from quakestream.pipeline.work.tasks import JobSpec, UnitTask
from quakestream.raster.owners import Owners, find_owners
from quakestream.tiling import Lattice


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowKind(PixelKind, FootprintKind):
    """The kind of pixel models. A footprint belongs to every cell whose windows it touches."""

    name: str = "windows"
    tasks: tuple[str, ...] = ("segmentation",)
    footprint_s: float = 0.00007
    """Measured by `python -m benchmarks.capacity`."""

    def units(
        self, inputs: PlanInputs, spec: BundleSpec, lattice_of: LatticeOf
    ) -> tuple[Unit, ...]:
        units: list[Unit] = []
        for epsg, footprint_A, view_A in inputs.pairs_by_zone():
            lattice = lattice_of(epsg)
            touches = lattice.touches(shapely.bounds(inputs.polygon_N[footprint_A]))
            units.extend(grouped_units(view_A, footprint_A, touches, lattice, window_sizes(spec)))
        return tuple(units)

    def read(self, task: UnitTask, job: JobSpec, reads: CellReads) -> "CellWindows":
        began = time.perf_counter()
        windows = read_windows(task, job, reads)
        lattice, spec = job.lattice(task.cell), job.bundle.spec
        sums = WindowSums.empty(len(task.building_F))
        bounds_F4 = shapely.bounds(task.polygon_F)
        owners: list[NDArray[np.int32]] = []
        for w, (row, col) in enumerate(task.window_W2.tolist()):
            core = lattice.core(row, col)
            touching_T = _touching(bounds_F4, task.cell.grid.bounds(core))
            epochs = windows.epochs[w]
            if epochs is None:
                sums.failed_F[touching_T] = True
                continue
            own = find_owners(task.polygon_F[touching_T], touching_T, task.cell.grid, core)
            cut = {e: p.core(spec.halo_px, lattice.core_px) for e, p in epochs.items()}
            quality_YX = worst_quality(p.quality_YX for p in cut.values())
            owners.append(sums.add(own, quality_YX, cut, task.shifts[w]))
        return CellWindows(
            task=task,
            batch=windows.batch(task, spec),
            owner_NYX=np.stack(owners) if owners else _no_owners(lattice),
            sums=sums,
            failures=windows.failures,
            mpx=windows.mpx,
            seconds=time.perf_counter() - began,
        )

    def score(self, pixels: Any, engine: Engine, job: JobSpec) -> FootprintResult:
        """Sums over the pixels of each footprint. A failure is one of the whole unit."""
        began = time.perf_counter()
        windows: CellWindows = pixels
        task, footprints = windows.task, len(windows.task.building_F)
        sum_FC = np.zeros((footprints, len(job.bundle.spec.classes)), np.int64)
        failures: tuple[Failure, ...] = ()
        try:
            if len(windows.batch):
                sum_RC = engine.sums(windows.batch, windows.owner_NYX)
                sum_FC = windows.sums.per_footprint(sum_RC)
        except (QuakestreamError, MemoryError) as error:
            failures = model_failures(task, str(error))
        return FootprintResult(
            task=task,
            failures=(*windows.failures, *failures),
            quality_Q=windows.sums.quality_Q,
            mpx=windows.mpx,
            read_s=windows.seconds,
            score_s=time.perf_counter() - began,
            sums=windows.sums,
            sum_FC=sum_FC,
            failure_F=failures_of(windows.sums, range(footprints) if failures else ()),
        )

    def memory(self, spec: BundleSpec, cell_windows: int) -> MemoryNeeds:
        return window_memory(spec, cell_windows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellWindows:
    """A unit as its engine takes it."""

    task: UnitTask
    batch: Batch
    """The windows that could be read, N of them."""
    owner_NYX: NDArray[np.int32]
    """Region of each core pixel to be scored, -1 for none, numbered over the whole batch."""
    sums: "WindowSums"
    failures: tuple[Failure, ...]
    mpx: float
    seconds: float


@dataclass(slots=True)
class WindowSums(FootprintSums):
    """The sums of a unit's footprints while its windows are added."""

    regions: int = 0
    region_A: list[NDArray[np.int64]] = field(default_factory=list)
    footprint_A: list[NDArray[np.int64]] = field(default_factory=list)
    """Memberships per window: a region, and a footprint that it counts for."""

    def add(
        self,
        owners: Owners,
        quality_YX: NDArray[np.uint8],
        cores: dict[str, WindowPixels],
        shift: Shift,
    ) -> NDArray[np.int32]:
        """Adds the core of one window; returns the region of each pixel to be scored."""
        count = owners.regions
        owned_P = np.flatnonzero(owners.region_YX.reshape(-1) >= 0)
        region_P = owners.region_YX.reshape(-1)[owned_P]
        quality_P = quality_YX.reshape(-1)[owned_P]
        bin_P = region_P * len(Quality) + quality_P
        pixels_RQ = np.bincount(bin_P, minlength=count * len(Quality)).reshape(count, -1)
        valid_P = owned_P
        if quality_P.any():
            good_P = quality_P == Quality.VALID
            valid_P, region_P = owned_P[good_P], region_P[good_P]
        change_P = change(cores, valid_P)
        change_R = np.bincount(region_P, weights=change_P, minlength=count).astype(np.int64)
        np.add.at(self.pixels_FQ, owners.building_A, pixels_RQ[owners.region_A])
        np.add.at(self.change_F, owners.building_A, change_R[owners.region_A])
        self.quality_Q += quality_counts(quality_YX)
        self._keep_shift(owners, pixels_RQ.sum(axis=1), shift)
        self.region_A.append(owners.region_A + self.regions)
        self.footprint_A.append(owners.building_A)
        owner_YX = np.full(owners.region_YX.shape, -1, np.int32)
        owner_YX.reshape(-1)[valid_P] = region_P + self.regions
        self.regions += count
        return owner_YX

    def _keep_shift(self, owners: Owners, pixels_R: NDArray[np.int64], shift: Shift) -> None:
        here_F = np.zeros(len(self.shift_F), np.int64)
        np.add.at(here_F, owners.building_A, pixels_R[owners.region_A])
        for footprint in np.flatnonzero(here_F > self.shift_pixels_F):
            self.shift_F[footprint] = shift
            self.shift_pixels_F[footprint] = here_F[footprint]

    def per_footprint(self, sum_RC: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class sums per footprint from sums per region."""
        sum_FC = np.zeros((len(self.change_F), sum_RC.shape[1]), np.int64)
        for region_A, footprint_A in zip(self.region_A, self.footprint_A, strict=True):
            known = region_A < len(sum_RC)  # trailing regions without a valid pixel have no sum
            np.add.at(sum_FC, footprint_A[known], sum_RC[region_A[known]])
        return sum_FC


def _touching(
    bounds_F4: NDArray[np.float64], box: tuple[float, float, float, float]
) -> NDArray[np.int64]:
    west, south, east, north = box
    return np.flatnonzero(
        (bounds_F4[:, 0] <= east)
        & (bounds_F4[:, 2] >= west)
        & (bounds_F4[:, 1] <= north)
        & (bounds_F4[:, 3] >= south)
    )


def _no_owners(lattice: Lattice) -> NDArray[np.int32]:
    return np.empty((0, lattice.core_px, lattice.core_px), np.int32)


_: type[Kind] = WindowKind
