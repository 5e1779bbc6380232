"""Polygons of pixels from parts that were found cell by cell. Parts add up in any order.

Pixels belong together if they share a side (4-connectivity). Two that share a corner alone are two
polygons. A part is what one piece of ground holds of a polygon. It knows on which lines of the
grid it touches the border of that ground. Two parts are one polygon if they touch one line from
both sides along at least one pixel. The joined polygons are therefore those of the uncut ground,
however it was cut.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.errors import ShapeError

COLUMN_LINE, ROW_LINE = 0, 1
"""Directions of a line: between two columns of pixels, or between two rows."""
BEFORE, AFTER = 0, 1
"""Sides of a line: the pixels west or north of it, and those east or south of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BorderRuns:
    """T runs of pixels along lines of the grid, where parts touch the border of their ground."""

    part_T: NDArray[np.int64]
    """Index of the part."""
    zone_T: NDArray[np.int64]
    """EPSG code of the grid."""
    direction_T: NDArray[np.int64]
    line_T: NDArray[np.int64]
    """The line before this column or row of the grid."""
    side_T: NDArray[np.int64]
    start_T: NDArray[np.int64]
    stop_T: NDArray[np.int64]
    """First pixel along the line, and the one after the last."""

    def __len__(self) -> int:
        return len(self.part_T)

    @classmethod
    def empty(cls) -> "BorderRuns":
        return cls(**{field.name: np.empty(0, np.int64) for field in fields(cls)})

    @classmethod
    def of(cls, runs: "Sequence[BorderRuns]", first_part: Sequence[int]) -> "BorderRuns":
        """Runs one after the other, their parts numbered from `first_part`."""
        columns = {f.name: np.concatenate([getattr(r, f.name) for r in runs]) for f in fields(cls)}
        shift_T = np.repeat(np.array(first_part, np.int64), [len(r) for r in runs])
        return cls(**{**columns, "part_T": columns["part_T"] + shift_T})

    def taken(self, order: NDArray[Any]) -> "BorderRuns":
        """Chosen runs, by index or by mask."""
        return BorderRuns(**{f.name: getattr(self, f.name)[order] for f in fields(self)})

    def ordered(self) -> "BorderRuns":
        """The runs in one order, part by part."""
        keys = ("part_T", "zone_T", "direction_T", "line_T", "side_T", "start_T")
        return self.taken(np.lexsort(tuple(getattr(self, name) for name in reversed(keys))))

    def touching(self) -> NDArray[np.int64]:
        """Pairs of parts that touch one line from both sides, shape (A, 2)."""
        keys = (self.start_T, self.side_T, self.line_T, self.direction_T, self.zone_T)
        runs = self.taken(np.lexsort(keys))
        lines = np.stack([runs.zone_T, runs.direction_T, runs.line_T], axis=1)
        first_T = np.ones(len(runs), np.bool_)
        first_T[1:] = (lines[1:] != lines[:-1]).any(axis=1)
        base_T = (np.cumsum(first_T) - 1) * (2 * (int(runs.stop_T.max(initial=0)) + 1))
        before = np.flatnonzero(runs.side_T == BEFORE)
        after = np.flatnonzero(runs.side_T == AFTER)
        start_T, stop_T = base_T + runs.start_T, base_T + runs.stop_T
        # runs of one side of a line do not overlap: their ends ascend as their starts do
        low = np.searchsorted(stop_T[before], start_T[after], side="right")
        high = np.searchsorted(start_T[before], stop_T[after], side="left")
        count = np.maximum(high - low, 0)
        nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        one_A = runs.part_T[before[np.repeat(low, count) + nth]]
        other_A = runs.part_T[after[np.repeat(np.arange(len(after)), count)]]
        return np.unique(np.stack([one_A, other_A], axis=1), axis=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolygonParts:
    """N parts, ascending by the place of their first pixel, and the runs by which they join.

    Raises:
        ShapeError: if the columns differ in length.
    """

    zone_N: NDArray[np.int64]
    """EPSG code of the grid."""
    row_N: NDArray[np.int64]
    col_N: NDArray[np.int64]
    """The first pixel in reading order, on the grid. No two parts have the same."""
    pixels_N: NDArray[np.int64]
    p_sum_N: NDArray[np.int64]
    p_max_N: NDArray[np.int64]
    """Sum and maximum of the probability over the pixels, in steps."""
    deviation_sum_N: NDArray[np.int64]
    """Sum of the probability's standard deviation, in steps."""
    slope_sum_N: NDArray[np.int64]
    slope_pixels_N: NDArray[np.int64]
    """Sum of slope over the pixels that have one, in steps, and their number."""
    zone_edge_N: NDArray[np.int64]
    """1 if the part reaches the border of its zone, where another grid begins; else 0."""
    outline_N: NDArray[np.object_]
    """Polygons along pixel sides, in columns and rows of the grid."""
    runs: BorderRuns

    def __post_init__(self) -> None:
        if len({len(getattr(self, name)) for name in (*PART_COLUMNS, "outline_N")}) > 1:
            raise ShapeError("columns of parts differ in length")

    def __len__(self) -> int:
        return len(self.pixels_N)

    @classmethod
    def empty(cls) -> "PolygonParts":
        """The identity of `merge`."""
        columns = {name: np.empty(0, np.int64) for name in PART_COLUMNS}
        return cls(**columns, outline_N=np.empty(0, object), runs=BorderRuns.empty())

    def equals(self, other: "PolygonParts") -> bool:
        """True if both hold the same parts, outlines to the last corner."""
        runs = [(f.name, self.runs, other.runs) for f in fields(BorderRuns)]
        columns = [(name, self, other) for name in PART_COLUMNS]
        return (
            len(self) == len(other)
            and all(np.array_equal(getattr(a, n), getattr(b, n)) for n, a, b in [*runs, *columns])
            and bool(shapely.equals_exact(self.outline_N, other.outline_N, 0).all())
        )


PART_COLUMNS = tuple(f.name for f in fields(PolygonParts) if f.name not in ("outline_N", "runs"))
"""Columns of whole numbers."""
_ADDED = ("pixels_N", "p_sum_N", "deviation_sum_N", "slope_sum_N", "slope_pixels_N")
_LARGEST = ("p_max_N", "zone_edge_N")
_PLACE = ("zone_N", "row_N", "col_N")
MANY_CORNERS = 20_000
"""Above it, outlines are simplified by the method whose time grows with their number."""


def merge(parts: Iterable[PolygonParts]) -> PolygonParts:
    """Joins parts. Associative and commutative; `PolygonParts.empty` is the identity."""
    given = [PolygonParts.empty(), *parts]
    first = np.cumsum([0, *map(len, given)])[:-1].tolist()
    runs = BorderRuns.of([p.runs for p in given], first)
    columns = {n: np.concatenate([getattr(p, n) for p in given]) for n in PART_COLUMNS}
    outline_N = np.concatenate([p.outline_N for p in given])
    group_N = groups_of_parts(len(outline_N), runs)
    summed, group_N = summed_by_group(columns, group_N)
    members: list[list[int]] = [[] for _ in summed["pixels_N"]]
    for n, group in enumerate(group_N.tolist()):
        members[group].append(n)
    outline_G = np.empty(len(members), object)
    for group, of_group in enumerate(members):
        outline_G[group] = dissolved(outline_N[of_group])
    moved = replace(runs, part_T=group_N[runs.part_T])
    return PolygonParts(**summed, outline_N=outline_G, runs=moved.ordered())


def groups_of_parts(count: int, runs: BorderRuns) -> NDArray[np.int64]:
    """The group of each of `count` parts: those that touch, directly or through others.

    Groups are named by their lowest member.
    """
    parent = list(range(count))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    for one, other in runs.touching().tolist():
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    return np.array([root(n) for n in range(count)], np.int64)


Columns = dict[str, NDArray[np.int64]]


def summed_by_group(
    columns: Columns, group_N: NDArray[np.int64]
) -> tuple[Columns, NDArray[np.int64]]:
    """One row per group, ascending by place, and the new number of each part's group."""
    order = np.lexsort(tuple(columns[name] for name in reversed(_PLACE)))
    _, first, number_N = np.unique(group_N[order], return_index=True, return_inverse=True)
    # groups in the order of their first parts, which hold their first pixels
    rank = np.argsort(np.argsort(first))
    place_N = np.empty(len(order), np.int64)
    place_N[order] = rank[number_N.reshape(-1)]
    chosen = order[np.sort(first)]
    out = {name: columns[name][chosen] for name in _PLACE}
    for name in _ADDED:
        out[name] = np.zeros(len(chosen), np.int64)
        np.add.at(out[name], place_N, columns[name])
    for name in _LARGEST:
        out[name] = np.zeros(len(chosen), np.int64)
        np.maximum.at(out[name], place_N, columns[name])
    return out, place_N


def dissolved(outline_N: NDArray[np.object_]) -> BaseGeometry:
    """The union of parts as a polygon in one form: no corner on a straight side, rings in order.

    A polygon along pixel sides has one such form, so that equal ground has equal coordinates.
    """
    union = outline_N[0] if len(outline_N) == 1 else shapely.union_all(outline_N)
    polygons = [_without_straight_corners(one) for one in shapely.get_parts(union)]
    whole: BaseGeometry = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    return shapely.normalize(whole)


def simplified(outline: BaseGeometry, tolerance_px: float) -> BaseGeometry:
    """An outline with its steps straightened; holes stay, and no ring crosses another.

    It is done once a polygon is whole, so that no border of a cell shows and none opens. Outlines
    of many corners are simplified as a coverage of one polygon (Visvalingam and Whyatt), which
    keeps about a quarter more corners: the time of GEOS's other simplifier grows with their square.
    """
    smooth: BaseGeometry
    if shapely.get_num_coordinates(outline) > MANY_CORNERS:
        smooth = shapely.coverage_simplify([outline], tolerance_px)[0]
    else:
        smooth = shapely.simplify(outline, tolerance_px, preserve_topology=True)
    return smooth if smooth.is_valid and not smooth.is_empty else outline


def _without_straight_corners(polygon: BaseGeometry) -> shapely.Polygon:
    shell, *holes = (_corners(shapely.get_coordinates(r)) for r in shapely.get_rings(polygon))
    return shapely.Polygon(shell, holes)


def _corners(xy_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """The corners of a closed ring where it turns."""
    ring = xy_N2[:-1]
    back, ahead = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = back[:, 0] * ahead[:, 1] != back[:, 1] * ahead[:, 0]
    corners: NDArray[np.float64] = ring[turns]
    return corners
