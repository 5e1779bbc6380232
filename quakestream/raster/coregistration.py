"""Measures how far the pre image lies off the post image, on nodes fixed to the grid.

Grey values of two dates hardly correlate, since sun, season and damage change them. Directions of
edges do correlate (Fitch et al. 2002, orientation correlation). Summing the correlation surfaces
of neighbouring nodes brings out their common shift, as their noise differs. On real pairs of
Türkiye 2023 the peak of one 512 px node alone is noise (5-50 px). Nodes are therefore judged
together (`shift_field`). The west and the east half of a pair agree within 4 m (a test).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from threading import Lock
from typing import TypeVar

import cv2
import numpy as np
import scipy.fft
import scipy.ndimage as ndi
from numpy.typing import NDArray

from quakestream.domain import Grid, Scene, Shift, Window
from quakestream.errors import ReadError
from quakestream.raster.pasting import open_reference
from quakestream.raster.patchy import PatchySource
from quakestream.raster.shift_field import SIDE, evidence, node_weight, shift_field
from quakestream.raster.source import FULL_M2, Pixels, RasterSource, full_or_overviews
from quakestream.storage import StorageOptions

T = TypeVar("T")
R = TypeVar("R")
NODE_GSD_M = 1.0
NODE_PX = 256
"""Side of a node, pixels of 1 m."""
STRIDE_PX = 128
"""Distance between neighbouring nodes."""
STRIP_NODES = 32
"""Nodes of a row that are read at once."""
EDGE_REACH_PX = 8
"""Margin of a read: the edge and validity of a pixel depend on fewer pixels around it."""
SMOOTH_PX = 1.0
"""Standard deviation of the blur before edges are computed."""
RIM_PX = 4
"""Width of the rim around invalid pixels in which edges are ignored."""
THREADS = 2
"""Threads for each pair. Several pairs are measured side by side."""
BOUND_M = 10.0
"""Largest shift of a pair. A pair whose nodes agree on a larger one is refused as misaligned."""
REACH_M = 64.0
"""Largest shift that is searched for a whole pair, to tell a refused pair from noise."""
MIN_PEAK = 5.5
"""Least height of the peak of a refused pair, standard deviations of its surface."""
MIN_RATIO = 1.35
"""Least ratio of the peak of a refused pair to the best rival outside the pair's spread."""
SPREAD_M = 10
"""Spread of the shifts of a pair's nodes, which relief and off-nadir views cause."""
LUMA_B = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in brightness. JPEG keeps brightness and thins out colour, which
decoders bring back in different ways."""
REACH = int(REACH_M / NODE_GSD_M)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairShifts:
    """Shifts of one pair. They depend on the pair and the position, never on a cell."""

    pair: Shift
    """Mean shift of the nodes, or the shift a refused pair agrees on, pixels of `grid` (1 m)."""
    refused: bool
    """True if the nodes agree on more than 10 m."""
    grid: Grid
    first: tuple[int, int]
    """(row, col) of the first node, in nodes of `grid`."""
    node_IL3: NDArray[np.float32]
    """(rows, cols, quality) of a rectangle of nodes, shifts in metres; empty where refused or
    where the scenes share no ground. See `shift_field` for what quality means."""

    def at(self, grid: Grid, window: Window) -> Shift:
        """The shift of a window of a grid in the same UTM zone, in pixels of that grid.

        It is interpolated between the nodes around the window's middle.
        """
        if not self.node_IL3.size:
            return Shift()
        scale = grid.gsd_m / self.grid.gsd_m
        row = (window.row + window.height / 2) * scale / STRIDE_PX - 1 - self.first[0]
        col = (window.col + window.width / 2) * scale / STRIDE_PX - 1 - self.first[1]
        rows_m, cols_m, quality = self._between(row, col)
        return Shift(
            rows=round(rows_m / grid.gsd_m), cols=round(cols_m / grid.gsd_m), quality=quality
        )

    def _between(self, row: float, col: float) -> list[float]:
        """The values at a place between nodes (bilinear), or at the nearest edge."""
        rows, cols = self.node_IL3.shape[:2]
        row, col = min(max(row, 0.0), rows - 1.0), min(max(col, 0.0), cols - 1.0)
        top, left = min(int(row), max(rows - 2, 0)), min(int(col), max(cols - 2, 0))
        part_IL3 = self.node_IL3[top : top + 2, left : left + 2].astype(np.float64)
        line_L3 = part_IL3[0] + (row - top) * (part_IL3[-1] - part_IL3[0])
        return list((line_L3[0] + (col - left) * (line_L3[-1] - line_L3[0])).tolist())


def find_shifts(
    post: Scene, pre: Scene, grid: Grid, area: Window, options: StorageOptions
) -> PairShifts:
    """Measures a pair's shifts over an area (pixels of `grid`, 1 m GSD).

    Where the scenes say nothing, shifts are near zero and so is their quality. A pair is refused
    only if its nodes together have one clear peak, and it lies beyond the bound.

    Raises:
        SceneError: if a scene cannot be opened.
        ReadError: if a part of it did not arrive, neither at full resolution nor from overviews.
    """
    ground_m2 = area.height * area.width * NODE_GSD_M**2
    reading = partial(_Reading, post=post, pre=pre, grid=grid, options=options)
    try:
        return full_or_overviews(
            lambda overviews: _measured(reading(overviews=overviews), area), ground_m2
        )
    except ReadError:
        return _measured(reading(overviews=ground_m2 > FULL_M2, patchy=True), area)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Reading:
    """A pair and how it is read."""

    post: Scene
    pre: Scene
    grid: Grid
    options: StorageOptions
    overviews: bool
    patchy: bool = False
    """Blocks that are lost for good are missing ground and no error."""

    def opened(self, scene: Scene) -> RasterSource:
        source = open_reference(scene, self.grid, self.options, overviews=self.overviews)
        return PatchySource(source, scene, self.options) if self.patchy else source


def _measured(reading: _Reading, area: Window) -> PairShifts:
    grid = reading.grid
    rows, cols = _node_rows(area), _node_cols(area)
    first = rows.start, cols.start
    sum_YX: NDArray[np.float64] = np.zeros((2 * REACH + 1, 2 * REACH + 1))
    weight_IL: NDArray[np.float32] = np.zeros((len(rows), len(cols)), np.float32)
    evidence_ILYX = np.zeros((*weight_IL.shape, SIDE, SIDE), np.float16)
    for (row, col), valid, surface_YX in _surfaces(reading, area):
        at = row - first[0], col - first[1]
        weight_IL[at] = node_weight(valid)
        sum_YX += surface_YX * weight_IL[at]
        evidence_ILYX[at] = evidence(surface_YX, valid)  # only 2 kB a node stay in memory
    refused = _beyond_bound(sum_YX)
    node_IL3 = np.zeros((0, 0, 3), np.float32)
    if refused is None and weight_IL.any():
        node_IL3 = shift_field(evidence_ILYX)
        mean_3 = np.average(node_IL3.reshape(-1, 3), axis=0, weights=weight_IL.ravel())
        pair = Shift(rows=round(mean_3[0]), cols=round(mean_3[1]), quality=float(mean_3[2]))
    else:
        pair = refused or Shift()
    return PairShifts(
        pair=pair, refused=refused is not None, grid=grid, first=first, node_IL3=node_IL3
    )


def _beyond_bound(sum_YX: NDArray[np.float64]) -> Shift | None:
    """The shift of a pair that is to be refused."""
    rows, cols, peak, ratio = _peak(_standard(sum_YX.astype(np.float32)), SPREAD_M)
    if peak < MIN_PEAK or ratio < MIN_RATIO or np.hypot(rows, cols) * NODE_GSD_M <= BOUND_M:
        return None
    quality = float(np.clip((ratio - 1.0) / 2.0, 0.0, 1.0))
    return Shift(rows=round(rows), cols=round(cols), quality=quality)


def _node_rows(area: Window) -> range:
    return range(area.row // STRIDE_PX - 1, (area.row_end - 1) // STRIDE_PX + 1)


def _node_cols(area: Window) -> range:
    return range(area.col // STRIDE_PX - 1, (area.col_end - 1) // STRIDE_PX + 1)


NodeSurface = tuple[tuple[int, int], float, NDArray[np.float32]]
"""A node (row, col), the share of its pixels that both scenes show, its correlation surface."""


def _surfaces(reading: _Reading, area: Window) -> Iterator[NodeSurface]:
    """The correlation surface of each node that counts, for shifts up to REACH_M.

    Nodes are read in strips of columns, and row by row in a strip. Strips end at columns that
    are fixed to the grid, which bounds the memory. Threads work on neighbouring rows; the
    surfaces come in the order of the rows.
    """
    rows, cols = _node_rows(area), _node_cols(area)
    strips = [
        range(max(cols.start, band * STRIP_NODES), min(cols.stop, (band + 1) * STRIP_NODES))
        for band in range(cols.start // STRIP_NODES, (cols.stop - 1) // STRIP_NODES + 1)
    ]
    with (
        reading.opened(reading.post) as post_source,
        reading.opened(reading.pre) as pre_source,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        pair = _Pair(sources=(post_source, pre_source), lock=Lock())
        for strip in strips:
            halves = range(rows.start, rows.stop + 1)
            bands = _map(pool, partial(pair.band, cols=strip), halves)
            work = (
                partial(_row_surfaces, row, strip, above, below)
                for row, (above, below) in zip(rows, pairwise(bands), strict=True)
            )
            for surfaces in _map(pool, _call, work):
                yield from surfaces


Edges = tuple[NDArray[np.complex64], NDArray[np.complex64]]
"""Edges of the post image and of the pre image."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pair:
    """Two open scenes. One thread at a time reads from them."""

    sources: tuple[RasterSource, RasterSource]
    lock: Lock

    def band(self, row: int, cols: range) -> Edges:
        """Edges of STRIDE_PX rows of the grid. They do not depend on the window that is read."""
        inner = Window(
            row=row * STRIDE_PX,
            col=cols.start * STRIDE_PX,
            height=STRIDE_PX,
            width=(len(cols) - 1) * STRIDE_PX + NODE_PX,
        )
        outer = inner.grown(EDGE_REACH_PX)
        with self.lock:
            post, pre = (source.read(outer) for source in self.sources)
        part = inner.slices_in(outer)
        return _edges(post)[part], _edges(pre)[part]


