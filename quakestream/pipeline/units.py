"""Which footprint is judged from which views, and the units of work that follow."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.catalog import Views
from quakestream.domain import BundleSpec, View
from quakestream.pipeline.tasks import Unit
from quakestream.tiling import Lattice, WindowTouches, around, crop_corners, crop_groups


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assignment:
    """Footprints and the views they are judged from."""

    views: tuple[View, ...]
    footprint_P: NDArray[np.int64]
    view_P: NDArray[np.int64]
    """Pairs of footprint and view, in order of footprint, best view first."""
    reason_N: NDArray[np.object_]
    """Why a footprint has no view, None where it has one."""

    @classmethod
    def of(cls, parts: list[Views], invalid_N: NDArray[np.bool_]) -> Self:
        """Joins assignments; a footprint with an invalid outline has no view."""
        views: dict[str, View] = {}
        pairs: dict[tuple[int, int], None] = {}
        reason_N = np.full(len(invalid_N), None, object)
        place: dict[str, int] = {}
        for part in parts:
            for view in part.views:
                place.setdefault(view.id, len(place))
                views.setdefault(view.id, view)
            assigned = np.flatnonzero((np.asarray(part.view_of_N) >= 0) & ~invalid_N)
            for footprint in assigned.tolist():
                pairs[footprint, place[part.views[int(part.view_of_N[footprint])].id]] = None
        footprint_P = np.array([f for f, _ in pairs], np.int64)
        view_P = np.array([v for _, v in pairs], np.int64)
        order = np.argsort(footprint_P, kind="stable")
        for part in parts:  # the nearest any view came to showing the footprint
            missing = np.array([r is not None for r in part.reason_of_N], np.bool_)
            keep = missing & (reason_N != "no_pre")
            reason_N[keep] = part.reason_of_N[keep]
        reason_N[footprint_P] = None
        reason_N[invalid_N] = "invalid_geometry"
        return cls(
            views=tuple(views.values()),
            footprint_P=footprint_P[order],
            view_P=view_P[order],
            reason_N=reason_N,
        )

    @property
    def views_N(self) -> NDArray[np.int64]:
        """How many views each footprint has."""
        return np.bincount(self.footprint_P, minlength=len(self.reason_N))


def plan_units(
    assignment: Assignment,
    zone_N: NDArray[np.int64],
    polygon_N: NDArray[np.object_],
    lattice_of: Callable[[int], Lattice],
    spec: BundleSpec,
) -> tuple[Unit, ...]:
    """Groups (footprint, view) pairs into (cell, view) units, in an order that reads each
    scene from top to bottom.

    A footprint belongs to every cell whose windows it touches; where crops are scored, to the
    one cell that holds the middle of its crop.
    """
    crops = spec.task == "building"
    units: list[Unit] = []
    zone_P = zone_N[assignment.footprint_P]
    for epsg in np.unique(zone_P):
        here = np.flatnonzero(zone_P == epsg)
        footprint_P, view_P = assignment.footprint_P[here], assignment.view_P[here]
        lattice = lattice_of(int(epsg))
        bounds_P4 = shapely.bounds(polygon_N[footprint_P])
        corner_P2 = crop_corners(bounds_P4, lattice.grid, spec.window_px)
        touches = _middles(corner_P2, spec, lattice) if crops else lattice.touches(bounds_P4)
        units.extend(_grouped(touches, footprint_P, view_P, corner_P2, lattice, spec))
    return tuple(units)


def _grouped(
    touches: WindowTouches,
    footprint_P: NDArray[np.int64],
    view_P: NDArray[np.int64],
    corner_P2: NDArray[np.int64],
    lattice: Lattice,
    spec: BundleSpec,
) -> Iterator[Unit]:
    """One zone's units by view, then by cell from north to south and west to east.

    Everything is sorted once; what a unit holds are parts of the sorted arrays.
    """
    crops, side = spec.task == "building", lattice.cell_windows
    cell_T3 = np.stack(
        [view_P[touches.item_T], touches.row_T // side, touches.col_T // side], axis=1
    )
    group_T, cell_G3 = _numbered(cell_T3)
    window_X2, window_G = _distinct(group_T, touches.row_T, touches.col_T)
    footprint_X1, footprint_G = _distinct(group_T, footprint_P[touches.item_T])
    shown_T = touches.item_T[np.argsort(group_T, kind="stable")]
    shown_G = _ends(np.sort(group_T), len(cell_G3))
    for n, (view, row, col) in enumerate(cell_G3.tolist()):
        window_W2 = window_X2[window_G[n] : window_G[n + 1]]
        shown = shown_T[shown_G[n] : shown_G[n + 1]]
        yield Unit(
            cell=lattice.cell(row, col),
            view=view,
            window_W2=window_W2,
            footprint_F=footprint_X1[footprint_G[n] : footprint_G[n + 1], 0],
            scored=len(shown) if crops else len(window_W2),
            read_px=_together_px(corner_P2[shown], spec.window_px)
            if crops
            else len(window_W2) * spec.window_px**2,
        )


def _numbered(
    rows_TK: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct rows in order, and for each row which of them it is."""
    order = np.lexsort(rows_TK.T[::-1])
    sorted_TK = rows_TK[order]
    first_T = _first(sorted_TK)
    number_T = np.empty(len(order), np.int64)
    number_T[order] = np.cumsum(first_T) - 1
    return number_T, sorted_TK[first_T]


def _distinct(
    group_T: NDArray[np.int64], *values_T: NDArray[np.int64]
) -> tuple[NDArray[np.int64], list[int]]:
    """The distinct values of each group, in order, and where each group begins among them."""
    rows_TK = np.stack([group_T, *values_T], axis=1)
    sorted_TK = rows_TK[np.lexsort(rows_TK.T[::-1])]
    distinct_XK = sorted_TK[_first(sorted_TK)]
    ends = _ends(distinct_XK[:, 0], int(group_T.max(initial=-1)) + 1)
    return distinct_XK[:, 1:].copy(), ends


def _first(sorted_TK: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True where a row differs from the one before."""
    first_T = np.ones(len(sorted_TK), np.bool_)
    first_T[1:] = np.any(sorted_TK[1:] != sorted_TK[:-1], axis=1)
    return first_T


def _ends(sorted_X: NDArray[np.int64], groups: int) -> list[int]:
    """Where each group begins, and where the last ends."""
    ends: list[int] = np.searchsorted(sorted_X, np.arange(groups + 1)).tolist()
    return ends


def _middles(corner_P2: NDArray[np.int64], spec: BundleSpec, lattice: Lattice) -> WindowTouches:
    """The one window of the lattice that holds the middle pixel of each crop."""
    middle_P2 = (corner_P2 + spec.window_px // 2) // lattice.core_px
    return WindowTouches(
        item_T=np.arange(len(corner_P2)), row_T=middle_P2[:, 0], col_T=middle_P2[:, 1]
    )


def _together_px(corner_N2: NDArray[np.int64], side_px: int) -> int:
    """Pixels of the windows in which crops are read together."""
    windows = [around(corner_N2[group], side_px) for group in crop_groups(corner_N2, side_px)]
    return sum(window.height * window.width for window in windows)
