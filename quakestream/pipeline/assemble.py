"""From windows of pixels to what an engine takes, and the sums that need no engine."""

import time
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.domain import Quality, Shift
from quakestream.engines import Batch
from quakestream.pipeline.seen import Seen, change, counted, worst
from quakestream.pipeline.tasks import UnitTask, WorkerSpec
from quakestream.raster.owners import Owners, find_owners
from quakestream.tiling import Lattice


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One window or crop of a cell that could not be read or scored."""

    row: int
    col: int
    """Of a window on its lattice, of a crop's upper left pixel on the grid."""
    kind: str
    """`read_error` or `model_error`."""
    cause: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitPixels:
    """A cell as the engine takes it."""

    task: UnitTask
    batch: Batch
    """The windows that could be read, N of them."""
    owner_NYX: NDArray[np.int32]
    """Region of each core pixel to be scored, -1 for none, numbered over the whole batch."""
    sums: "UnitSums"
    failures: tuple[Failure, ...]
    mpx: float
    """Pixels of all epochs' windows, millions."""
    seconds: float


@dataclass(slots=True)
class FootprintSums:
    """Integer sums of a cell's F footprints that need no engine."""

    pixels_FQ: NDArray[np.int64]
    change_F: NDArray[np.int64]
    shift_F: list[Shift]
    """Shift of the crop, or of the window that holds most of a footprint."""
    shift_pixels_F: NDArray[np.int64]
    """How much of the footprint that window or crop holds, pixels."""
    failed_F: NDArray[np.bool_]
    """True for footprints with a part in a window or crop that failed."""
    quality_Q: NDArray[np.int64]

    @classmethod
    def of(cls, footprints: int) -> Self:
        return cls(
            pixels_FQ=np.zeros((footprints, len(Quality)), np.int64),
            change_F=np.zeros(footprints, np.int64),
            shift_F=[Shift()] * footprints,
            shift_pixels_F=np.zeros(footprints, np.int64),
            failed_F=np.zeros(footprints, np.bool_),
            quality_Q=np.zeros(len(Quality), np.int64),
        )


