"""Resamples a scene to the grid: interpolates it, or averages it where it is finer.

The result is close to what GDAL does for `RasterioSource` (tests state how close), at ten times
the speed. Interpolation is bilinear between pixel centres. A scene finer than the grid is read
from the next finer overview, at several positions in each pixel, of which the mean is taken.
Invalid pixels take no part. A pixel is valid where the scene's nearest pixel is.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Window
from quakestream.raster.cog.block_plan import Rect
from quakestream.raster.cog.layout import CogLayout, Colour, Level
from quakestream.raster.cog.places import Target, interleaved_target
from quakestream.raster.cog.positions import STEPS, Map, Positions, WindowPart
from quakestream.raster.cog.workers import Team
from quakestream.raster.source import AVERAGE_ABOVE, Pixels

MAX_SAMPLES = 4
"""Most positions along a side of a grid pixel. A scene whose nearest overview needs more is left
to GDAL, which reads it in strips."""
NEAREST_TIE = 0.25
"""Steps by which positions are moved, so that of two nearest pixels always the same one wins."""
PIECE_PX = 2048
"""Side of the largest piece that is resampled at once. A larger window is cut into pieces, which
does not change its pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChoice:
    """The level that is read for a grid, and how it is sampled."""

    index: int
    scale: tuple[float, float]
    """Level pixels per scene pixel, along columns and rows."""
    finer: int
    """Positions in a grid pixel, along each side."""


def choose_level(layout: CogLayout, ratio: float) -> LevelChoice | None:
    """The coarsest level that is not coarser than the grid; None if no level is near the grid.

    Args:
        ratio: scene pixels per grid pixel, along a side.
    """
    first = layout.levels[0]
    index, factor = 0, 1.0
    for n, level in enumerate(layout.levels):
        reduced = first.width / level.width
        if reduced <= ratio * 1.001 and ratio >= AVERAGE_ABOVE:
            index, factor = n, reduced
    left = ratio / factor
    finer = 1 if left < 1.25 else math.ceil(left - 0.05)
    if finer > MAX_SAMPLES:
        return None
    level = layout.levels[index]
    scale = (level.width / first.width, level.height / first.height)
    return LevelChoice(index=index, scale=scale, finer=finer)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PartJob:
    """A part of a window to be resampled, and the pixels that it needs."""

    part: WindowPart
    rect: Rect
    """Pixels of the level."""
    whole: bool
    """True if no pixel that it needs lies outside the level."""


class _RectReader(Protocol):
    """Reads rectangles of a scene, or of the tiles of one."""

    colour: Colour

    def read(self, level: int, rect: Rect, target: Target) -> None: ...

    def prefetch(self, level: int, rects: Sequence[Rect], *, interleaved: bool) -> None: ...


