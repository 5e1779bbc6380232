"""The read stage: a cell's windows or crops of each epoch, opened and read on a worker."""

import time
from typing import Self

import numpy as np

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import ReadError, SceneError
from quakestream.pipeline.assemble import UnitPixels, assemble
from quakestream.pipeline.crops import CropPixels, around, crop_reads, read_crops
from quakestream.pipeline.scenes import OpenScenes, OpenSource, opener
from quakestream.pipeline.seen import Seen, see
from quakestream.pipeline.tasks import SceneTask, UnitTask, WorkerSpec
from quakestream.raster.source import Pixels
from quakestream.tiling import crop_groups

SPARE = 1.25
"""Windows are read as one while the window around them holds at most this many times their
pixels: of a cell with few buildings only the corners that hold them are read."""


class Reader:
    """Reads cells on one worker; keeps the scenes it read last open.

    Used by one thread. The readers of a process share block indices, decoded blocks and bytes
    on their way, so that any of them may ask ahead for what another will read.
    """

    def __init__(self, spec: WorkerSpec, open_source: OpenSource | None = None) -> None:
        self._spec = spec
        self._scenes = OpenScenes(open_source or opener(spec))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scenes.close()

    def read(self, task: UnitTask) -> UnitPixels | CropPixels:
        """Reads one cell. What cannot be read becomes failures, never an exception."""
        began = time.perf_counter()
        if self._spec.bundle.spec.task == "building":
            return read_crops(task, self._spec.bundle.spec, self._scenes, began)
        epochs = {
            epoch: self._epoch(task.scenes[epoch], task.cell.grid, windows)
            for epoch, windows in self._windows(task).items()
        }
        return assemble(task, self._spec, epochs, began)

    def prefetch(self, *tasks: UnitTask) -> None:
        """Asks for the bytes of cells that will be read soon, and returns at once.

        Does nothing for files of this machine, for scenes this reader has not open yet, and
        where too much is on its way already. What fails is told when the cell is read.
        """
        wanted: dict[tuple[str, Grid], tuple[Scene, list[Window]]] = {}
        for task in tasks:
            grid = task.cell.grid
            for epoch, window in self._outer(task):
                scene = task.scenes[epoch].scene
                wanted.setdefault((scene.href, grid), (scene, []))[1].append(window)
        for (_, grid), (scene, windows) in wanted.items():
            self._scenes.prefetch(scene, grid, *windows)

    def _outer(self, task: UnitTask) -> list[tuple[str, Window]]:
        """What is read at once of each epoch."""
        if self._spec.bundle.spec.task == "building":
            return crop_reads(task, self._spec.bundle.spec.window_px)
        return [
            (epoch, around([windows[n] for n in group]))
            for epoch, windows in self._windows(task).items()
            for group in _together(windows)
        ]

    def _windows(self, task: UnitTask) -> dict[str, list[Window]]:
        """What is read of each epoch; of pre where it lies under the post image."""
        lattice = self._spec.lattice(task.cell)
        windows = [lattice.window(int(r), int(c)) for r, c in task.window_W2]
        found = {"post": windows}
        if task.pre is not None:
            found["pre"] = [w.moved(s) for w, s in zip(windows, task.shift_W, strict=True)]
        return found

    def _epoch(self, scene: SceneTask, grid: Grid, windows: list[Window]) -> list[Seen | Exception]:
        """One epoch's windows with their quality; an exception where one cannot be read."""
        try:
            whole = self._scenes.seamless(scene.scene, grid)
        except (SceneError, OSError) as error:
            return [error] * len(windows)
        if not whole:
            return [self._alone(scene, grid, w) for w in windows]
        seen: dict[int, Seen | Exception] = {}
        for group in _together(windows):
            found = self._as_one(scene, grid, [windows[n] for n in group])
            seen |= zip(group, found, strict=True)
        return [seen[n] for n in range(len(windows))]

    def _as_one(
        self, scene: SceneTask, grid: Grid, windows: list[Window]
    ) -> list[Seen | Exception]:
        """Windows of a seamless scene: parts of one array."""
        outer = around(windows)
        try:
            pixels = self._scenes.read(scene.scene, grid, outer)
        except ReadError:  # some block is bad: find out which windows can do without it
            return [self._alone(scene, grid, w) for w in windows]
        except (SceneError, OSError) as error:
            return [error] * len(windows)
        return [see(_part(pixels, outer, w), scene, grid, w) for w in windows]

    def _alone(self, scene: SceneTask, grid: Grid, window: Window) -> Seen | Exception:
        got = self._scenes.attempt(scene.scene, grid, window)
        return got if isinstance(got, Exception) else see(got, scene, grid, window)


def _together(windows: list[Window]) -> list[list[int]]:
    """Windows of one size by place, grouped as they are read."""
    corner_W2 = np.array([(w.row, w.col) for w in windows], np.int64)
    return [group.tolist() for group in crop_groups(corner_W2, windows[0].height, SPARE)]


def _part(pixels: Pixels, outer: Window, window: Window) -> Pixels:
    rows, cols = window.slices_in(outer)
    return Pixels(counts_BYX=pixels.counts_BYX[:, rows, cols], valid_YX=pixels.valid_YX[rows, cols])