@dataclass(slots=True)
class UnitSums(FootprintSums):
    """The sums while a cell's windows are added."""

    regions: int = 0
    region_P: list[NDArray[np.int64]] = field(default_factory=list)
    footprint_P: list[NDArray[np.int64]] = field(default_factory=list)
    """Memberships per window: region, and the footprint it counts for."""

    def add(
        self,
        owners: Owners,
        quality_YX: NDArray[np.uint8],
        cores: dict[str, Seen],
        shift: Shift,
    ) -> NDArray[np.int32]:
        """Adds one window's core; returns the owner of each pixel to be scored."""
        count = owners.regions
        owned_P = np.flatnonzero(owners.region_YX.reshape(-1) >= 0)
        region_P = owners.region_YX.reshape(-1)[owned_P]
        quality_P = quality_YX.reshape(-1)[owned_P]
        kind_P = region_P * len(Quality) + quality_P
        pixels_RQ = np.bincount(kind_P, minlength=count * len(Quality)).reshape(count, -1)
        valid_P = owned_P
        if quality_P.any():
            seen_P = quality_P == Quality.VALID
            valid_P, region_P = owned_P[seen_P], region_P[seen_P]
        change_P = change(cores, valid_P)
        change_R = np.bincount(region_P, weights=change_P, minlength=count).astype(np.int64)
        np.add.at(self.pixels_FQ, owners.building_M, pixels_RQ[owners.region_M])
        np.add.at(self.change_F, owners.building_M, change_R[owners.region_M])
        self.quality_Q += counted(quality_YX)
        self._keep_shift(owners, pixels_RQ.sum(axis=1), shift)
        self.region_P.append(owners.region_M + self.regions)
        self.footprint_P.append(owners.building_M)
        owner_YX = np.full(owners.region_YX.shape, -1, np.int32)
        owner_YX.reshape(-1)[valid_P] = region_P + self.regions
        self.regions += count
        return owner_YX

    def _keep_shift(self, owners: Owners, pixels_R: NDArray[np.int64], shift: Shift) -> None:
        here_F = np.zeros(len(self.shift_F), np.int64)
        np.add.at(here_F, owners.building_M, pixels_R[owners.region_M])
        for footprint in np.flatnonzero(here_F > self.shift_pixels_F):
            self.shift_F[footprint] = shift
            self.shift_pixels_F[footprint] = here_F[footprint]

    def per_footprint(self, sum_RC: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class sums per footprint from sums per region."""
        sum_FC = np.zeros((len(self.change_F), sum_RC.shape[1]), np.int64)
        for region_M, footprint_M in zip(self.region_P, self.footprint_P, strict=True):
            known = region_M < len(sum_RC)  # trailing regions without a valid pixel have no sum
            np.add.at(sum_FC, footprint_M[known], sum_RC[region_M[known]])
        return sum_FC


def assemble(
    task: UnitTask, spec: WorkerSpec, epochs: dict[str, list[Seen | Exception]], began: float
) -> UnitPixels:
    """Sorts out what failed, and sums and stacks the rest, window by window."""
    lattice, halo = spec.lattice(task.cell), spec.bundle.spec.halo_px
    sums = UnitSums.of(len(task.building_F))
    bounds_F4 = shapely.bounds(task.polygon_F)
    good: list[dict[str, Seen]] = []
    owners: list[NDArray[np.int32]] = []
    failures: list[Failure] = []
    for w, (row, col) in enumerate(task.window_W2.tolist()):
        touching_T = _touching(bounds_F4, task.cell.grid.bounds(lattice.core(row, col)))
        seen = {epoch: windows[w] for epoch, windows in epochs.items()}
        read = {epoch: s for epoch, s in seen.items() if isinstance(s, Seen)}
        if len(read) < len(seen):
            failures.append(read_failure(task, row, col, dict(seen)))
            sums.failed_F[touching_T] = True
            continue
        own = find_owners(
            task.polygon_F[touching_T], touching_T, task.cell.grid, lattice.core(row, col)
        )
        core = slice(halo, halo + lattice.core_px)
        cut = {e: _cut(s, core) for e, s in read.items()}
        quality_YX = worst(s.quality_YX for s in cut.values())
        owners.append(sums.add(own, quality_YX, cut, task.shift_W[w]))
        good.append(read)
    return UnitPixels(
        task=task,
        batch=_batch(task, good, spec.bundle.spec.window_px),
        owner_NYX=np.stack(owners) if owners else _no_owners(lattice),
        sums=sums,
        failures=tuple(failures),
        mpx=len(good) * len(epochs) * spec.bundle.spec.window_px**2 / 1e6,
        seconds=time.perf_counter() - began,
    )


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


def read_failure(task: UnitTask, row: int, col: int, epochs: dict[str, object]) -> Failure:
    """The failure of a window or crop of which an epoch is an exception."""
    epoch, error = next((e, s) for e, s in epochs.items() if isinstance(s, Exception))
    scene = task.pre.scene if epoch == "pre" and task.pre else task.post.scene
    return Failure(row=row, col=col, kind="read_error", cause=str(error), subject=scene.id)


def _cut(seen: Seen, core: slice) -> Seen:
    return Seen(counts_BYX=seen.counts_BYX[:, core, core], quality_YX=seen.quality_YX[core, core])


def _batch(task: UnitTask, good: list[dict[str, Seen]], window_px: int) -> Batch:
    images = {
        epoch: np.stack([g[epoch].counts_BYX for g in good])
        if good
        else np.empty((0, 3, window_px, window_px), np.uint8)
        for epoch in task.scenes
    }
    return Batch(images=images, statistics=statistics_of(task, len(good)))


def statistics_of(task: UnitTask, windows: int) -> dict[str, NDArray[np.float32]]:
    """Scene statistics as a graph takes them: the same for every window of a cell."""
    statistics = {}
    for epoch, scene in task.scenes.items():
        for name, value_B in (
            ("mean", scene.statistics.mean_B),
            ("std", scene.statistics.std_B),
        ):
            row_1B = np.array([value_B], np.float32)
            statistics[f"{epoch}_{name}_NB"] = np.repeat(row_1B, windows, axis=0)
    return statistics


def _no_owners(lattice: Lattice) -> NDArray[np.int32]:
    return np.empty((0, lattice.core_px, lattice.core_px), np.int32)