class Resampler:
    """Reads windows of one grid. Safe to use from several threads."""

    def __init__(
        self,
        layout: CogLayout,
        reader: _RectReader,
        positions: Positions,
        choice: LevelChoice,
        team: Team,
    ) -> None:
        self._level = layout.levels[choice.index]
        self._reader, self._positions, self._choice = reader, positions, choice
        self._team, self._scratch = team, team.scratch
        self._colour = reader.colour
        cv2.setNumThreads(1)  # parts are small, and the team has the threads

    def read(self, window: Window) -> Pixels:
        """Counts and validity; zeros and invalid outside the scene.

        Raises:
            ReadError: if a block cannot be fetched or decoded.
        """
        pixels = Pixels(
            counts_BYX=np.empty((3, *window.shape), np.uint8),
            valid_YX=np.empty(window.shape, np.bool_),
        )
        for piece in pieces(window):
            self._fill(piece, window, pixels)
        return pixels

    def prefetch(self, windows: Sequence[Window]) -> None:
        """Requests the bytes that later reads of windows need, and returns at once."""
        jobs = [self._jobs(piece) for window in windows for piece in pieces(window)]
        rects = [around([job.rect for job in group]) for group in jobs if group]
        self._reader.prefetch(self._choice.index, rects, interleaved=True)

    def _jobs(self, piece: Window) -> list[_PartJob]:
        """The parts of a piece that the scene reaches, with the pixels that they need."""
        jobs = []
        for part in self._positions.parts(piece):
            bounds = self._positions.source_bounds(part, self._choice.scale)
            rect = on_level(bounds, self._level)
            if rect is not None:
                whole = (rect.height, rect.width) == _sides(bounds)
                jobs.append(_PartJob(part=part, rect=rect, whole=whole))
        return jobs

    def _fill(self, piece: Window, window: Window, pixels: Pixels) -> None:
        """Reads the level under a piece and resamples it part by part."""
        jobs = self._jobs(piece)
        if sum(_area(job.part.window) for job in jobs) < _area(piece):
            rows, cols = piece.slices_in(window)
            pixels.counts_BYX[:, rows, cols], pixels.valid_YX[rows, cols] = 0, False
        if not jobs:
            return
        rect = around([job.rect for job in jobs])
        shape = rect.height, rect.width
        counts_YX4 = np.empty((*shape, 4), np.uint8)
        black = self._colour.validity == "black"
        valid_YX = np.broadcast_to(np.True_, shape) if black else np.ones(shape, np.bool_)
        self._reader.read(self._choice.index, rect, interleaved_target(counts_YX4, valid_YX))

        def resample(job: _PartJob) -> None:
            top, left = job.rect.top - rect.top, job.rect.left - rect.left
            source = slice(top, top + job.rect.height), slice(left, left + job.rect.width)
            whole = job.whole and (black or bool(valid_YX[source].all()))
            rows, cols = job.part.window.slices_in(window)
            out_BYX = pixels.counts_BYX[:, rows, cols]
            positions = self._sample_positions(job)
            ground_YX = self._sample(
                counts_YX4[source], valid_YX[source], positions, out_BYX, whole=whole
            )
            if black and out_BYX[1].min() == 0:  # pixels with green are not black
                ground_YX = ground_YX & out_BYX.any(axis=0)
            pixels.valid_YX[rows, cols] = ground_YX

        self._team.for_each(jobs, resample)

    def _sample_positions(self, job: _PartJob) -> tuple[Map, Map]:
        """Columns and rows, in the job's rectangle, at which a part's (sub-)pixels are read."""
        choice, window = self._choice, job.part.window
        shape = window.height * choice.finer, window.width * choice.finer
        out = self._scratch.array("u", shape, "<f4"), self._scratch.array("v", shape, "<f4")
        origin = job.rect.top, job.rect.left
        self._positions.sample_positions(job.part, choice.scale, choice.finer, origin, out)
        return out

    def _sample(
        self,
        counts_YX4: NDArray[np.uint8],
        valid_YX: NDArray[np.bool_],
        positions: tuple[Map, Map],
        out_BYX: NDArray[np.uint8],
        *,
        whole: bool,
    ) -> NDArray[np.bool_] | np.bool_:
        """Fills a part's counts.

        Args:
            whole: every pixel that is read exists and is valid.

        Returns:
            The part's validity, in an array that the next call overwrites.
        """
        finer, shape = self._choice.finer, positions[0].shape
        fine_YX4 = self._scratch.array("fine", (*shape, 4), "|u1")
        cv2.remap(counts_YX4, *positions, cv2.INTER_LINEAR, fine_YX4, cv2.BORDER_REPLICATE)
        size = shape[0] // finer, shape[1] // finer
        mean_YX4 = fine_YX4
        if finer > 1:
            mean_YX4 = self._scratch.array("mean", (*size, 4), "|u1")
            cv2.resize(fine_YX4, size[::-1], mean_YX4, interpolation=cv2.INTER_AREA)
        ground_YX: NDArray[np.bool_] | np.bool_ = np.True_
        if not whole:
            fine_ground_YX = exclude_invalid(fine_YX4, counts_YX4, valid_YX, positions)
            ground_YX = average_valid(mean_YX4, fine_YX4, fine_ground_YX, finer)
        cv2.split(mean_YX4, [*out_BYX, self._scratch.offset_array("fourth", out_BYX[0])])
        return ground_YX


