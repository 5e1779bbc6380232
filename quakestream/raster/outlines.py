"""Finds the parts of polygons in a raster: groups of marked pixels with sums and outlines."""

from dataclasses import dataclass, replace

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy import ndimage

from quakestream.domain import Grid, Window
from quakestream.reduce.polygons import (
    AFTER,
    BEFORE,
    COLUMN_LINE,
    ROW_LINE,
    BorderRuns,
    PolygonParts,
    dissolved,
)

STEPS_NODATA = 255
"""Count of a pixel without a value."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredGround:
    """Scores of a rectangle of a grid, of which some pixels count."""

    grid: Grid
    window: Window
    ground_YX: NDArray[np.bool_]
    """True where a pixel belongs to this piece of ground. Beyond it, polygons may go on."""
    p_YX: NDArray[np.uint8]
    """Probability in steps."""
    deviation_YX: NDArray[np.uint8]
    """Standard deviation of the probability in steps."""
    slope_YX: NDArray[np.uint8]
    """Slope in steps. Each of the three has `STEPS_NODATA` where it has no value."""
    foreign_YX: NDArray[np.bool_] | None = None
    """True where the ground belongs to another zone, whose grid shows it; None: nowhere."""


def find_parts(scored: ScoredGround, threshold: int, least_pixels: int) -> PolygonParts:
    """The parts of polygons whose probability reaches a threshold, in steps.

    Parts that are smaller than `least_pixels` and reach no border are left out: no other part can
    make them larger.
    """
    marked_YX = scored.ground_YX & (scored.p_YX >= threshold) & (scored.p_YX != STEPS_NODATA)
    if scored.foreign_YX is not None:
        marked_YX &= ~scored.foreign_YX
    label_YX, count = ndimage.label(marked_YX)  # pixels that share a side
    if not count:
        return PolygonParts.empty()
    pixel_P = np.flatnonzero(label_YX)
    label_P = label_YX.reshape(-1)[pixel_P] - 1
    runs = _border_runs(label_YX, scored)
    foreign_N = _beside_foreign(label_YX, count, scored)
    keep_N = (np.bincount(label_P, minlength=count) >= least_pixels) | foreign_N
    keep_N[runs.part_T] = True
    kept = np.flatnonzero(keep_N)
    first_N = np.full(count, label_YX.size, np.int64)
    np.minimum.at(first_N, label_P, pixel_P)
    kept = kept[np.argsort(first_N[kept])]
    number_N = np.full(count, -1, np.int64)
    number_N[kept] = np.arange(len(kept))
    row_N, col_N = np.divmod(first_N[kept], label_YX.shape[1])
    sums = _sums(label_P, pixel_P, count, scored)
    return PolygonParts(
        zone_N=np.full(len(kept), scored.grid.epsg, np.int64),
        row_N=row_N + scored.window.row,
        col_N=col_N + scored.window.col,
        **{name: values_N[kept] for name, values_N in sums.items()},
        zone_edge_N=foreign_N[kept].astype(np.int64),
        outline_N=_outlines(label_YX, number_N, scored.window),
        runs=replace(runs, part_T=number_N[runs.part_T]).ordered(),
    )


def _sums(
    label_P: NDArray[np.int64], pixel_P: NDArray[np.int64], count: int, scored: ScoredGround
) -> dict[str, NDArray[np.int64]]:
    """Sums over the pixels of each label."""
    p_P, deviation_P, slope_P = (
        values_YX.reshape(-1)[pixel_P].astype(np.int64)
        for values_YX in (scored.p_YX, scored.deviation_YX, scored.slope_YX)
    )
    sloping_P = (slope_P != STEPS_NODATA).astype(np.int64)
    deviation_P = np.where(deviation_P == STEPS_NODATA, 0, deviation_P)
    largest_N = np.zeros(count, np.int64)
    np.maximum.at(largest_N, label_P, p_P)
    added = {
        "pixels_N": np.ones_like(p_P),
        "p_sum_N": p_P,
        "deviation_sum_N": deviation_P,
        "slope_sum_N": slope_P * sloping_P,
        "slope_pixels_N": sloping_P,
    }
    sums = {name: np.zeros(count, np.int64) for name in added}
    for name, value_P in added.items():
        np.add.at(sums[name], label_P, value_P)
    return {**sums, "p_max_N": largest_N}


def _border_runs(label_YX: NDArray[np.int32], scored: ScoredGround) -> BorderRuns:
    """Where labelled pixels touch the border of the ground, on its four sides."""
    ground_YX = np.pad(scored.ground_YX, 1)
    inner = slice(1, -1)
    sides = (
        (COLUMN_LINE, BEFORE, ground_YX[inner, 2:]),
        (COLUMN_LINE, AFTER, ground_YX[inner, :-2]),
        (ROW_LINE, BEFORE, ground_YX[2:, inner]),
        (ROW_LINE, AFTER, ground_YX[:-2, inner]),
    )
    found = []
    for direction, side, neighbour_YX in sides:
        edge_YX = np.where(neighbour_YX, 0, label_YX)
        across_YX = edge_YX if direction == ROW_LINE else edge_YX.T
        first = (scored.window.row, scored.window.col)
        corner = first if direction == ROW_LINE else first[::-1]
        found.append(_runs(across_YX, corner, scored.grid.epsg, direction, side))
    return BorderRuns.of(found, [0] * len(found))


def _runs(
    label_YX: NDArray[np.int32], corner: tuple[int, int], epsg: int, direction: int, side: int
) -> BorderRuns:
    """Runs of equal labels along the rows of an array.

    Args:
        corner: the line and the position of the array's first pixel on the grid.
    """
    line_P, place_P = np.nonzero(label_YX)
    part_P = label_YX[line_P, place_P].astype(np.int64) - 1
    new_P = np.ones(len(line_P), np.bool_)
    new_P[1:] = (
        (line_P[1:] != line_P[:-1])
        | (place_P[1:] != place_P[:-1] + 1)
        | (part_P[1:] != part_P[:-1])
    )
    starts = np.flatnonzero(new_P)
    ends = np.append(starts[1:], len(line_P)) - 1 if len(starts) else starts
    count = len(starts)
    return BorderRuns(
        part_T=part_P[starts],
        zone_T=np.full(count, epsg, np.int64),
        direction_T=np.full(count, direction, np.int64),
        line_T=line_P[starts].astype(np.int64) + corner[0] + (side == BEFORE),
        side_T=np.full(count, side, np.int64),
        start_T=place_P[starts].astype(np.int64) + corner[1],
        stop_T=place_P[ends].astype(np.int64) + corner[1] + 1,
    )


def _beside_foreign(
    label_YX: NDArray[np.int32], count: int, scored: ScoredGround
) -> NDArray[np.bool_]:
    """True for labels that share a pixel side with ground of another zone."""
    beside_N = np.zeros(count + 1, np.bool_)
    if scored.foreign_YX is not None and scored.foreign_YX.any():
        near_YX = ndimage.binary_dilation(scored.foreign_YX)
        beside_N[np.unique(label_YX[near_YX])] = True
    return beside_N[1:]


def _outlines(
    label_YX: NDArray[np.int32], number_N: NDArray[np.int64], window: Window
) -> NDArray[np.object_]:
    """Polygons of the labels that have a number, in columns and rows of the grid."""
    outline_N = np.empty(int(number_N.max(initial=-1)) + 1, object)
    wanted_YX = np.concatenate([[-1], number_N])[label_YX] >= 0
    place = Affine.translation(window.col, window.row)
    found = shapes(label_YX.astype(np.int32), wanted_YX, connectivity=4, transform=place)
    for geometry, label in found:
        shell, *holes = geometry["coordinates"]
        whole = shapely.union_all([shapely.Polygon(shell, holes)])
        outline_N[number_N[int(label) - 1]] = dissolved(np.array([whole], object))
    return outline_N
