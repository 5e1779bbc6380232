"""The square of ground a building model is shown: a function of the footprint alone."""

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, Window
from quakestream.errors import ShapeError

SPARE = 2.0
"""Crops are read as one window while it holds at most this many times their pixels."""


def crop_corners(bounds_N4: NDArray[np.float64], grid: Grid, side_px: int) -> NDArray[np.int64]:
    """Upper left pixel (row, col) of each footprint's crop, shape (N, 2).

    The crop is a square of `side_px` pixels of the grid whose middle lies nearest to the
    middle of the footprint's bounds: at most half a pixel off in each direction.

    Args:
        bounds_N4: (west, south, east, north) in metres of the grid's CRS.

    Raises:
        ShapeError: if bounds are not finite.
    """
    bounds_N4 = np.asarray(bounds_N4, np.float64).reshape(-1, 4)
    if not np.isfinite(bounds_N4).all():
        raise ShapeError("bounds of footprints must be finite")
    x_N, y_N = (bounds_N4[:, :2] + bounds_N4[:, 2:]).T / 2
    row_N = (grid.transform.f - y_N) / grid.gsd_m - side_px / 2
    col_N = x_N / grid.gsd_m - side_px / 2
    return np.floor(np.stack([row_N, col_N], axis=1) + 0.5).astype(np.int64)


def crop_windows(bounds_N4: NDArray[np.float64], grid: Grid, side_px: int) -> list[Window]:
    """The crop of each footprint, see `crop_corners`."""
    return [
        Window(row=row, col=col, height=side_px, width=side_px)
        for row, col in crop_corners(bounds_N4, grid, side_px).tolist()
    ]


def crop_groups(
    corner_N2: NDArray[np.int64], side_px: int, spare: float = SPARE
) -> list[NDArray[np.int64]]:
    """Crops that are read together: indices, ascending, each crop in one group.

    The window around a group holds at most `spare` times its crops' pixels. Groups are cut
    where crops lie furthest apart, so that together they never hold more than the window
    around all of them would.
    """
    done: list[NDArray[np.int64]] = []
    todo = [np.arange(len(corner_N2))] if len(corner_N2) else []
    while todo:
        group = todo.pop()
        corner_G2 = corner_N2[group]
        extent = np.ptp(corner_G2, axis=0) + side_px
        if len(group) == 1 or extent.prod() <= spare * len(group) * side_px**2:
            done.append(np.sort(group))
            continue
        axis = int(extent.argmax())
        order = np.argsort(corner_G2[:, axis], kind="stable")
        cut = int(np.diff(corner_G2[order, axis]).argmax()) + 1
        todo += [group[order[:cut]], group[order[cut:]]]
    return sorted(done, key=lambda group: int(group[0]))


def around(corner_N2: NDArray[np.int64], side_px: int) -> Window:
    """The smallest window that holds crops with these corners."""
    (row, col), (height, width) = corner_N2.min(axis=0), np.ptp(corner_N2, axis=0) + side_px
    return Window(row=int(row), col=int(col), height=int(height), width=int(width))