def exclude_invalid(
    fine_YX4: NDArray[np.uint8],
    counts_YX4: NDArray[np.uint8],
    valid_YX: NDArray[np.bool_],
    positions: tuple[Map, Map],
) -> NDArray[np.bool_]:
    """Removes the part of invalid pixels from interpolated counts, in place.

    Every product is exact in single precision (8 bits of position in each direction, 8 of
    counts), so a pixel with four valid neighbours keeps its counts.

    Returns:
        True where the nearest pixel is valid.
    """
    weights_YX = valid_YX.astype(np.float32)
    weight_YX = _zero_outside(weights_YX, positions, cv2.INTER_LINEAR)
    part_YX = (weight_YX > 0) & (weight_YX < 1)
    if part_YX.any():
        valid_counts_YX4 = counts_YX4 * weights_YX[..., None]
        sum_YX4 = _zero_outside(valid_counts_YX4, positions, cv2.INTER_LINEAR)
        fine_YX4[part_YX] = np.rint(sum_YX4[part_YX] / weight_YX[part_YX][:, None])
    tie = np.float32(NEAREST_TIE / STEPS)
    nearest = positions[0] + tie, positions[1] + tie
    ground_YX: NDArray[np.bool_] = (
        _zero_outside(valid_YX.view(np.uint8), nearest, cv2.INTER_NEAREST) > 0
    )
    fine_YX4[~ground_YX] = 0
    return ground_YX


def _zero_outside(values: NDArray[Any], positions: tuple[Map, Map], how: int) -> NDArray[Any]:
    """Values at positions; 0 outside the array."""
    values_YX: NDArray[Any] = cv2.remap(
        values, *positions, how, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    return values_YX


def average_valid(
    mean_YX4: NDArray[np.uint8],
    fine_YX4: NDArray[np.uint8],
    fine_ground_YX: NDArray[np.bool_],
    finer: int,
) -> NDArray[np.bool_]:
    """Replaces means by those over the valid positions of each pixel, in place.

    Returns:
        True where at least half of a pixel's positions are valid.
    """
    if finer == 1:
        return fine_ground_YX
    height, width = mean_YX4.shape[:2]
    blocks = (height, finer, width, finer)
    count_YX = fine_ground_YX.reshape(blocks).sum(axis=(1, 3))
    part_YX = count_YX < finer * finer
    sum_YX4 = fine_YX4.reshape(*blocks, 4).sum(axis=(1, 3), dtype=np.int64)
    ground_YX: NDArray[np.bool_] = 2 * count_YX >= finer * finer
    some_YX = np.maximum(count_YX, 1)[..., None]
    mean_YX4[part_YX] = ((sum_YX4 + some_YX // 2) // some_YX)[part_YX]
    mean_YX4[~ground_YX] = 0
    return ground_YX


def pieces(window: Window) -> list[Window]:
    """A window in equal pieces, which bound the pixels of the scene that are held at once."""
    downs, acrosses = (
        _cuts(s, n) for s, n in ((window.row, window.height), (window.col, window.width))
    )
    return [
        Window(row=row, col=col, height=height, width=width)
        for row, height in downs
        for col, width in acrosses
    ]


def _cuts(start: int, length: int) -> list[tuple[int, int]]:
    parts = max(math.ceil(length / PIECE_PX), 1)
    edges = [start + length * n // parts for n in range(parts + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(edges) if b > a]


def on_level(bounds: tuple[int, int, int, int], level: Level) -> Rect | None:
    """The pixels of a level inside bounds (top, left, bottom, right); None if there are none."""
    top, left = max(bounds[0], 0), max(bounds[1], 0)
    bottom, right = min(bounds[2], level.height), min(bounds[3], level.width)
    if bottom <= top or right <= left:
        return None
    return Rect(top=top, left=left, height=bottom - top, width=right - left)


def _area(window: Window) -> int:
    return window.height * window.width


def _sides(bounds: tuple[int, int, int, int]) -> tuple[int, int]:
    top, left, bottom, right = bounds
    return bottom - top, right - left


def around(rects: list[Rect]) -> Rect:
    """The smallest rectangle that holds all rectangles."""
    top, left = min(r.top for r in rects), min(r.left for r in rects)
    bottom = max(r.top + r.height for r in rects)
    right = max(r.left + r.width for r in rects)
    return Rect(top=top, left=left, height=bottom - top, width=right - left)
