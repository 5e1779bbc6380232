"""Bilinear interpolation that never replaces a missing value."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SNAP = 1e-6
"""Positions within this fraction of a grid step from a node count as the node."""


def positions_on_axis(where_N: Floats, first: float, step: float) -> Floats:
    """Positions in steps from the first node, snapped to a node within rounding."""
    at_N = (where_N - first) / step
    near_N = np.round(at_N)
    return np.where(np.abs(at_N - near_N) <= _SNAP, near_N, at_N)


def bilinear(values_YX: Floats, row_N: Floats, col_N: Floats) -> Floats:
    """Values between nodes; NaN outside the nodes, or where a node with weight is NaN.

    A position on a node gets the value of that node, whatever its neighbours hold. A result
    never leaves the range of the nodes with weight.

    Args:
        values_YX: node values, NaN where missing.
        row_N: positions in rows from the first node; NaN gives NaN.
        col_N: positions in columns from the first node.
    """
    height, width = values_YX.shape
    inside = (row_N >= 0) & (row_N <= height - 1) & (col_N >= 0) & (col_N <= width - 1)
    row = np.where(inside, row_N, 0.0)
    col = np.where(inside, col_N, 0.0)
    top, left = np.floor(row).astype(np.intp), np.floor(col).astype(np.intp)
    down, right = row - top, col - left
    bottom, east = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    corners_4N = np.stack(
        [values_YX[top, left], values_YX[top, east], values_YX[bottom, left],
         values_YX[bottom, east]]
    )  # fmt: skip
    weights_4N = np.stack(
        [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    )
    counts_4N = weights_4N > 0
    total = np.where(counts_4N, weights_4N * corners_4N, 0.0).sum(axis=0)
    # Rounding may exceed the range of the corners by one last digit.
    low = np.where(counts_4N, corners_4N, np.inf).min(axis=0)
    high = np.where(counts_4N, corners_4N, -np.inf).max(axis=0)
    return np.where(inside, np.clip(total, low, high), np.nan)
