"""A window of a scene whose pixels are not the grid's: interpolated, or averaged when finer.

What GDAL does for `RasterioSource`, near enough (tests state how near) and ten times as
fast: bilinear between pixel centres; a scene finer than the grid is read from the
overview next finer, at several places in each pixel whose mean is taken. Invalid pixels
take no part; a pixel is valid where the scene's nearest is.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Window
from quakestream.raster.cog.blocks import BlockReader, Rect
from quakestream.raster.cog.layout import CogLayout, Level
from quakestream.raster.cog.places import interleaved
from quakestream.raster.cog.positions import STEPS, Map, Patch, Positions
from quakestream.raster.cog.workers import Team
from quakestream.raster.source import AVERAGE_ABOVE, Pixels

MOST_FINER = 4
"""A scene without an overview this near the grid is left to GDAL, which reads it in strips."""
NEAREST_TIE = 0.25
"""Steps that break the tie between two nearest pixels, always towards the same."""
PIECE_PX = 2048
"""Side of what is resampled at once: a larger window is cut, and reads the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which level is read for a grid, and how."""

    index: int
    scale: tuple[float, float]
    """Level pixels per scene pixel, along columns and rows."""
    finer: int
    """Places read in a grid pixel, along each side."""


def choose_level(layout: CogLayout, ratio: float) -> Choice | None:
    """The coarsest level that is not coarser than the grid; None where none is near it.

    Args:
        ratio: scene pixels in a grid pixel, along a side.
    """
    first = layout.levels[0]
    index, factor = 0, 1.0
    for n, level in enumerate(layout.levels):
        reduced = first.width / level.width
        if reduced <= ratio * 1.001 and ratio >= AVERAGE_ABOVE:
            index, factor = n, reduced
    left = ratio / factor
    finer = 1 if left < 1.25 else math.ceil(left - 0.05)
    if finer > MOST_FINER:
        return None
    level = layout.levels[index]
    scale = (level.width / first.width, level.height / first.height)
    return Choice(index=index, scale=scale, finer=finer)


class Resampler:
    """Reads windows of one grid. Safe to use from several threads."""

    def __init__(
        self,
        layout: CogLayout,
        reader: BlockReader,
        positions: Positions,
        choice: Choice,
        team: Team,
    ) -> None:
        self._level = layout.levels[choice.index]
        self._reader, self._positions, self._choice = reader, positions, choice
        self._team, self._scratch = team, team.scratch
        assert layout.colour is not None
        self._colour = layout.colour
        cv2.setNumThreads(1)  # a patch is small, and threads are the team's

    def read(self, window: Window) -> Pixels:
        """Counts and validity; zeros and invalid outside the scene.

        Raises:
            ReadError: if a block cannot be fetched or decoded.
        """
        made = Pixels(
            counts_BYX=np.empty((3, *window.shape), np.uint8),
            valid_YX=np.empty(window.shape, np.bool_),
        )
        for piece in _pieces(window):
            self._fill(piece, window, made)
        return made

    def prefetch(self, windows: Sequence[Window]) -> None:
        """Asks for the bytes later reads of windows will need, and returns at once."""
        jobs = [self._jobs(piece) for window in windows for piece in _pieces(window)]
        rects = [_around([needed for _, needed, _ in found]) for found in jobs if found]
        self._reader.prefetch(self._choice.index, rects, interleaved=True)

    def _jobs(self, piece: Window) -> list[tuple[Patch, Rect, bool]]:
        """Patches of a piece that the scene reaches, what they take from the level, and if
        that is all they would take."""
        jobs = []
        for patch in self._positions.patches(piece):
            wanted = self._positions.reach(patch, self._choice.scale)
            needed = _on_level(wanted, self._level)
            if needed is not None:
                jobs.append((patch, needed, (needed.height, needed.width) == _sides(wanted)))
        return jobs

    def _fill(self, piece: Window, window: Window, made: Pixels) -> None:
        """Reads what a piece takes from the level, and samples it patch by patch."""
        jobs = self._jobs(piece)
        if sum(patch.window.height * patch.window.width for patch, *_ in jobs) < _area(piece):
            rows, cols = piece.slices_in(window)
            made.counts_BYX[:, rows, cols], made.valid_YX[rows, cols] = 0, False
        if not jobs:
            return
        rect = _around([needed for _, needed, _ in jobs])
        shape = rect.height, rect.width
        counts_YX4 = np.empty((*shape, 4), np.uint8)
        black = self._colour.validity == "black"
        valid_YX = np.broadcast_to(np.True_, shape) if black else np.ones(shape, np.bool_)
        self._reader.colour(self._choice.index, rect, interleaved(counts_YX4, valid_YX))

        def one(job: tuple[Patch, Rect, bool]) -> None:
            patch, part, within = job
            top, left = part.top - rect.top, part.left - rect.left
            source = slice(top, top + part.height), slice(left, left + part.width)
            within = within and (black or bool(valid_YX[source].all()))
            rows, cols = patch.window.slices_in(window)
            out_BYX = made.counts_BYX[:, rows, cols]
            places = self._places(patch, part)
            truth_YX = self._sampled(
                counts_YX4[source], valid_YX[source], places, out_BYX, whole=within
            )
            if black and out_BYX[1].min() == 0:  # what is green is not black
                truth_YX = truth_YX & out_BYX.any(axis=0)
            made.valid_YX[rows, cols] = truth_YX

        self._team.each(jobs, one)

    def _places(self, patch: Patch, part: Rect) -> tuple[Map, Map]:
        """Where a patch's (sub-)pixels are read: columns and rows of a part of the level."""
        choice = self._choice
        shape = patch.window.height * choice.finer, patch.window.width * choice.finer
        made = self._scratch.array("u", shape, "<f4"), self._scratch.array("v", shape, "<f4")
        self._positions.places(patch, choice.scale, choice.finer, (part.top, part.left), made)
        return made

    def _sampled(
        self,
        counts_YX4: NDArray[np.uint8],
        valid_YX: NDArray[np.bool_],
        places: tuple[Map, Map],
        out_BYX: NDArray[np.uint8],
        *,
        whole: bool,
    ) -> NDArray[np.bool_] | np.bool_:
        """Fills a patch's counts; its validity, in an array that the next call overwrites.

        Args:
            whole: all that is read is there and valid.
        """
        finer, shape = self._choice.finer, places[0].shape
        fine_YX4 = self._scratch.array("fine", (*shape, 4), "|u1")
        cv2.remap(counts_YX4, *places, cv2.INTER_LINEAR, fine_YX4, cv2.BORDER_REPLICATE)
        size = shape[0] // finer, shape[1] // finer
        mean_YX4 = fine_YX4
        if finer > 1:
            mean_YX4 = self._scratch.array("mean", (*size, 4), "|u1")
            cv2.resize(fine_YX4, size[::-1], mean_YX4, interpolation=cv2.INTER_AREA)
        truth_YX: NDArray[np.bool_] | np.bool_ = np.True_
        if not whole:
            fine_truth_YX = mended(fine_YX4, counts_YX4, valid_YX, places)
            truth_YX = averaged(mean_YX4, fine_YX4, fine_truth_YX, finer)
        cv2.split(mean_YX4, [*out_BYX, self._scratch.askew("fourth", out_BYX[0])])
        return truth_YX


