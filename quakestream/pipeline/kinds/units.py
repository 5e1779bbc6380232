"""Units of work, and how (footprint, view) pairs are grouped into them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Issue, Scene, View
from quakestream.tiling import Cell, Lattice, WindowTouches


def distinct_windows(windows: Sequence[NDArray[np.int64]]) -> int:
    """Windows, each once, of jobs that score the same cell.

    Args:
        windows: lattice (row, col) of each job's windows, shape (W, 2).
    """
    if len(windows) == 1:
        return len(windows[0])
    return len(np.unique(np.concatenate(windows), axis=0))


LatticeOf = Callable[[int], Lattice]
"""The lattice of a UTM zone, by EPSG code."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """One (cell, view) of a job, as planned."""

    cell: Cell
    view: int
    """Index into the plan's views."""
    window_W2: NDArray[np.int64]
    """Lattice (row, col) of the windows with something to score, ascending. Where crops are
    scored, of the windows that hold the middle of one."""
    footprint_F: NDArray[np.int64]
    """Indices into the plan's footprint table, ascending; empty for kinds without footprints."""
    scored: int
    """Windows or crops that the engine will score."""
    read_px: int
    """Pixels to read of each epoch."""
    joint_W: NDArray[np.bool_] | None = None
    """True for windows that other views show a part of, too; None: the kind does not ask."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanInputs:
    """What a kind makes its units from."""

    zone_N: NDArray[np.int64]
    """EPSG code of the UTM zone that owns each footprint."""
    polygon_N: NDArray[np.object_]
    """Footprint outlines in their zone's CRS; None where the geometry is invalid."""
    footprint_A: NDArray[np.int64]
    view_A: NDArray[np.int64]
    """Pairs of footprint and view, in order of footprint, best view first."""
    area_of_zone: dict[int, BaseGeometry]
    """The AOI in each zone's CRS, by EPSG code."""
    post: tuple[Scene, ...]
    pre: tuple[Scene, ...]
    """Scenes sharp enough for the bundle; no pre scenes where it needs none."""
    views: "ViewTable"
    cells_of: LatticeOf | None = None
    """The lattice of the run's first job at this GSD, whose cells others share."""
    issues: list[Issue] = field(default_factory=list)
    """Faults of inputs that a kind finds; kinds add to it."""
    notes: list[str] = field(default_factory=list)
    """What a kind tells of its choices; kinds add to it."""

    def pairs_by_zone(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """EPSG code, footprints and views of the pairs of each zone."""
        zone_A = self.zone_N[self.footprint_A]
        for epsg in np.unique(zone_A):
            here = zone_A == epsg
            yield int(epsg), self.footprint_A[here], self.view_A[here]


class ViewTable:
    """The views of a run. Kinds may add views; an index never changes."""

    def __init__(self, views: tuple[View, ...] = ()) -> None:
        self._index = {view.id: n for n, view in enumerate(views)}
        self._views = list(views)

    def index(self, view: View) -> int:
        """Index of a view, which is added if it is new."""
        if view.id not in self._index:
            self._index[view.id] = len(self._views)
            self._views.append(view)
        return self._index[view.id]

    @property
    def views(self) -> tuple[View, ...]:
        return tuple(self._views)


Sizes = Callable[[NDArray[np.int64], NDArray[np.int64]], tuple[int, int]]
"""From a unit's windows (row, col) and its pairs' indices: items to score, pixels to read."""


def grouped_units(
    view_A: NDArray[np.int64],
    footprint_A: NDArray[np.int64],
    touches: WindowTouches,
    lattice: Lattice,
    sizes: Sizes,
    cells: Lattice | None = None,
) -> Iterator[Unit]:
    """One zone's units by view, then by cell from north to south and west to east.

    Everything is sorted once; the arrays of a unit are parts of the sorted arrays.

    Args:
        view_A: view of each pair.
        footprint_A: footprint of each pair.
        touches: windows that each pair needs; `item_T` indexes pairs.
        sizes: what a unit costs.
        cells: the lattice whose cells hold the middles of windows; None: `lattice`.
    """
    cells, side = cells or lattice, lattice.core_px
    row_T, col_T = (
        (window_T * side + side // 2) // cells.cell_px
        for window_T in (touches.row_T, touches.col_T)
    )
    cell_T3 = np.stack([view_A[touches.item_T], row_T, col_T], axis=1)
    group_T, cell_G3 = _numbered(cell_T3)
    windows, first_window = _distinct(group_T, touches.row_T, touches.col_T)
    footprints, first_footprint = _distinct(group_T, footprint_A[touches.item_T])
    pair_T = touches.item_T[np.argsort(group_T, kind="stable")]
    first_pair = _starts(np.sort(group_T), len(cell_G3))
    for n, (view, row, col) in enumerate(cell_G3.tolist()):
        window_W2 = windows[first_window[n] : first_window[n + 1]]
        scored, read_px = sizes(window_W2, pair_T[first_pair[n] : first_pair[n + 1]])
        yield Unit(
            cell=cells.cell(row, col),
            view=view,
            window_W2=window_W2,
            footprint_F=footprints[first_footprint[n] : first_footprint[n + 1], 0],
            scored=scored,
            read_px=read_px,
        )


def _numbered(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of each row among the distinct rows, and the distinct rows in order."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    first_T = _first(ordered)
    number_T = np.empty(len(order), np.int64)
    number_T[order] = np.cumsum(first_T) - 1
    return number_T, ordered[first_T]


def _distinct(
    group_T: NDArray[np.int64], *values_T: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[int]]:
    """The distinct values of each group, in order, and where each group begins among them."""
    rows = np.stack([group_T, *values_T], axis=1)
    ordered = rows[np.lexsort(rows.T[::-1])]
    distinct = ordered[_first(ordered)]
    starts = _starts(distinct[:, 0], int(group_T.max(initial=-1)) + 1)
    return distinct[:, 1:].copy(), starts


def _first(ordered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where a row differs from the one before."""
    first_T = np.ones(len(ordered), np.bool_)
    first_T[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    return first_T


def _starts(ordered: NDArray[np.int64], groups: int) -> list[int]:
    """Where each group begins, and where the last one ends."""
    starts: list[int] = np.searchsorted(ordered, np.arange(groups + 1)).tolist()
    return starts
