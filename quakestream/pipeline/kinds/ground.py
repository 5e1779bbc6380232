"""Units of kinds that score ground instead of buildings: every window that a view shows."""

from collections.abc import Callable, Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, View
from quakestream.pipeline.kinds.units import LatticeOf, PlanInputs, Unit, grouped_units
from quakestream.pipeline.kinds.window_reading import window_sizes
from quakestream.tiling import Lattice, WindowTouches, unproject
from quakestream.tiling.antimeridian import cut_at_180

Choose = Callable[[Lattice, NDArray[np.int64]], NDArray[np.bool_]]
"""True for the windows (row, col) of a lattice that are worth scoring."""


def ground_units(
    inputs: PlanInputs, spec: BundleSpec, lattice_of: LatticeOf, choose: Choose | None = None
) -> Iterator[Unit]:
    """Units over the windows of the AOI, each in the best view that shows it whole.

    A window that no view shows whole has a unit in each view that shows a part of it, and is
    `joint` there.
    """
    from quakestream.catalog import views_of_ground  # planning alone needs the catalogue

    sizes = window_sizes(spec)
    for epsg in sorted(inputs.area_of_zone):
        lattice = lattice_of(epsg)
        window_N2 = lattice.windows_over(inputs.area_of_zone[epsg])
        if choose is not None and len(window_N2):
            window_N2 = window_N2[choose(lattice, window_N2)]
        outline_N = window_outlines(window_N2, lattice)
        views = views_of_ground(outline_N, inputs.post, inputs.pre, needs_pre=spec.needs_pre)
        view_A, window_A2 = _pairs(views, window_N2, inputs)
        touches = WindowTouches(
            item_T=np.arange(len(view_A)), row_T=window_A2[:, 0], col_T=window_A2[:, 1]
        )
        joint = _joint(window_A2)
        cells = None if inputs.cells_of is None else inputs.cells_of(epsg)
        none_A = np.zeros_like(view_A)
        for unit in grouped_units(view_A, none_A, touches, lattice, sizes, cells):
            yield _of_ground(unit, joint)


def window_outlines(window_N2: NDArray[np.int64], lattice: Lattice) -> NDArray[np.object_]:
    """Cores of windows, EPSG:4326."""
    side_m, top_m = lattice.core_px * lattice.grid.gsd_m, lattice.grid.transform.f
    north_N, west_N = top_m - window_N2[:, 0] * side_m, window_N2[:, 1] * side_m
    boxes = shapely.box(west_N, north_N - side_m, west_N + side_m, north_N)
    return cut_at_180(unproject(np.asarray(boxes, object), lattice.grid.epsg))


def _pairs(
    views: list[tuple[View, NDArray[np.int64]]],
    window_N2: NDArray[np.int64],
    inputs: PlanInputs,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of view and window: indices into the plan's views, and lattice (row, col)."""
    view_A = [np.full(len(item), inputs.views.index(view)) for view, item in views]
    window_A2 = [window_N2[item] for _, item in views]
    if not views:
        return np.empty(0, np.int64), np.empty((0, 2), np.int64)
    return np.concatenate(view_A), np.concatenate(window_A2)


def _joint(window_A2: NDArray[np.int64]) -> set[tuple[int, int]]:
    """Windows of several views."""
    windows, count = np.unique(window_A2, axis=0, return_counts=True)
    return {(row, col) for row, col in windows[count > 1].tolist()}


def _of_ground(unit: Unit, joint: set[tuple[int, int]]) -> Unit:
    return Unit(
        cell=unit.cell,
        view=unit.view,
        window_W2=unit.window_W2,
        footprint_F=np.empty(0, np.int64),
        scored=unit.scored,
        read_px=unit.read_px,
        joint_W=np.array([tuple(window) in joint for window in unit.window_W2.tolist()], np.bool_),
    )
