"""Reads bands of one file as physical values by the hot path: any number of bands of any dtype.

Blocks, their cache, prefetches and positions are those of colour scenes. Pixels are interpolated
in double precision: weights are multiples of 1/65,536, so that counts of 16 bits give the same sum
in any order and a pixel has the same value in every window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import rasterio
from numpy.typing import NDArray

from quakestream.domain import Grid, SceneLayer, Window
from quakestream.errors import SceneError, StorageError
from quakestream.raster.cog.block_plan import BlockPart, Rect
from quakestream.raster.cog.blocks import BlockReader
from quakestream.raster.cog.layout import CogLayout, NotCoveredError
from quakestream.raster.cog.places import BlockTask, SamplePlace
from quakestream.raster.cog.positions import STEPS, Map, Positions, WindowPart
from quakestream.raster.cog.resample import (
    NEAREST_TIE,
    LevelChoice,
    choose_level,
    on_level,
    pieces,
)
from quakestream.raster.cog.resample import (
    around as around_rects,
)
from quakestream.raster.cog.source import FileRaster
from quakestream.raster.cog.workers import Team
from quakestream.raster.messages import reason_of
from quakestream.raster.source import is_aligned, whole_offset
from quakestream.raster.values import ValueReader, Values, is_valid, physical
from quakestream.storage import StorageOptions
from quakestream.storage.fetchers import open_fetcher

WHOLE_FILE = LevelChoice(index=0, scale=(1.0, 1.0), finer=1)


class CogValues:
    """Bands of one file on one grid. Safe to read from several threads.

    Args:
        layers: bands of the file.
        nearest: takes the nearest pixel, for classes; else pixels are averaged or interpolated.
        team: threads and blocks that it shares with other sources.

    Raises:
        NotCoveredError: if the hot path cannot read the file on this grid.
    """

    def __init__(
        self,
        layers: Sequence[SceneLayer],
        grid: Grid,
        layout: CogLayout,
        options: StorageOptions,
        *,
        nearest: bool,
        team: Team,
    ) -> None:
        self._layers, self._grid, self._layout = layers, grid, layout
        self._options, self._nearest, self._team = options, nearest, team
        self._href = layers[0].file.href
        first = layout.levels[0]
        if not layout.crs_wkt:
            raise NotCoveredError("image has no CRS", self._href)
        if layout.masks or np.dtype(first.coding.dtype).kind not in "uif":
            raise NotCoveredError("counts or masks are not supported", self._href)
        self._raster = FileRaster(layout.transform, first.height, first.width)
        same = rasterio.CRS.from_wkt(layout.crs_wkt) == rasterio.CRS.from_epsg(grid.epsg)
        self._aligned = same and is_aligned(self._raster, grid)
        if not self._aligned:
            self._positions, self._choice = self._resampling()

    def _resampling(self) -> tuple[Positions, LevelChoice]:
        shape = self._raster.height, self._raster.width
        try:
            positions = Positions(self._grid, self._layout.crs_wkt, self._raster.transform, shape)
        except SceneError as error:
            raise NotCoveredError(reason_of(error), self._href) from error
        choice = WHOLE_FILE if self._nearest else choose_level(self._layout, positions.ratio)
        if choice is None:
            ratio = f"{positions.ratio:.1f} times finer than the grid"
            raise NotCoveredError(f"image is {ratio} and has no overview near it", self._href)
        return positions, choice

    def __enter__(self) -> Self:
        try:
            self._fetcher = open_fetcher(self._href, self._options)
        except StorageError as error:
            raise SceneError.of(error.problem) from error
        self._blocks = BlockReader(self._layout, self._fetcher, name="", team=self._team)
        return self

    def __exit__(self, *_: object) -> None:
        self._fetcher.close()

    @property
    def seamless(self) -> bool:
        return True

    def read(self, window: Window) -> Values:
        shape = len(self._layers), *window.shape
        out = Values(value_BYX=np.zeros(shape, np.float32), valid_BYX=np.zeros(shape, np.bool_))
        if self._aligned:
            self._copy(window, out)
            return out
        for piece in pieces(window):
            self._resample(piece, window, out)
        return out

    def prefetch(self, *windows: Window) -> None:
        level = 0 if self._aligned else self._choice.index
        parts: list[BlockPart] = []
        for window in windows:
            for rect in self._rects(window):
                parts += self._blocks.parts(level, rect, self._planes(level))
        self._blocks.prefetch(parts, [], planar=False)

    def _rects(self, window: Window) -> list[Rect]:
        """Pixels of the level that a window needs."""
        if self._aligned:
            found = self._overlap(window)
            return [] if found is None else [found[0]]
        jobs = [self._jobs(piece) for piece in pieces(window)]
        return [around_rects([job.rect for job in some]) for some in jobs if some]

    def _overlap(self, window: Window) -> tuple[Rect, Window] | None:
        """The file's pixels inside a window, and where they lie on the grid."""
        row, col = whole_offset(self._raster.transform, self._grid)
        height, width = self._raster.height, self._raster.width
        inside = window.shared(Window(row=row, col=col, height=height, width=width))
        if inside.height == 0 or inside.width == 0:
            return None
        top, left = inside.row - row, inside.col - col
        return Rect(top=top, left=left, height=inside.height, width=inside.width), inside

    def _copy(self, window: Window, out: Values) -> None:
        """Fills a window with the file's own pixels."""
        found = self._overlap(window)
        if found is None:
            return
        rect, inside = found
        rows, cols = inside.slices_in(window)
        stored = self._stored(0, rect)
        for n, layer in enumerate(self._layers):
            stored_YX = stored[layer.band - 1]
            value_YX, valid_YX = physical(stored_YX, is_valid(stored_YX, layer.nodata), layer)
            out.value_BYX[n, rows, cols], out.valid_BYX[n, rows, cols] = value_YX, valid_YX

    def _jobs(self, piece: Window) -> "list[_Job]":
        jobs = []
        level = self._layout.levels[self._choice.index]
        for part in self._positions.parts(piece):
            bounds = self._positions.source_bounds(part, self._choice.scale)
            rect = on_level(bounds, level)
            if rect is not None:
                jobs.append(_Job(part=part, rect=rect))
        return jobs

    def _resample(self, piece: Window, window: Window, out: Values) -> None:
        """Reads the level under a piece and resamples it part by part."""
        jobs = self._jobs(piece)
        if not jobs:
            return
        rect = around_rects([job.rect for job in jobs])
        stored = self._stored(self._choice.index, rect)
        counts = {s: np.where(np.isfinite(c), c, 0) for s, c in stored.items()}
        valid = {n: is_valid(stored[x.band - 1], x.nodata) for n, x in enumerate(self._layers)}
        for job in jobs:
            rows, cols = job.part.window.slices_in(window)
            near = self._neighbours(job.part, rect)
            for n, layer in enumerate(self._layers):
                count_YX, valid_YX = self._sample(near, counts[layer.band - 1], valid[n])
                value_YX, _ = physical(count_YX, valid_YX, layer)
                out.value_BYX[n, rows, cols], out.valid_BYX[n, rows, cols] = value_YX, valid_YX

    def _sample(
        self, around: "_Neighbours", count_YX: NDArray[Any], valid_YX: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Counts and validity at positions, averaged over those of a grid pixel."""
        if self._nearest:
            return around.nearest(count_YX).astype(np.float64), around.ground(valid_YX)
        ground_YX = around.ground(valid_YX)
        fine_YX = np.where(ground_YX, interpolated(around, count_YX, valid_YX), 0.0)
        finer = self._choice.finer
        if finer == 1:
            return fine_YX, ground_YX
        places = [(y, x) for y in range(finer) for x in range(finer)]
        total_YX = sum_of([fine_YX[y::finer, x::finer] for y, x in places])
        seen_YX = sum_of([ground_YX[y::finer, x::finer].astype(np.float64) for y, x in places])
        return total_YX / np.maximum(seen_YX, 1.0), 2 * seen_YX >= finer * finer

    def _neighbours(self, part: WindowPart, rect: Rect) -> "_Neighbours":
        finer = self._choice.finer
        shape = part.window.height * finer, part.window.width * finer
        maps = np.empty(shape, np.float32), np.empty(shape, np.float32)
        origin = rect.top, rect.left
        self._positions.sample_positions(part, self._choice.scale, finer, origin, maps)
        return neighbours(maps, (rect.height, rect.width))

    def _planes(self, level: int) -> list[int]:
        if not self._layout.levels[level].planar:
            return [0]
        return sorted({layer.band - 1 for layer in self._layers})

    def _stored(self, level: int, rect: Rect) -> dict[int, NDArray[Any]]:
        """Counts of the bands that are read, by index, each (y, x)."""
        image = self._layout.levels[level]
        dtype = np.dtype(image.coding.dtype).newbyteorder("=")
        shape = rect.height, rect.width
        planes = {layer.band - 1: np.empty(shape, dtype) for layer in self._layers}
        place = SamplePlace(planes, planes_apart=image.planar)
        parts = self._blocks.parts(level, rect, self._planes(level))
        self._blocks.read([BlockTask(part, place) for part in parts])
        return planes


_: type[ValueReader] = CogValues


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A part of a window, and the pixels of the level that it needs."""

    part: WindowPart
    rect: Rect


class _Neighbours(Protocol):
    """The pixels around positions. Weights are 0 outside the array."""

    def ground(self, valid_YX: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """True where the nearest pixel exists and is valid."""
        ...

    def nearest(self, count_YX: NDArray[Any]) -> NDArray[Any]:
        """Counts of the nearest pixels; any count outside."""
        ...

    def weighted(self, count_YX: NDArray[Any]) -> NDArray[np.float64]:
        """Sums over the four pixels around each position, by their bilinear weights."""
        ...

    def total(self) -> NDArray[np.float64]:
        """Sums of those weights."""
        ...


def neighbours(maps: tuple[Map, Map], shape: tuple[int, int]) -> _Neighbours:
    """The pixels around positions (columns, rows) in an array of a shape (height, width).

    Where the axes of grid and file are parallel, rows and columns are taken one after the other,
    which takes a third of the time.
    """
    u_YX, v_YX = maps
    if np.array_equal(u_YX[0], u_YX[-1]) and np.array_equal(v_YX[:, 0], v_YX[:, -1]):
        return ParallelAxes(
            rows=AxisPixels.of(v_YX[:, 0], shape[0]), cols=AxisPixels.of(u_YX[0], shape[1])
        )
    return Corners.of(maps, shape)


def interpolated(
    around: _Neighbours, count_YX: NDArray[Any], valid_YX: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Bilinear means over valid pixels; 0 where there are none."""
    if valid_YX.all():
        total_YX = around.weighted(count_YX)
        weight_YX = around.total()
    else:
        total_YX = around.weighted(np.where(valid_YX, count_YX, 0))
        weight_YX = around.weighted(valid_YX.astype(np.float64))
    return np.divide(total_YX, weight_YX, out=np.zeros_like(total_YX), where=weight_YX > 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AxisPixels:
    """The two pixels around each position on one axis, and the nearest one."""

    low_P: NDArray[np.int64]
    high_P: NDArray[np.int64]
    low_weight_P: NDArray[np.float64]
    high_weight_P: NDArray[np.float64]
    near_P: NDArray[np.int64]
    inside_P: NDArray[np.bool_]
    """True where the nearest pixel exists."""

    @classmethod
    def of(cls, position_P: NDArray[np.float32], length: int) -> Self:
        low_P = np.floor(position_P).astype(np.int64)
        share_P = position_P.astype(np.float64) - low_P
        near_P = np.floor(position_P + np.float32(NEAREST_TIE / STEPS + 0.5)).astype(np.int64)

        def there(index_P: NDArray[np.int64]) -> NDArray[np.bool_]:
            return np.asarray((index_P >= 0) & (index_P < length), np.bool_)

        return cls(
            low_P=low_P.clip(0, length - 1),
            high_P=(low_P + 1).clip(0, length - 1),
            low_weight_P=(1 - share_P) * there(low_P),
            high_weight_P=share_P * there(low_P + 1),
            near_P=near_P.clip(0, length - 1),
            inside_P=there(near_P),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParallelAxes:
    """Positions that form a grid along the rows and columns of the array."""

    rows: AxisPixels
    cols: AxisPixels

    def ground(self, valid_YX: NDArray[np.bool_]) -> NDArray[np.bool_]:
        inside_YX = self.rows.inside_P[:, None] & self.cols.inside_P
        return np.asarray(self.nearest(valid_YX) & inside_YX, np.bool_)

    def nearest(self, count_YX: NDArray[Any]) -> NDArray[Any]:
        return count_YX[self.rows.near_P][:, self.cols.near_P]

    def weighted(self, count_YX: NDArray[Any]) -> NDArray[np.float64]:
        rows, cols = self.rows, self.cols
        row_YX = count_YX[rows.low_P] * rows.low_weight_P[:, None]
        row_YX += count_YX[rows.high_P] * rows.high_weight_P[:, None]
        sum_YX: NDArray[np.float64] = row_YX[:, cols.low_P] * cols.low_weight_P
        sum_YX += row_YX[:, cols.high_P] * cols.high_weight_P
        return sum_YX

    def total(self) -> NDArray[np.float64]:
        rows, cols = self.rows, self.cols
        return np.multiply.outer(
            rows.low_weight_P + rows.high_weight_P, cols.low_weight_P + cols.high_weight_P
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corners:
    """Positions anywhere: the four pixels around each, with their weights."""

    flat: tuple[NDArray[np.int64], ...]
    """Flat indices of the upper left, upper right, lower left and lower right pixel, (y, x)."""
    weight: tuple[NDArray[np.float64], ...]
    near_YX: NDArray[np.int64]
    """Flat index of the nearest pixel; -1 outside."""

    @classmethod
    def of(cls, maps: tuple[Map, Map], shape: tuple[int, int]) -> Self:
        """Corners of positions (columns, rows) in an array of a shape (height, width)."""
        width = shape[1]
        cols, rows = (
            AxisPixels.of(positions.reshape(-1), length)
            for positions, length in zip(maps, shape[::-1], strict=True)
        )
        size = maps[0].shape
        flat, weight = [], []
        for row_P, row_weight_P in (
            (rows.low_P, rows.low_weight_P),
            (rows.high_P, rows.high_weight_P),
        ):
            for col_P, col_weight_P in (
                (cols.low_P, cols.low_weight_P),
                (cols.high_P, cols.high_weight_P),
            ):
                flat.append((row_P * width + col_P).reshape(size))
                weight.append((row_weight_P * col_weight_P).reshape(size))
        near_P = np.where(rows.inside_P & cols.inside_P, rows.near_P * width + cols.near_P, -1)
        return cls(flat=tuple(flat), weight=tuple(weight), near_YX=near_P.reshape(size))

    def ground(self, valid_YX: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.asarray((self.near_YX >= 0) & valid_YX.reshape(-1)[self.near_YX], np.bool_)

    def nearest(self, count_YX: NDArray[Any]) -> NDArray[Any]:
        return count_YX.reshape(-1)[self.near_YX]

    def weighted(self, count_YX: NDArray[Any]) -> NDArray[np.float64]:
        count_P = count_YX.reshape(-1)
        parts = [w * count_P[i] for w, i in zip(self.weight, self.flat, strict=True)]
        return sum_of(parts)

    def total(self) -> NDArray[np.float64]:
        return sum_of(self.weight)


_corners: type[_Neighbours] = Corners
_parallel: type[_Neighbours] = ParallelAxes


def sum_of(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The sum of arrays, added in their order."""
    total = arrays[0].copy()
    for array in arrays[1:]:
        total += array
    return total
