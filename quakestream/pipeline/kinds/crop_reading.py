"""Reads crops: a square of ground around each footprint.

What a crop shows is a function of its footprint, the scenes and the pair's shift there, never of
the cell. Crops that lie close are slices of one window that is read once, where a scene reads the
same in parts and as a whole. Where it does not, because it is resampled, that window is put
together from blocks that are fixed to the grid and read one by one.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.domain import Grid, Quality, Window
from quakestream.engines import Batch
from quakestream.errors import ReadError, SceneError
from quakestream.pipeline.kinds.base import read_failure, statistics_of
from quakestream.pipeline.kinds.footprints import FootprintSums
from quakestream.pipeline.work.quality import (
    WindowPixels,
    change,
    quality_counts,
    with_quality,
    worst_quality,
)
from quakestream.pipeline.work.read import around
from quakestream.pipeline.work.results import Failure
from quakestream.pipeline.work.scenes import OpenScenes
from quakestream.pipeline.work.tasks import UnitTask, WorkerScene
from quakestream.raster.owners import inside
from quakestream.raster.pasting import nothing_in
from quakestream.tiling import crop_corners, crop_groups

BLOCK_PX = 256
"""Side of the blocks a resampled scene is read in."""
CHUNK_PX = 2**22
"""Pixels of the crops that are stacked for an engine at a time, one epoch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CropPatch:
    """Pixels of one epoch; neighbouring crops are slices of them."""

    window: Window
    counts_BYX: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crop:
    """A crop to be scored."""

    footprint: int
    """Index into the unit's footprints."""
    windows: dict[str, tuple[int, Window]]
    """Per epoch: index of the patch, and the window inside it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellCrops:
    """A unit as crops. Pixels are held once, however much crops overlap."""

    task: UnitTask
    patches: dict[str, list[CropPatch]]
    crops: tuple[Crop, ...]
    """Crops that were read and show a valid pixel of their footprint."""
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


def read_crops(task: UnitTask, side_px: int, scenes: OpenScenes) -> CellCrops:
    """Reads the crops of a unit. What cannot be read becomes failures.

    Args:
        side_px: side of a crop.
    """
    began, grid = time.perf_counter(), task.cell.grid
    crops = _CropCollector(task=task)
    for group, windows in _groups(task, side_px):
        pixels = {
            epoch: _read_group(scenes, task.scenes[epoch], grid, windows[epoch])
            for epoch in windows
        }
        for n, footprint in enumerate(group):
            crops.add(footprint, {e: (p, windows[e][n], n) for e, p in pixels.items()})
        crops.keep(pixels)
    return CellCrops(
        task=task,
        patches=crops.patches,
        crops=tuple(sorted(crops.crops, key=lambda crop: crop.footprint)),
        side_px=side_px,
        sums=crops.sums,
        failures=tuple(crops.failures),
        mpx=crops.pixels / 1e6,
        seconds=time.perf_counter() - began,
    )


def crop_requests(task: UnitTask, side_px: int) -> list[tuple[str, Window]]:
    """The windows that `read_crops` reads of seamless scenes, with the epoch of each."""
    return [
        (epoch, around(of_epoch))
        for _, windows in _groups(task, side_px)
        for epoch, of_epoch in windows.items()
    ]


def _groups(task: UnitTask, side_px: int) -> Iterator[tuple[list[int], dict[str, list[Window]]]]:
    """Footprints whose crops are read together, and the crop of each one by epoch."""
    corner_F2 = crop_corners(shapely.bounds(task.polygon_F), task.cell.grid, side_px)
    for group in crop_groups(corner_F2, side_px):
        post = [
            Window(row=row, col=col, height=side_px, width=side_px)
            for row, col in corner_F2[group].tolist()
        ]
        windows = {"post": post}
        if task.pre is not None:
            windows["pre"] = [
                w.moved(task.shifts[f]) for f, w in zip(group.tolist(), post, strict=True)
            ]
        yield group.tolist(), windows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _GroupPixels:
    """One epoch of a group of crops."""

    window: Window
    pixels: WindowPixels | None
    """None where the scene cannot be opened."""
    failed: dict[int, Exception]
    """Errors of crops that cannot be read, by their place in the group."""
    size: int
    """Pixels that were read."""


def _read_group(
    scenes: OpenScenes, scene: WorkerScene, grid: Grid, windows: list[Window]
) -> _GroupPixels:
    outer = around(windows)
    try:
        if scenes.seamless(scene.scene, grid):
            raw = scenes.read(scene.scene, grid, outer)
            pixels = with_quality(raw, scene, grid, outer)
            size = pixels.quality_YX.size
            return _GroupPixels(window=outer, pixels=pixels, failed={}, size=size)
        pieces = _blocks(windows)
    except ReadError:  # some block is bad: find out which crops can do without it
        pieces = [(window, [n]) for n, window in enumerate(windows)]
    except (SceneError, OSError) as error:
        failed: dict[int, Exception] = dict.fromkeys(range(len(windows)), error)
        return _GroupPixels(window=outer, pixels=None, failed=failed, size=0)
    return _mosaic(scenes, scene, grid, outer, pieces)


def _mosaic(
    scenes: OpenScenes,
    scene: WorkerScene,
    grid: Grid,
    outer: Window,
    pieces: list[tuple[Window, list[int]]],
) -> _GroupPixels:
    """Puts a window together from pieces. Crops fail that need a piece which fails."""
    pixels = nothing_in(outer, layers=len(scene.scene.layers))
    failed: dict[int, Exception] = {}
    size = 0
    for piece, crops in pieces:
        got = scenes.attempt(scene.scene, grid, piece)
        if isinstance(got, Exception):
            failed |= {n: got for n in crops if n not in failed}
            continue
        part = piece.shared(outer)
        to, of = part.slices_in(outer), part.slices_in(piece)
        pixels.counts_BYX[:, *to], pixels.valid_YX[to] = got.counts_BYX[:, *of], got.valid_YX[of]
        if pixels.quality_YX is not None and got.quality_YX is not None:
            pixels.quality_YX[to] = got.quality_YX[of]
        size += got.valid_YX.size
    known = with_quality(pixels, scene, grid, outer)
    return _GroupPixels(window=outer, pixels=known, failed=failed, size=size)


def _blocks(windows: list[Window]) -> list[tuple[Window, list[int]]]:
    """Blocks of the grid that windows touch, row by row, with the windows that touch each."""
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
class _CropCollector:
    """Collects the crops of a unit group by group."""

    task: UnitTask
    patches: dict[str, list[CropPatch]] = field(default_factory=dict)
    crops: list[Crop] = field(default_factory=list)
    sums: FootprintSums = field(init=False)
    failures: list[Failure] = field(default_factory=list)
    pixels: int = 0

    def __post_init__(self) -> None:
        self.sums = FootprintSums.empty(len(self.task.building_F))
        self.patches = {epoch: [] for epoch in self.task.scenes}

    def add(self, footprint: int, groups: dict[str, tuple[_GroupPixels, Window, int]]) -> None:
        """Counts a footprint's pixels, and keeps its crop if there is something to score.

        Args:
            groups: by epoch, the group's pixels, the footprint's crop, and its place there.
        """
        post = groups["post"][1]
        errors: dict[str, object] = {e: g.failed.get(n) for e, (g, _, n) in groups.items()}
        if any(error is not None for error in errors.values()):
            self.failures.append(read_failure(self.task, post.row, post.col, errors))
            self.sums.failed_F[footprint] = True
            return
        epochs = {e: g.pixels.part(g.window, w) for e, (g, w, _) in groups.items() if g.pixels}
        quality_YX = worst_quality(p.quality_YX for p in epochs.values())
        self.sums.quality_Q += quality_counts(quality_YX)
        if self._count(footprint, post, epochs, quality_YX):
            place = {e: (len(self.patches[e]), w) for e, (_, w, _) in groups.items()}
            self.crops.append(Crop(footprint=footprint, windows=place))

    def _count(
        self,
        footprint: int,
        crop: Window,
        epochs: dict[str, WindowPixels],
        quality_YX: NDArray[np.uint8],
    ) -> bool:
        """Adds the footprint's own pixels inside its crop; True if one of them is valid."""
        grid, polygon = self.task.cell.grid, self.task.polygon_F[footprint]
        box = grid.window(*polygon.bounds).shared(crop)
        part = box.slices_in(crop)
        inside_YX = inside(polygon, grid, box)
        quality_P = quality_YX[part][inside_YX]
        pixels_Q = np.bincount(quality_P, minlength=len(Quality))
        boxes = {e: p.part(crop, box) for e, p in epochs.items()}
        change_P = change(boxes, np.flatnonzero(inside_YX))
        sums = self.sums
        sums.pixels_FQ[footprint] = pixels_Q
        sums.change_F[footprint] = change_P[quality_P == Quality.VALID].sum()
        sums.shift_F[footprint] = self.task.shifts[footprint]
        sums.shift_pixels_F[footprint] = pixels_Q.sum()
        return bool(pixels_Q[Quality.VALID])

    def keep(self, groups: dict[str, _GroupPixels]) -> None:
        """Keeps a group's pixels for the engine."""
        nothing = np.empty((3, 0, 0), np.uint8)
        for epoch, group in groups.items():
            self.pixels += group.size
            counts_BYX = group.pixels.counts_BYX if group.pixels else nothing
            self.patches[epoch].append(CropPatch(window=group.window, counts_BYX=counts_BYX))


def _cut(patches: list[CropPatch], place: int, window: Window) -> NDArray[Any]:
    patch = patches[place]
    rows, cols = window.slices_in(patch.window)
    return patch.counts_BYX[:, rows, cols]