def _row_surfaces(row: int, cols: range, above: Edges, below: Edges) -> list[NodeSurface]:
    """The surfaces of a row of nodes, from the two bands under it."""
    post_YX, pre_YX = (np.concatenate(halves) for halves in zip(above, below, strict=True))
    valid_X = np.count_nonzero(post_YX.astype(np.bool_) & pre_YX.astype(np.bool_), axis=0)
    surfaces = []
    for n, col in enumerate(cols):
        cut = slice(n * STRIDE_PX, n * STRIDE_PX + NODE_PX)
        valid = float(valid_X[cut].mean()) / NODE_PX
        if node_weight(valid) > 0:
            surfaces.append(((row, col), valid, _correlation(pre_YX[:, cut], post_YX[:, cut])))
    return surfaces


def _map(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Maps items in threads and keeps their order, with few items under way at a time."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > THREADS:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _call(work: Callable[[], R]) -> R:
    return work()


def _edges(pixels: Pixels) -> NDArray[np.complex64]:
    """Direction of the grey gradient as a complex number: small for weak edges, 0 if invalid."""
    light_YX = np.tensordot(LUMA_B, pixels.counts_BYX.astype(np.float32), axes=1)
    grey_YX = cv2.GaussianBlur(light_YX, (0, 0), SMOOTH_PX, borderType=cv2.BORDER_REFLECT)
    dy_YX, dx_YX = np.gradient(grey_YX)
    weight_YX = 1.0 / (np.sqrt(dx_YX * dx_YX + dy_YX * dy_YX) + np.float32(2.0))
    if not pixels.valid_YX.all():
        cross_YX = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        valid_YX = pixels.valid_YX.astype(np.uint8)
        border = cv2.BORDER_CONSTANT  # pixels outside the read count as invalid
        weight_YX *= cv2.erode(
            valid_YX, cross_YX, iterations=RIM_PX, borderType=border, borderValue=0
        )
    edge_YX = np.empty(grey_YX.shape, np.complex64)
    np.multiply(dx_YX, weight_YX, out=edge_YX.real)
    np.multiply(dy_YX, weight_YX, out=edge_YX.imag)
    return edge_YX


@cache
def _taper_YX() -> NDArray[np.float32]:
    """Hann window of a node. Its library is imported late, as that takes a second."""
    from skimage.filters import window

    taper_YX = window("hann", (NODE_PX, NODE_PX))  # type: ignore[no-untyped-call]
    return np.asarray(taper_YX, np.float32)


def _correlation(
    pre_YX: NDArray[np.complex64], post_YX: NDArray[np.complex64]
) -> NDArray[np.float32]:
    """Phase correlation for shifts within REACH_M. A peak at d means: pre(x + d) shows post(x)."""
    pre_spectrum = scipy.fft.fft2(pre_YX * _taper_YX())
    post_spectrum = scipy.fft.fft2(post_YX * _taper_YX())
    cross = pre_spectrum * np.conj(post_spectrum)
    size = np.sqrt(cross.real**2 + cross.imag**2)
    size += np.float32(1e-3) * size.mean() + np.float32(1e-12)
    cross *= np.reciprocal(size)  # dividing complex by real numbers takes eight times as long
    full_YX = scipy.fft.ifft2(cross, overwrite_x=True).real
    near = np.arange(-REACH, REACH + 1) % NODE_PX
    return _standard(full_YX[np.ix_(near, near)])


def _standard(surface_YX: NDArray[np.float32]) -> NDArray[np.float32]:
    deviation = float(surface_YX.std())
    return np.asarray((surface_YX - surface_YX.mean()) / (deviation or 1.0), np.float32)


def _peak(surface_YX: NDArray[np.float32], apart: int) -> tuple[float, float, float, float]:
    """The highest peak: (rows, cols) from the centre, height, and ratio to the best rival.

    Args:
        apart: least distance of a rival, pixels.
    """
    smooth_YX = _standard(ndi.gaussian_filter(surface_YX, 0.7))
    row, col = np.unravel_index(int(smooth_YX.argmax()), smooth_YX.shape)
    height = float(smooth_YX[row, col])
    rest_YX = smooth_YX.copy()
    rest_YX[max(row - apart, 0) : row + apart + 1, max(col - apart, 0) : col + apart + 1] = -np.inf
    rest = rest_YX[np.isfinite(rest_YX)]
    second = max(float(rest.max()) if rest.size else 1.0, 1.0)
    middle = np.array(smooth_YX.shape) // 2
    fine_row = _vertex(smooth_YX[:, col], int(row))
    fine_col = _vertex(smooth_YX[row, :], int(col))
    return fine_row - middle[0], fine_col - middle[1], height, height / second


def _vertex(values_N: NDArray[np.float32], at: int) -> float:
    """Position of the top of the parabola through a peak and its neighbours."""
    if not 0 < at < len(values_N) - 1:
        return float(at)
    before, here, after = (float(v) for v in values_N[at - 1 : at + 2])
    bend = before - 2 * here + after
    return at + (0.5 * (before - after) / bend if bend < 0 else 0.0)
