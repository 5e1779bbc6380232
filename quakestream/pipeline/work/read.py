"""The read stage: pixels of a cell's windows or crops, for every job that wants them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import ReadError, SceneError
from quakestream.pipeline.work.quality import WindowPixels, with_quality
from quakestream.pipeline.work.scenes import OpenScenes, OpenSource, opener
from quakestream.pipeline.work.tasks import CellTask, UnitTask, WorkerScene, WorkerSpec
from quakestream.raster.source import Pixels
from quakestream.tiling import crop_groups

if TYPE_CHECKING:
    from quakestream.pipeline.kinds.base import CellPixels

SPARE = 1.25
"""Windows are read as one while the window around them holds at most this many times their
pixels. Of a cell with few buildings, only the corners that hold them are read."""


class CellReads:
    """Reads windows for the jobs of one cell; a window that two jobs want is read once."""

    def __init__(
        self, scenes: OpenScenes, shared: Mapping[tuple[str, ...], list[Window]] | None = None
    ) -> None:
        """Reads for one cell.

        Args:
            shared: windows around what several jobs want of a scene, by its version.
        """
        self.scenes = scenes
        self._known: dict[tuple[tuple[str, ...], Window], WindowPixels | Exception] = {}
        self._shared = shared or {}
        self._outer: dict[tuple[tuple[str, ...], Window], Pixels] = {}

    def windows(
        self, scene: WorkerScene, grid: Grid, windows: Sequence[Window]
    ) -> tuple[list[WindowPixels | Exception], int]:
        """One epoch's windows, all of one size; an exception where one cannot be read.

        Returns:
            The windows, and how many pixels were read for them now.
        """
        version = scene.scene.version
        new = [w for w in dict.fromkeys(windows) if (version, w) not in self._known]
        for window, pixels in zip(new, self._read(scene, grid, new), strict=True):
            self._known[version, window] = pixels
        result = [self._known[version, window] for window in windows]
        return result, sum(w.height * w.width for w in new)

    def _read(
        self, scene: WorkerScene, grid: Grid, windows: list[Window]
    ) -> list[WindowPixels | Exception]:
        if not windows:
            return []
        try:
            whole = self.scenes.seamless(scene.scene, grid)
        except (SceneError, OSError) as error:
            return [error] * len(windows)
        if not whole:
            return [self._alone(scene, grid, w) for w in windows]
        pixels: dict[int, WindowPixels | Exception] = {}
        for group in groups_of(windows):
            members = [windows[n] for n in group]
            pixels |= zip(group, self._as_one(scene, grid, members), strict=True)
        return [pixels[n] for n in range(len(windows))]

    def _as_one(
        self, scene: WorkerScene, grid: Grid, windows: list[Window]
    ) -> list[WindowPixels | Exception]:
        """Reads windows of a seamless scene as parts of one array."""
        outer = self._around(scene, windows)
        try:
            pixels = self._pixels(scene, grid, outer)
        except ReadError:  # some block is bad: read the windows that can do without it
            return [self._alone(scene, grid, w) for w in windows]
        except (SceneError, OSError) as error:
            return [error] * len(windows)
        return [with_quality(pixels.part(outer, w), scene, grid, w) for w in windows]

    def _around(self, scene: WorkerScene, windows: list[Window]) -> Window:
        """The window to read for some windows: one that serves other jobs, too, if there is one."""
        outer = around(windows)
        for wider in self._shared.get(scene.scene.version, ()):
            if wider.union(outer) == wider:
                return wider
        return outer

    def _pixels(self, scene: WorkerScene, grid: Grid, outer: Window) -> Pixels:
        version = scene.scene.version
        if outer not in self._shared.get(version, ()):
            return self.scenes.read(scene.scene, grid, outer)
        if (version, outer) not in self._outer:
            self._outer[version, outer] = self.scenes.read(scene.scene, grid, outer)
        return self._outer[version, outer]

    def _alone(self, scene: WorkerScene, grid: Grid, window: Window) -> WindowPixels | Exception:
        pixels = self.scenes.attempt(scene.scene, grid, window)
        if isinstance(pixels, Exception):
            return pixels
        return with_quality(pixels, scene, grid, window)


class Reader:
    """Reads cells on one worker and keeps the scenes it read last open.

    One thread uses it. The readers of a process share block indices, decoded blocks and bytes
    on their way, so that any of them may prefetch for the others.
    """

    def __init__(self, spec: WorkerSpec, open_source: OpenSource | None = None) -> None:
        self._jobs = spec.jobs
        self._scenes = OpenScenes(open_source or opener(spec), spec.options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._scenes.close()

    def read(self, cell: CellTask) -> "tuple[CellPixels, ...]":
        """Reads one cell for each of its jobs.

        What cannot be read becomes failures, never an exception.
        """
        reads = CellReads(self._scenes, self._shared(cell))
        return tuple(self._read_part(part, reads) for part in cell.parts)

    def _read_part(self, part: UnitTask, reads: CellReads) -> "CellPixels":
        job = self._jobs[part.job]
        return job.kind.read(part, job, reads)

    def _shared(self, cell: CellTask) -> dict[tuple[str, ...], list[Window]]:
        """Windows around what several jobs want of a scene; nothing for one job.

        Parts of an acquisition know the tiles around their own windows alone, and read apart.
        """
        if len(cell.parts) < 2:
            return {}
        wanted: dict[tuple[str, ...], list[Window]] = {}
        for part in cell.parts:
            job = self._jobs[part.job]
            for epoch, window in job.kind.requests(part, job):
                scene = part.scenes[epoch].scene
                if not scene.tiles:
                    wanted.setdefault(scene.version, []).append(window)
        return {version: joined_windows(windows) for version, windows in wanted.items()}

    def prefetch(self, *cells: CellTask) -> None:
        """Asks for the bytes of cells that will be read soon, and returns at once.

        Does nothing for local files, for scenes this reader has not open yet, and where enough
        bytes are on their way already. A failure shows when the cell is read.
        """
        wanted: dict[tuple[tuple[str, ...], Grid], tuple[Scene, list[Window]]] = {}
        for part in (part for cell in cells for part in cell.parts):
            job, grid = self._jobs[part.job], part.cell.grid
            for epoch, window in job.kind.requests(part, job):
                scene = part.scenes[epoch].scene
                wanted.setdefault((scene.version, grid), (scene, []))[1].append(window)
        for (_, grid), (scene, windows) in wanted.items():
            self._scenes.prefetch(scene, grid, *windows)


def joined_windows(windows: Sequence[Window]) -> list[Window]:
    """Windows with those that overlap joined, where that adds little ground."""
    joined: list[Window] = []
    for window in windows:
        for n, other in enumerate(joined):
            both = window.union(other)
            shared = window.shared(other)
            apart = _area(window) + _area(other) - _area(shared)
            if _area(shared) and _area(both) <= SPARE * apart:
                joined[n] = both
                break
        else:
            joined.append(window)
    return joined


def _area(window: Window) -> int:
    return window.height * window.width


def around(windows: Iterable[Window]) -> Window:
    """The smallest window that holds all."""
    first, *others = windows
    for window in others:
        first = first.union(window)
    return first


def groups_of(windows: Sequence[Window]) -> list[list[int]]:
    """Indices of windows of one size, grouped by place as they are read together."""
    corner_W2 = np.array([(w.row, w.col) for w in windows], np.int64)
    return [group.tolist() for group in crop_groups(corner_W2, windows[0].height, SPARE)]
