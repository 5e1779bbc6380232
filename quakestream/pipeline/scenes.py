"""Scenes that a worker has open, and what becomes of reads that fail."""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import ExitStack

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import SceneError
from quakestream.pipeline.tasks import WorkerSpec
from quakestream.raster.source import Pixels, RasterioSource, RasterSource
from quakestream.raster.tiles import tile_source_factory

OpenSource = Callable[[Scene, Grid], RasterSource]
ATTEMPTS = 2
SLOW_S = 1.0
STALL_S = 15
"""A scene whose failed reads, those of over a second, took this long in all is not asked
again by this worker: its server stalls, and would hold the run for hours."""
OPEN_SCENES = 8


class OpenScenes:
    """The scenes a worker read last."""

    def __init__(self, open_source: OpenSource) -> None:
        self._open = open_source
        self._sources: OrderedDict[tuple[str, Grid], tuple[RasterSource, ExitStack]] = OrderedDict()
        self._lost_s: Counter[str] = Counter()
        self._stalled: dict[str, Exception] = {}

    def close(self) -> None:
        while self._sources:
            self._sources.popitem()[1][1].close()

    def seamless(self, scene: Scene, grid: Grid) -> bool:
        """True if any part of a window reads the same alone as within a larger window.

        Raises:
            SceneError: if the scene cannot be opened.
        """
        return self._source(scene, grid).seamless

    def read(self, scene: Scene, grid: Grid, window: Window) -> Pixels:
        """A window; the same error at once where the scene's server has stalled before.

        Raises:
            SceneError: if the scene cannot be opened.
            ReadError: if it cannot be read there.
        """
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

    def attempt(self, scene: Scene, grid: Grid, window: Window) -> Pixels | Exception:
        """A window, tried again on a fresh connection; the last error as a value."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self.read(scene, grid, window)
            except (SceneError, OSError) as error:
                failure = error
                if attempt < ATTEMPTS and scene.href not in self._stalled:
                    self._forget(scene, grid)
        return failure

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


def opener(spec: WorkerSpec) -> OpenSource:
    """The tile store's reader where a run has one, else GDAL's."""
    if spec.tile_store is not None:
        return tile_source_factory(spec.tile_store, spec.options)
    return lambda scene, grid: RasterioSource(scene, grid, spec.options)
