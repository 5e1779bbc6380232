"""Measures how far the pre image lies off the post image, on nodes fixed to the grid.

Grey values of two dates hardly correlate, since sun, season and damage change them. Directions of
edges do correlate (Fitch et al. 2002, orientation correlation). Summing the correlation surfaces
of neighbouring nodes brings out their common shift, as their noise differs. On real pairs of
Türkiye 2023 the peak of one 512 px node alone is noise (5-50 px). The summed surfaces of the west
and the east half of a pair agree within 4 m (five pairs, a test).
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
from quakestream.raster.pasting import open_reference
from quakestream.raster.source import Pixels, RasterSource
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
LOCAL_M = 5
"""Largest difference between the shifts of a node and its pair."""
AROUND_M = 16
"""Distance around the pair's shift within which a node's peak is compared with its rivals."""
MIN_PEAK = 5.5
"""Least height of a reliable peak, standard deviations of its surface."""
MIN_RATIO = 1.35
"""Least ratio of a reliable peak to the best rival outside the pair's spread."""
SPREAD_M = 10
"""Spread of the shifts of a pair's nodes, which relief and off-nadir views cause."""
MIN_VALID = 0.5
"""Least share of valid pixels in a node."""
REACH = int(REACH_M / NODE_GSD_M)
NEAR = slice(REACH - int(BOUND_M) - AROUND_M, REACH + int(BOUND_M) + AROUND_M + 1)
"""Part of a node's surface that matters for a pair within the bound."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairShifts:
    """Shifts of one pair. They depend on the pair and the position, never on a cell."""

    pair: Shift
    """Shift that the nodes agree on, pixels of `grid` (1 m)."""
    refused: bool
    """True if the nodes agree on more than 10 m."""
    grid: Grid
    nodes: dict[tuple[int, int], tuple[float, float, float]]
    """(rows, cols, quality) by node (row, col), shifts in metres."""

    def at(self, grid: Grid, window: Window) -> Shift:
        """The shift of a window of a grid in the same UTM zone, in pixels of that grid."""
        scale = grid.gsd_m / self.grid.gsd_m
        row_m = (window.row + window.height / 2) * scale
        col_m = (window.col + window.width / 2) * scale
        key = (int((row_m - STRIDE_PX / 2) // STRIDE_PX), int((col_m - STRIDE_PX / 2) // STRIDE_PX))
        rows_m, cols_m, quality = self.nodes.get(
            key, (self.pair.rows, self.pair.cols, self.pair.quality / 2)
        )
        return Shift(
            rows=round(rows_m / grid.gsd_m), cols=round(cols_m / grid.gsd_m), quality=quality
        )


def find_shifts(
    post: Scene, pre: Scene, grid: Grid, area: Window, options: StorageOptions
) -> PairShifts:
    """Measures a pair's shifts over an area (pixels of `grid`, 1 m GSD).

    A node gets the shift of the smallest neighbourhood whose summed surface has a clear peak near
    the pair's shift. Without such a peak it gets the pair's shift. A pair without a clear peak
    gets zero with quality 0 and is not refused.
    """
    sum_YX: NDArray[np.float64] = np.zeros((2 * REACH + 1, 2 * REACH + 1))
    near: dict[tuple[int, int], NDArray[np.float16]] = {}
    for key, surface_YX in _surfaces(post, pre, grid, area, options):
        sum_YX += surface_YX
        near[key] = surface_YX[NEAR, NEAR].astype(np.float16)  # only 6 kB a node stay in memory
    if not near:
        return PairShifts(pair=Shift(), refused=False, grid=grid, nodes={})
    rows, cols, peak, ratio = _peak(_standard(sum_YX.astype(np.float32)), SPREAD_M)
    sure = peak >= MIN_PEAK and ratio >= MIN_RATIO
    distance_m = float(np.hypot(rows, cols)) * NODE_GSD_M
    if not sure or distance_m > BOUND_M:
        refused = bool(sure)
        shift = Shift(rows=round(rows), cols=round(cols), quality=_quality(ratio))
        return PairShifts(pair=shift if refused else Shift(), refused=refused, grid=grid, nodes={})
    return PairShifts(
        pair=Shift(rows=round(rows), cols=round(cols), quality=_quality(ratio)),
        refused=False,
        grid=grid,
        nodes=_nodes(near, (rows, cols), _quality(ratio)),
    )


def _nodes(
    surfaces: dict[tuple[int, int], NDArray[np.float16]], pair: tuple[float, float], quality: float
) -> dict[tuple[int, int], tuple[float, float, float]]:
    top, left = round(pair[0]) + int(BOUND_M), round(pair[1]) + int(BOUND_M)
    span = 2 * AROUND_M + 1
    near = {key: s[top : top + span, left : left + span] for key, s in surfaces.items()}
    nodes = {}
    for row, col in near:
        nodes[row, col] = (pair[0] * NODE_GSD_M, pair[1] * NODE_GSD_M, quality / 2)
        for radius in (1, 2, 4):
            rows, cols, _, ratio = _peak(_standard(_neighbourhood(near, row, col, radius)), LOCAL_M)
            if ratio >= MIN_RATIO and max(abs(rows), abs(cols)) <= LOCAL_M:
                rows_m = (round(pair[0]) + rows) * NODE_GSD_M
                cols_m = (round(pair[1]) + cols) * NODE_GSD_M
                nodes[row, col] = (rows_m, cols_m, _quality(ratio))
                break
    return nodes


def _neighbourhood(
    near: dict[tuple[int, int], NDArray[np.float16]], row: int, col: int, radius: int
) -> NDArray[np.float32]:
    span = range(-radius, radius + 1)
    keys = [(row + r, col + c) for r in span for c in span]
    surfaces = [near[k] for k in keys if k in near]
    return np.asarray(np.sum(surfaces, axis=0, dtype=np.float32))


def _surfaces(
    post: Scene, pre: Scene, grid: Grid, area: Window, options: StorageOptions
) -> Iterator[tuple[tuple[int, int], NDArray[np.float32]]]:
    """The correlation surface of each node, for shifts up to REACH_M.

    Nodes are read in strips of columns, and row by row in a strip. Strips end at columns that
    are fixed to the grid, which bounds the memory. Threads work on neighbouring rows; the
    surfaces come in the order of the rows.
    """
    first, last = area.row // STRIDE_PX - 1, (area.row_end - 1) // STRIDE_PX
    left, right = area.col // STRIDE_PX - 1, (area.col_end - 1) // STRIDE_PX
    strips = [
        range(max(left, band * STRIP_NODES), min(right, (band + 1) * STRIP_NODES - 1) + 1)
        for band in range(left // STRIP_NODES, right // STRIP_NODES + 1)
    ]
    with (
        open_reference(post, grid, options) as post_source,
        open_reference(pre, grid, options) as pre_source,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        pair = _Pair(sources=(post_source, pre_source), lock=Lock())
        for cols in strips:
            bands = _map(pool, partial(pair.band, cols=cols), range(first, last + 2))
            rows = (
                partial(_row_surfaces, row, cols, above, below)
                for row, (above, below) in zip(range(first, last + 1), pairwise(bands), strict=True)
            )
            for surfaces in _map(pool, _call, rows):
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


def _row_surfaces(
    row: int, cols: range, above: Edges, below: Edges
) -> list[tuple[tuple[int, int], NDArray[np.float32]]]:
    """The surfaces of a row of nodes, from the two bands under it."""
    post_YX, pre_YX = (np.concatenate(halves) for halves in zip(above, below, strict=True))
    valid_X = np.count_nonzero(post_YX.astype(np.bool_) & pre_YX.astype(np.bool_), axis=0)
    surfaces = []
    for n, col in enumerate(cols):
        cut = slice(n * STRIDE_PX, n * STRIDE_PX + NODE_PX)
        if valid_X[cut].mean() >= MIN_VALID * NODE_PX:
            surfaces.append(((row, col), _correlation(pre_YX[:, cut], post_YX[:, cut])))
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
    grey_YX = pixels.counts_BYX.mean(axis=0, dtype=np.float32)
    grey_YX = cv2.GaussianBlur(grey_YX, (0, 0), SMOOTH_PX, borderType=cv2.BORDER_REFLECT)
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


def _quality(ratio: float) -> float:
    return float(np.clip((ratio - 1.0) / 2.0, 0.0, 1.0))
