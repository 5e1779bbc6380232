"""Crops around footprints: read together, judged each by itself.

What a crop shows is a function of its footprint, of the scenes and of the pair's shift there,
never of the cell. Crops that lie close are slices of one window that is read once, where a
scene reads the same in parts and as a whole. Where it does not (it is resampled), that window
is put together of blocks fixed to the grid, each read alone.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Grid, Quality, Scene, Window
from quakestream.engines import Batch
from quakestream.errors import ReadError, SceneError
from quakestream.pipeline.assemble import Failure, FootprintSums, read_failure, statistics_of
from quakestream.pipeline.seen import Seen, change, counted, see, worst
from quakestream.pipeline.tasks import SceneTask, UnitTask
from quakestream.raster.owners import inside
from quakestream.raster.source import Pixels
from quakestream.tiling import crop_corners, crop_groups

BLOCK_PX = 256
"""Side of the blocks a resampled scene is read in."""
CHUNK_PX = 2**22
"""Pixels of the crops that are stacked for an engine at a time, one epoch."""


class Scenes(Protocol):
    """Scenes open on this worker."""

    def seamless(self, scene: Scene, grid: Grid) -> bool: ...

    def read(self, scene: Scene, grid: Grid, window: Window) -> Pixels: ...

    def attempt(self, scene: Scene, grid: Grid, window: Window) -> Pixels | Exception: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """Pixels of one epoch that neighbouring crops are slices of."""

    window: Window
    counts_BYX: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crop:
    """A crop to be scored."""

    footprint: int
    """Index into the cell's footprints."""
    windows: dict[str, tuple[int, Window]]
    """Per epoch: index of the patch, and the window inside it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CropPixels:
    """A cell as crops: pixels are held once, however much crops overlap."""

    task: UnitTask
    patches: dict[str, list[Patch]]
    crops: tuple[Crop, ...]
    """Those that were read and show a valid pixel of their footprint."""
    side_px: int
    sums: FootprintSums
    failures: tuple[Failure, ...]
    mpx: float
    """Pixels read of all epochs, millions."""
    seconds: float

    def __len__(self) -> int:
        return len(self.crops)

    @property
    def chunk(self) -> int:
        """Crops to stack at a time."""
        return max(CHUNK_PX // self.side_px**2, 1)

    def batch(self, start: int, stop: int) -> Batch:
        """Crops start..stop as an engine takes them."""
        crops = self.crops[start:stop]
        images = {
            epoch: np.stack([_cut(patches, *c.windows[epoch]) for c in crops])
            for epoch, patches in self.patches.items()
        }
        hazard_FM = self.task.hazard_FM
        return Batch(
            images=images,
            statistics=statistics_of(self.task, len(crops)),
            hazard_NM=hazard_FM[[c.footprint for c in crops]] if hazard_FM.shape[1] else None,
        )


def read_crops(task: UnitTask, spec: BundleSpec, scenes: Scenes, began: float) -> CropPixels:
    """Reads the crops of a cell; what cannot be read becomes failures."""
    grid, side = task.cell.grid, spec.window_px
    made = _Made(task=task)
    for group, of_epoch in _groups(task, side):
        shown = {
            epoch: _shown(scenes, task.scenes[epoch], grid, of_epoch[epoch]) for epoch in of_epoch
        }
        for n, footprint in enumerate(group):
            made.add(footprint, {e: (s, of_epoch[e][n], n) for e, s in shown.items()})
        made.keep(shown)
    return CropPixels(
        task=task,
        patches=made.patches,
        crops=tuple(sorted(made.crops, key=lambda crop: crop.footprint)),
        side_px=side,
        sums=made.sums,
        failures=tuple(made.failures),
        mpx=made.pixels / 1e6,
        seconds=time.perf_counter() - began,
    )


def crop_reads(task: UnitTask, side_px: int) -> list[tuple[str, Window]]:
    """The windows `read_crops` reads of seamless scenes, and the epoch of each."""
    return [
        (epoch, around(windows))
        for _, of_epoch in _groups(task, side_px)
        for epoch, windows in of_epoch.items()
    ]


def _groups(task: UnitTask, side_px: int) -> Iterator[tuple[list[int], dict[str, list[Window]]]]:
    """Footprints whose crops are read together, and each one's crop of each epoch."""
    corner_F2 = crop_corners(shapely.bounds(task.polygon_F), task.cell.grid, side_px)
    for group in crop_groups(corner_F2, side_px):
        windows = [
            Window(row=row, col=col, height=side_px, width=side_px)
            for row, col in corner_F2[group].tolist()
        ]
        of_epoch = {"post": windows}
        if task.pre is not None:
            of_epoch["pre"] = [
                w.moved(task.shift_W[f]) for f, w in zip(group.tolist(), windows, strict=True)
            ]
        yield group.tolist(), of_epoch


def around(windows: list[Window]) -> Window:
    """The smallest window that holds all."""
    outer = windows[0]
    for window in windows[1:]:
        outer = outer.union(window)
    return outer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Shown:
    """One epoch of a group of crops."""

    window: Window
    seen: Seen | None
    """None where the scene cannot be opened."""
    failed: dict[int, Exception]
    """Crops that cannot be read, by their place in the group."""
    pixels: int


