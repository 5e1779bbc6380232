"""The read stage: a cell's windows of each epoch, opened and read on a worker."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

import numpy as np
import pyproj
from numpy.typing import NDArray

from quakestream.domain import Grid, Quality, Scene, Window
from quakestream.errors import ReadError, SceneError
from quakestream.pipeline.assemble import Seen, UnitPixels, assemble
from quakestream.pipeline.tasks import SceneTask, UnitTask, WorkerSpec
from quakestream.raster.masks import saturated
from quakestream.raster.source import Pixels, RasterioSource, RasterSource
from quakestream.raster.tiles import tile_source_factory

OpenSource = Callable[[Scene, Grid], RasterSource]
ATTEMPTS = 2
SLOW_S = 1.0
STALL_S = 15
"""A scene whose failed reads, those of over a second, took this long in all is not asked
again by this worker: its server stalls, and would hold the run for hours."""
OPEN_SCENES = 8
QUALITY_STEP_PX = 8
"""Coarse cloud masks are looked up every so many pixels; a lattice core starts on a multiple."""


class Reader:
    """Reads cells on one worker; keeps the scenes it read last open."""

    def __init__(self, spec: WorkerSpec, open_source: OpenSource | None = None) -> None:
        self._spec = spec
        self._open = open_source or _opener(spec)
        self._sources: OrderedDict[tuple[str, Grid], tuple[RasterSource, ExitStack]] = OrderedDict()
        self._lost_s: Counter[str] = Counter()
        self._stalled: dict[str, Exception] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._sources:
            self._sources.popitem()[1][1].close()

    def read(self, task: UnitTask) -> UnitPixels:
        """Reads one cell. What cannot be read becomes failures, never an exception."""
        began = time.perf_counter()
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
            if self._source(scene.scene, grid).seamless:
                outer = windows[0]
                for window in windows[1:]:
                    outer = outer.union(window)
                pixels = self._read(scene.scene, grid, outer)
                return [_seen(_part(pixels, outer, w), scene, grid, w) for w in windows]
        except ReadError:
            pass  # some block is bad: find out which windows can do without it
        except (SceneError, OSError) as error:
            return [error] * len(windows)
        return [self._alone(scene, grid, w) for w in windows]

    def _alone(self, scene: SceneTask, grid: Grid, window: Window) -> Seen | Exception:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _seen(self._read(scene.scene, grid, window), scene, grid, window)
            except (SceneError, OSError) as error:
                failure = error
                if attempt < ATTEMPTS and scene.scene.href not in self._stalled:
                    self._forget(scene.scene, grid)
        return failure

    def _read(self, scene: Scene, grid: Grid, window: Window) -> Pixels:
        """A window; the same error at once where the scene's server has stalled before."""
        if scene.href in self._stalled:
            raise self._stalled[scene.href]
        began = time.monotonic()
        try:
            return self._source(scene, grid).read(window)
        except (SceneError, OSError) as error:
            took_s = time.monotonic() - began
            self._lost_s[scene.href] += round(took_s) if took_s > SLOW_S else 0
            if self._lost_s[scene.href] >= STALL_S:
                self._stalled[scene.href] = error
            raise

    def _source(self, scene: Scene, grid: Grid) -> RasterSource:
        key = (scene.href, grid)
        if key not in self._sources:
            while len(self._sources) >= OPEN_SCENES:
                self._sources.popitem(last=False)[1][1].close()
            stack = ExitStack()
            self._sources[key] = (stack.enter_context(self._open(scene, grid)), stack)
        self._sources.move_to_end(key)
        return self._sources[key][0]

    def _forget(self, scene: Scene, grid: Grid) -> None:
        if found := self._sources.pop((scene.href, grid), None):
            found[1].close()


def _opener(spec: WorkerSpec) -> OpenSource:
    """The tile store's reader where a run has one, else GDAL's."""
    if spec.tile_store is not None:
        return tile_source_factory(spec.tile_store, spec.options)
    return lambda scene, grid: RasterioSource(scene, grid, spec.options)


def _part(pixels: Pixels, outer: Window, window: Window) -> Pixels:
    rows, cols = window.slices_in(outer)
    return Pixels(counts_BYX=pixels.counts_BYX[:, rows, cols], valid_YX=pixels.valid_YX[rows, cols])


def _seen(pixels: Pixels, scene: SceneTask, grid: Grid, window: Window) -> Seen:
    """Quality of a window; what was not seen is given the scene's mean colour, so that
    a normalised network sees zero there, as at the edge of its training chips."""
    quality_YX = np.zeros(window.shape, np.uint8)
    quality_YX[saturated(pixels.counts_BYX)] = Quality.SATURATED
    if not scene.quality.clear:
        hidden_YX = _coarse(scene, grid, window)
        quality_YX = np.where(hidden_YX > 0, hidden_YX, quality_YX)
    quality_YX[~pixels.valid_YX] = Quality.NODATA
    counts_BYX = pixels.counts_BYX
    if not pixels.valid_YX.all():
        mean_B = np.rint(np.array(scene.statistics.mean_B)).astype(np.uint8)
        counts_BYX = np.where(pixels.valid_YX, counts_BYX, mean_B[:, None, None])
    return Seen(counts_BYX=counts_BYX, quality_YX=quality_YX)


def _coarse(scene: SceneTask, grid: Grid, window: Window) -> NDArray[np.uint8]:
    """Cloud and snow of a window, looked up on a sub-lattice fixed to the grid."""
    step = QUALITY_STEP_PX
    row_R = np.arange(window.row // step, (window.row_end - 1) // step + 1)
    col_C = np.arange(window.col // step, (window.col_end - 1) // step + 1)
    col_RC, row_RC = np.meshgrid((col_C + 0.5) * step, (row_R + 0.5) * step)
    x_RC = grid.transform.c + col_RC * grid.gsd_m
    y_RC = grid.transform.f - row_RC * grid.gsd_m
    if scene.scene.crs_wkt:
        crs = pyproj.CRS.from_user_input(scene.scene.crs_wkt)
        if crs != pyproj.CRS.from_epsg(grid.epsg):
            project = pyproj.Transformer.from_crs(grid.epsg, crs, always_xy=True)
            x_RC, y_RC = project.transform(x_RC, y_RC)
    fine_YX = scene.quality.at(x_RC, y_RC).repeat(step, axis=0).repeat(step, axis=1)
    top, left = window.row - row_R[0] * step, window.col - col_C[0] * step
    return fine_YX[top : top + window.height, left : left + window.width]
