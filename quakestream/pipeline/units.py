"""Which footprint is judged from which views, and the units of work that follow."""

from collections.abc import Callable
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
        key_T4 = np.stack(
            [
                view_P[touches.item_P],
                touches.row_P // lattice.cell_windows,
                touches.col_P // lattice.cell_windows,
            ],
            axis=1,
        )
        order = np.lexsort(key_T4.T[::-1])
        key_T4 = key_T4[order]
        starts = np.flatnonzero(np.any(np.diff(key_T4, axis=0, prepend=-1) != 0, axis=1))
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            pick = order[start:stop]
            view, row, col = (int(v) for v in key_T4[start])
            windows = np.stack([touches.row_P[pick], touches.col_P[pick]], axis=1)
            window_W2 = np.unique(windows, axis=0)
            shown = touches.item_P[pick]
            units.append(
                Unit(
                    cell=lattice.cell(row, col),
                    view=view,
                    window_W2=window_W2,
                    footprint_F=np.unique(footprint_P[shown]),
                    scored=len(shown) if crops else len(window_W2),
                    read_px=_together_px(corner_P2[shown], spec.window_px)
                    if crops
                    else len(window_W2) * spec.window_px**2,
                )
            )
    return tuple(units)


def _middles(corner_P2: NDArray[np.int64], spec: BundleSpec, lattice: Lattice) -> WindowTouches:
    """The one window of the lattice that holds the middle pixel of each crop."""
    middle_P2 = (corner_P2 + spec.window_px // 2) // lattice.core_px
    return WindowTouches(
        item_P=np.arange(len(corner_P2)), row_P=middle_P2[:, 0], col_P=middle_P2[:, 1]
    )


def _together_px(corner_N2: NDArray[np.int64], side_px: int) -> int:
    """Pixels of the windows in which crops are read together."""
    windows = [around(corner_N2[group], side_px) for group in crop_groups(corner_N2, side_px)]
    return sum(window.height * window.width for window in windows)
