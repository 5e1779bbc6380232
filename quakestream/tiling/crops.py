"""Crops for building models: squares of ground that depend on the footprint alone."""

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, Window
from quakestream.errors import ShapeError

SPARE = 2.0
"""Crops are read in one window if the window has at most this many times their pixels."""


def crop_corners(bounds_N4: NDArray[np.float64], grid: Grid, side_px: int) -> NDArray[np.int64]:
    """Upper left pixel (row, col) of the crop of each footprint, shape (N, 2).

    A crop is a square of `side_px` grid pixels. Its middle is at most half a pixel from the
    middle of the footprint's bounds, in each direction.

    Args:
        bounds_N4: (west, south, east, north) in metres of the grid's CRS.

    Raises:
        ShapeError: if bounds are not finite.
    """
    bounds_N4 = np.asarray(bounds_N4, np.float64).reshape(-1, 4)
    if not np.isfinite(bounds_N4).all():
        raise ShapeError("bounds of footprints are not finite")
    x_N, y_N = (bounds_N4[:, :2] + bounds_N4[:, 2:]).T / 2
    row_N = (grid.transform.f - y_N) / grid.gsd_m - side_px / 2
    col_N = x_N / grid.gsd_m - side_px / 2
    return np.floor(np.stack([row_N, col_N], axis=1) + 0.5).astype(np.int64)


def crop_windows(bounds_N4: NDArray[np.float64], grid: Grid, side_px: int) -> list[Window]:
    """The crop of each footprint as a window, see `crop_corners`."""
    return [
        Window(row=row, col=col, height=side_px, width=side_px)
        for row, col in crop_corners(bounds_N4, grid, side_px).tolist()
    ]


def crop_groups(
    corner_N2: NDArray[np.int64], side_px: int, spare: float = SPARE
) -> list[NDArray[np.int64]]:
    """Groups of crops that are read together, as ascending indices; each crop is in one group.

    The window around a group has at most `spare` times the pixels of its crops. Groups are cut
    where crops lie furthest apart, so that all groups together never have more pixels than one
    window around all crops.
    """
    done: list[NDArray[np.int64]] = []
    todo = [np.arange(len(corner_N2))] if len(corner_N2) else []
    while todo:
        group = todo.pop()
        group_N2 = corner_N2[group]
        extent = np.ptp(group_N2, axis=0) + side_px
        if len(group) == 1 or extent.prod() <= spare * len(group) * side_px**2:
            done.append(np.sort(group))
            continue
        axis = int(extent.argmax())
        order = np.argsort(group_N2[:, axis], kind="stable")
        cut = int(np.diff(group_N2[order, axis]).argmax()) + 1
        todo += [group[order[:cut]], group[order[cut:]]]
    return sorted(done, key=lambda group: int(group[0]))


def around(corner_N2: NDArray[np.int64], side_px: int) -> Window:
    """The smallest window that holds crops with these corners."""
    (row, col), (height, width) = corner_N2.min(axis=0), np.ptp(corner_N2, axis=0) + side_px
    return Window(row=int(row), col=int(col), height=int(height), width=int(width))