def mended(
    fine_YX4: NDArray[np.uint8],
    counts_YX4: NDArray[np.uint8],
    valid_YX: NDArray[np.bool_],
    places: tuple[Map, Map],
) -> NDArray[np.bool_]:
    """Takes what is invalid out of interpolated counts, in place; True where the nearest is valid.

    Every product is exact in single precision (8 bits of position each way, 8 of counts),
    so that a pixel with four valid neighbours keeps the counts it had.
    """
    known_YX = valid_YX.astype(np.float32)
    weight_YX = _zero_outside(known_YX, places, cv2.INTER_LINEAR)
    part_YX = (weight_YX > 0) & (weight_YX < 1)
    if part_YX.any():
        seen_YX4 = counts_YX4 * known_YX[..., None]
        sum_YX4 = _zero_outside(seen_YX4, places, cv2.INTER_LINEAR)
        fine_YX4[part_YX] = np.rint(sum_YX4[part_YX] / weight_YX[part_YX][:, None])
    tie = np.float32(NEAREST_TIE / STEPS)
    nearest = places[0] + tie, places[1] + tie
    truth_YX: NDArray[np.bool_] = (
        _zero_outside(valid_YX.view(np.uint8), nearest, cv2.INTER_NEAREST) > 0
    )
    fine_YX4[~truth_YX] = 0
    return truth_YX


def _zero_outside(values: NDArray[Any], places: tuple[Map, Map], how: int) -> NDArray[Any]:
    found: NDArray[Any] = cv2.remap(
        values, *places, how, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    return found


def averaged(
    mean_YX4: NDArray[np.uint8],
    fine_YX4: NDArray[np.uint8],
    fine_truth_YX: NDArray[np.bool_],
    finer: int,
) -> NDArray[np.bool_]:
    """Means over the valid places of each pixel, in place; True where half of them are valid."""
    if finer == 1:
        return fine_truth_YX
    height, width = mean_YX4.shape[:2]
    blocks = (height, finer, width, finer)
    count_YX = fine_truth_YX.reshape(blocks).sum(axis=(1, 3))
    part_YX = count_YX < finer * finer
    sum_YX4 = fine_YX4.reshape(*blocks, 4).sum(axis=(1, 3), dtype=np.int64)
    truth_YX: NDArray[np.bool_] = 2 * count_YX >= finer * finer
    some_YX = np.maximum(count_YX, 1)[..., None]
    mean_YX4[part_YX] = ((sum_YX4 + some_YX // 2) // some_YX)[part_YX]
    mean_YX4[~truth_YX] = 0
    return truth_YX


def _pieces(window: Window) -> list[Window]:
    """A window in equal parts that bound what is held of the scene at once."""
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


def _on_level(reach: tuple[int, int, int, int], level: Level) -> Rect | None:
    """What of a patch's reach lies on the level; None where nothing does."""
    top, left = max(reach[0], 0), max(reach[1], 0)
    bottom, right = min(reach[2], level.height), min(reach[3], level.width)
    if bottom <= top or right <= left:
        return None
    return Rect(top=top, left=left, height=bottom - top, width=right - left)


def _area(window: Window) -> int:
    return window.height * window.width


def _sides(reach: tuple[int, int, int, int]) -> tuple[int, int]:
    top, left, bottom, right = reach
    return bottom - top, right - left


def _around(rects: list[Rect]) -> Rect:
    """The smallest rectangle that holds all."""
    top, left = min(r.top for r in rects), min(r.left for r in rects)
    bottom = max(r.top + r.height for r in rects)
    right = max(r.left + r.width for r in rects)
    return Rect(top=top, left=left, height=bottom - top, width=right - left)
