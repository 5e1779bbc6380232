"""Slopes of the ground of a unit, and which windows are steep enough to be scored."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, Window
from quakestream.hazard.terrain import Dem, open_dem
from quakestream.storage import StorageOptions
from quakestream.tiling.antimeridian import bounds_of

STEEP_DEG = 3.0
"""Windows without a slope of this much are not scored: nothing slides on them, and what slides
onto them comes from a steeper neighbour."""
SLOPE_STEPS = 2
"""Steps of a degree of slope."""
SLOPE_NODATA = 255
SLOPE_GROUND_M = 5.0
"""Slopes are looked up about this far apart, on a sub-lattice fixed to the grid. Few elevation
models are finer, and projecting every pixel of half a metre takes longer than scoring it."""


def max_slopes(
    outline_N: NDArray[np.object_], dem: str, options: StorageOptions
) -> NDArray[np.float32]:
    """The steepest slope inside each outline (EPSG:4326), degrees; NaN where it is unknown.

    Raises:
        HazardError: if the DEM cannot be used.
        StorageError: if it cannot be fetched.
    """
    boxes_N4 = np.array([bounds_of(outline) for outline in outline_N]).reshape(-1, 4)
    with open_dem(dem, options) as terrain:
        return np.asarray(terrain.max_slope(boxes_N4), np.float32)


def slope_steps(grid: Grid, windows: Sequence[Window], terrain: Dem) -> list[NDArray[np.uint8]]:
    """Slope of the pixels of windows in steps, `SLOPE_NODATA` where it is unknown.

    Raises:
        HazardError: if the DEM cannot be read there.
    """
    step = max(1, int(SLOPE_GROUND_M / grid.gsd_m))
    coarse = Grid(epsg=grid.epsg, gsd_m=grid.gsd_m * step)
    outer = [_coarse(window, step) for window in windows]
    first, *others = outer
    for window in others:
        first = first.union(window)
    ground = terrain.read(coarse, first)
    degrees_YX = ground.slope_YX.clip(0, 90)
    step_YX = np.where(ground.valid_YX, np.rint(degrees_YX * SLOPE_STEPS), SLOPE_NODATA).astype(
        np.uint8
    )
    return [_fine(step_YX, first, window, step) for window in windows]


def _coarse(window: Window, step: int) -> Window:
    """Pixels of the coarse grid that hold a window."""
    row, col = window.row // step, window.col // step
    return Window(
        row=row,
        col=col,
        height=(window.row_end - 1) // step + 1 - row,
        width=(window.col_end - 1) // step + 1 - col,
    )


def _fine(
    step_YX: NDArray[np.uint8], outer: Window, window: Window, step: int
) -> NDArray[np.uint8]:
    row_Y = np.arange(window.row, window.row_end) // step - outer.row
    col_X = np.arange(window.col, window.col_end) // step - outer.col
    fine_YX: NDArray[np.uint8] = step_YX[np.ix_(row_Y, col_X)]
    return fine_YX
