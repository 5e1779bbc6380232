"""Reads the windows of a bundle that scores pixels: what such kinds have in common."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Grid, Window
from quakestream.engines import Batch
from quakestream.pipeline.kinds.base import MemoryNeeds, read_failure, statistics_of
from quakestream.pipeline.kinds.units import Sizes, Unit
from quakestream.pipeline.work.quality import WindowPixels
from quakestream.pipeline.work.read import CellReads, around, groups_of
from quakestream.pipeline.work.results import Failure
from quakestream.pipeline.work.tasks import JobSpec, UnitTask
from quakestream.tiling import Lattice


class PixelKind:
    """Base of kinds that score the pixels of lattice windows."""

    def lattice(self, spec: BundleSpec, grid: Grid, cell_windows: int) -> Lattice:
        return Lattice(
            grid=grid, window_px=spec.window_px, halo_px=spec.halo_px, cell_windows=cell_windows
        )

    def shift_windows(
        self, unit: Unit, polygon_F: NDArray[np.object_], job: JobSpec
    ) -> list[Window]:
        """Cores of the unit's windows."""
        lattice = job.lattice(unit.cell)
        return [lattice.core(row, col) for row, col in unit.window_W2.tolist()]

    def requests(self, task: UnitTask, job: JobSpec) -> list[tuple[str, Window]]:
        return [
            (epoch, around(windows[n] for n in group))
            for epoch, windows in _epoch_windows(task, job).items()
            for group in groups_of(windows)
        ]


def window_sizes(spec: BundleSpec) -> Sizes:
    """What units of windows cost: an item to score and a window to read for each."""

    def sizes(window_W2: NDArray[np.int64], _: NDArray[np.int64]) -> tuple[int, int]:
        return len(window_W2), len(window_W2) * spec.window_px**2

    return sizes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadWindows:
    """The windows of a unit as they were read."""

    epochs: tuple[dict[str, WindowPixels] | None, ...]
    """Pixels by epoch for each window; None for a window that failed."""
    failures: tuple[Failure, ...]
    mpx: float
    """Pixels read now, millions: a window that another job has read costs nothing."""

    def batch(self, task: UnitTask, spec: BundleSpec) -> Batch:
        """The windows that could be read, as an engine takes them."""
        good = [epochs for epochs in self.epochs if epochs is not None]
        nothing = np.empty((0, len(spec.bands), spec.window_px, spec.window_px), spec.dtype)
        images = {
            epoch: np.stack([g[epoch].counts_BYX for g in good]) if good else nothing
            for epoch in task.scenes
        }
        return Batch(images=images, statistics=statistics_of(task, len(good), spec))


def read_windows(task: UnitTask, job: JobSpec, reads: CellReads) -> ReadWindows:
    """Reads the windows of each epoch."""
    pixels: dict[str, list[WindowPixels | Exception]] = {}
    size = 0
    for epoch, windows in _epoch_windows(task, job).items():
        pixels[epoch], count = reads.windows(task.scenes[epoch], task.cell.grid, windows)
        size += count
    epochs: list[dict[str, WindowPixels] | None] = []
    failures: list[Failure] = []
    for w, (row, col) in enumerate(task.window_W2.tolist()):
        of_epoch = {epoch: windows[w] for epoch, windows in pixels.items()}
        good = {epoch: p for epoch, p in of_epoch.items() if isinstance(p, WindowPixels)}
        if len(good) < len(of_epoch):
            failures.append(read_failure(task, row, col, of_epoch))
            epochs.append(None)
        else:
            epochs.append(good)
    return ReadWindows(epochs=tuple(epochs), failures=tuple(failures), mpx=size / 1e6)


def model_failures(task: UnitTask, cause: str) -> tuple[Failure, ...]:
    """A failure for each window of a unit that an engine failed on."""
    return tuple(
        Failure(row=row, col=col, kind="model_error", cause=cause, subject=task.cell.id)
        for row, col in task.window_W2.tolist()
    )


def window_memory(spec: BundleSpec, cell_windows: int) -> MemoryNeeds:
    """Memory of cells of windows: as they are read, and stacked for the engine."""
    bytes_per_px = len(spec.bands) * len(spec.epochs) * np.dtype(spec.dtype).itemsize + 8
    return MemoryNeeds(
        cell_bytes=cell_windows**2 * spec.window_px**2 * bytes_per_px,
        copies=2,
        stacked_bytes=0,
        engine_px=spec.window_px**2,
    )


def _epoch_windows(task: UnitTask, job: JobSpec) -> dict[str, list[Window]]:
    """The windows to read of each epoch; of pre, where it lies under the post image."""
    lattice = job.lattice(task.cell)
    windows = [lattice.window(row, col) for row, col in task.window_W2.tolist()]
    windows_of_epoch = {"post": windows}
    if task.pre is not None:
        windows_of_epoch["pre"] = [w.moved(s) for w, s in zip(windows, task.shifts, strict=True)]
    return windows_of_epoch
