"""The read stage: a cell's windows or crops of each epoch, opened and read on a worker."""

import time
from typing import Self

from quakestream.domain import Grid, Window
from quakestream.errors import ReadError, SceneError
from quakestream.pipeline.assemble import UnitPixels, assemble
from quakestream.pipeline.crops import CropPixels, read_crops
from quakestream.pipeline.scenes import OpenScenes, OpenSource, opener
from quakestream.pipeline.seen import Seen, see
from quakestream.pipeline.tasks import SceneTask, UnitTask, WorkerSpec
from quakestream.raster.source import Pixels


class Reader:
    """Reads cells on one worker; keeps the scenes it read last open."""

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
        lattice = self._spec.lattice(task.cell)
        windows = [lattice.window(int(r), int(c)) for r, c in task.window_W2]
        post = self._epoch(task.post, task.cell.grid, windows)
        epochs = {"post": post}
        if task.pre is not None:
            moved = [w.moved(s) for w, s in zip(windows, task.shift_W, strict=True)]
            epochs["pre"] = self._epoch(task.pre, task.cell.grid, moved)
        return assemble(task, self._spec, epochs, began)

    def _epoch(self, scene: SceneTask, grid: Grid, windows: list[Window]) -> list[Seen | Exception]:
        """One epoch's windows with their quality; an exception where one cannot be read."""
        try:
            if self._scenes.seamless(scene.scene, grid):
                outer = windows[0]
                for window in windows[1:]:
                    outer = outer.union(window)
                pixels = self._scenes.read(scene.scene, grid, outer)
                return [see(_part(pixels, outer, w), scene, grid, w) for w in windows]
        except ReadError:
            pass  # some block is bad: find out which windows can do without it
        except (SceneError, OSError) as error:
            return [error] * len(windows)
        return [self._alone(scene, grid, w) for w in windows]

    def _alone(self, scene: SceneTask, grid: Grid, window: Window) -> Seen | Exception:
        got = self._scenes.attempt(scene.scene, grid, window)
        return got if isinstance(got, Exception) else see(got, scene, grid, window)


def _part(pixels: Pixels, outer: Window, window: Window) -> Pixels:
    rows, cols = window.slices_in(outer)
    return Pixels(counts_BYX=pixels.counts_BYX[:, rows, cols], valid_YX=pixels.valid_YX[rows, cols])