def _shown(scenes: Scenes, scene: SceneTask, grid: Grid, windows: list[Window]) -> _Shown:
    outer = around(windows)
    try:
        if scenes.seamless(scene.scene, grid):
            pixels = scenes.read(scene.scene, grid, outer)
            seen = see(pixels, scene, grid, outer)
            return _Shown(window=outer, seen=seen, failed={}, pixels=seen.quality_YX.size)
        pieces = _blocks(windows)
    except ReadError:  # some block is bad: find out which crops can do without it
        pieces = [(window, [n]) for n, window in enumerate(windows)]
    except (SceneError, OSError) as error:
        failed: dict[int, Exception] = dict.fromkeys(range(len(windows)), error)
        return _Shown(window=outer, seen=None, failed=failed, pixels=0)
    return _pieced(scenes, scene, grid, outer, pieces)


def _pieced(
    scenes: Scenes,
    scene: SceneTask,
    grid: Grid,
    outer: Window,
    pieces: list[tuple[Window, list[int]]],
) -> _Shown:
    """A window put together of pieces; crops that need a piece that fails, fail."""
    counts_BYX = np.zeros((3, *outer.shape), np.uint8)
    valid_YX = np.zeros(outer.shape, np.bool_)
    failed: dict[int, Exception] = {}
    size = 0
    for piece, crops in pieces:
        got = scenes.attempt(scene.scene, grid, piece)
        if isinstance(got, Exception):
            failed |= {n: got for n in crops if n not in failed}
            continue
        part = piece.shared(outer)
        to, of = part.slices_in(outer), part.slices_in(piece)
        counts_BYX[:, *to], valid_YX[to] = got.counts_BYX[:, *of], got.valid_YX[of]
        size += got.valid_YX.size
    pixels = Pixels(counts_BYX=counts_BYX, valid_YX=valid_YX)
    return _Shown(window=outer, seen=see(pixels, scene, grid, outer), failed=failed, pixels=size)


def _blocks(windows: list[Window]) -> list[tuple[Window, list[int]]]:
    """Blocks of the grid that windows touch, row by row, and which windows touch each."""
    touched: dict[tuple[int, int], list[int]] = defaultdict(list)
    for n, window in enumerate(windows):
        for row in range(window.row // BLOCK_PX, (window.row_end - 1) // BLOCK_PX + 1):
            for col in range(window.col // BLOCK_PX, (window.col_end - 1) // BLOCK_PX + 1):
                touched[row, col].append(n)
    return [
        (Window(row=r * BLOCK_PX, col=c * BLOCK_PX, height=BLOCK_PX, width=BLOCK_PX), touched[r, c])
        for r, c in sorted(touched)
    ]


@dataclass(slots=True)
class _Made:
    """What has been made of a cell's crops so far."""

    task: UnitTask
    patches: dict[str, list[Patch]] = field(default_factory=dict)
    crops: list[Crop] = field(default_factory=list)
    sums: FootprintSums = field(init=False)
    failures: list[Failure] = field(default_factory=list)
    pixels: int = 0

    def __post_init__(self) -> None:
        self.sums = FootprintSums.of(len(self.task.building_F))
        self.patches = {epoch: [] for epoch in self.task.scenes}

    def add(self, footprint: int, shown: dict[str, tuple[_Shown, Window, int]]) -> None:
        """Counts a footprint's pixels, and notes its crop if there is something to score."""
        post = shown["post"][1]
        errors: dict[str, object] = {e: s.failed.get(n) for e, (s, _, n) in shown.items()}
        if any(error is not None for error in errors.values()):
            self.failures.append(read_failure(self.task, post.row, post.col, errors))
            self.sums.failed_F[footprint] = True
            return
        seen = {e: s.seen.part(s.window, w) for e, (s, w, _) in shown.items() if s.seen}
        quality_YX = worst(s.quality_YX for s in seen.values())
        self.sums.quality_Q += counted(quality_YX)
        if self._count(footprint, post, seen, quality_YX):
            place = {e: (len(self.patches[e]), w) for e, (_, w, _) in shown.items()}
            self.crops.append(Crop(footprint=footprint, windows=place))

    def _count(
        self, footprint: int, crop: Window, seen: dict[str, Seen], quality_YX: NDArray[np.uint8]
    ) -> bool:
        """Adds the footprint's own pixels inside its crop; True if one of them is valid."""
        grid, polygon = self.task.cell.grid, self.task.polygon_F[footprint]
        box = grid.window(*polygon.bounds).shared(crop)
        part = box.slices_in(crop)
        inside_YX = inside(polygon, grid, box)
        worth_P = quality_YX[part][inside_YX]
        pixels_Q = np.bincount(worth_P, minlength=len(Quality))
        boxed = {e: s.part(crop, box) for e, s in seen.items()}
        change_P = change(boxed, np.flatnonzero(inside_YX))
        sums = self.sums
        sums.pixels_FQ[footprint] = pixels_Q
        sums.change_F[footprint] = change_P[worth_P == Quality.VALID].sum()
        sums.shift_F[footprint] = self.task.shift_W[footprint]
        sums.shift_pixels_F[footprint] = pixels_Q.sum()
        return bool(pixels_Q[Quality.VALID])

    def keep(self, shown: dict[str, _Shown]) -> None:
        """Keeps a group's pixels for the engine."""
        for epoch, one in shown.items():
            self.pixels += one.pixels
            counts_BYX = one.seen.counts_BYX if one.seen else np.empty((3, 0, 0), np.uint8)
            self.patches[epoch].append(Patch(window=one.window, counts_BYX=counts_BYX))


def _cut(patches: list[Patch], place: int, window: Window) -> NDArray[np.uint8]:
    patch = patches[place]
    rows, cols = window.slices_in(patch.window)
    return patch.counts_BYX[:, rows, cols]
