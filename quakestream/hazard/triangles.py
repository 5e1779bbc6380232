"""Linear interpolation on triangles between the nodes of a ShakeMap, as in USGS's own runs.

Their software triangulates the nodes (Delaunay). Four nodes of a square lie on one circle, so that
either diagonal is right: rounding decides, square by square, and one more row of nodes anywhere
changes many of them. To get USGS's values the same nodes must be triangulated: those of the map,
and a rim of nodes without a value on each side where the prior's pixels reach beyond it.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import HazardError
from quakestream.hazard.frames import PixelFrame
from quakestream.hazard.interpolation import Floats

MOST_NODES = 2_000_000
"""Nodes that are triangulated; a million take 2 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rim:
    """The sides of a lattice that have a rim of nodes without a value."""

    north: bool
    south: bool
    west: bool
    east: bool

    @classmethod
    def of(cls, lon: Floats, lat: Floats, frame: PixelFrame) -> Self:
        """The sides where the pixel nearest to the edge of a map lies beyond that edge.

        An edge in the middle of two pixels is common, since both lattices are round numbers.
        Rounding decides then, in the same formula as in USGS's software.

        Args:
            lon: longitudes of the nodes, ascending.
            lat: latitudes of the nodes, ascending.
            frame: pixels of the prior.
        """
        west, east = (_off(float(v), frame, east_west=True) for v in (lon[0], lon[-1]))
        north, south = (_off(float(v), frame, east_west=False) for v in (lat[-1], lat[0]))
        return cls(north=north < 0, south=south > 0, west=west < 0, east=east > 0)

    @property
    def empty(self) -> bool:
        """True without a rim on any side."""
        return not (self.north or self.south or self.west or self.east)


def _off(edge: float, frame: PixelFrame, *, east_west: bool) -> float:
    """Pixels from an edge to the centre of the nearest pixel: east or south of it above 0."""
    turns = frame.transform
    if not frame.crs.is_geographic or turns.b or turns.d:
        return 0.0
    if east_west:
        at = (edge - (turns.c + turns.a / 2)) / turns.a
        at -= round(at / frame.turn_px) * frame.turn_px if frame.turn_px else 0
    else:
        at = ((turns.f + turns.e / 2) - edge) / -turns.e
    return float(np.round(at) - at)


def rising_squares(height: int, width: int, rim: Rim) -> NDArray[np.bool_]:
    """The diagonal of each square of nodes, (row, column) from the south-west.

    True where it joins the south-western and the north-eastern node, False for the other one.

    Raises:
        HazardError: if there are more nodes than can be triangulated.
    """
    if height * width > MOST_NODES:
        raise HazardError(
            "ShakeMap has too many nodes for triangles",
            expected=f"at most {MOST_NODES:,}",
            got=f"{height * width:,}",
            remedy="read shaking bilinear",
        )
    from scipy.spatial import Delaunay  # half a second of imports

    rows, cols = height + rim.north + rim.south, width + rim.west + rim.east
    col_YX, row_YX = np.meshgrid(np.arange(cols), np.arange(rows))
    corner_T3 = Delaunay(np.column_stack([col_YX.ravel(), row_YX.ravel()])).simplices
    row_T3, col_T3 = np.divmod(corner_T3, cols)
    top_T, left_T = row_T3.min(axis=1), col_T3.min(axis=1)
    steps_T3 = (row_T3 - top_T[:, None]) + (col_T3 - left_T[:, None])
    falling_T = (steps_T3 == 0).any(axis=1) & (steps_T3 == 2).any(axis=1)
    rising_YX = np.ones((rows - 1, cols - 1), np.bool_)
    rising_YX[top_T[falling_T], left_T[falling_T]] = False
    inner_YX = rising_YX[int(rim.north) :, int(rim.west) :][: height - 1, : width - 1]
    return inner_YX[::-1].copy()


def on_triangles(
    values_YX: Floats, rising_YX: NDArray[np.bool_], row_N: Floats, col_N: Floats
) -> Floats:
    """Values between nodes; NaN outside the nodes, or where a node with weight is NaN.

    Args:
        values_YX: node values, row 0 in the south, NaN where missing.
        rising_YX: of `rising_squares`.
        row_N: positions in rows from the first node; NaN gives NaN.
        col_N: positions in columns from the first node.
    """
    height, width = values_YX.shape
    inside = (row_N >= 0) & (row_N <= height - 1) & (col_N >= 0) & (col_N <= width - 1)
    row, col = np.where(inside, row_N, 0.0), np.where(inside, col_N, 0.0)
    south = np.clip(np.floor(row).astype(np.intp), 0, max(height - 2, 0))
    west = np.clip(np.floor(col).astype(np.intp), 0, max(width - 2, 0))
    up, right = row - south, col - west
    rising = rising_YX[south, west]
    # Weights of the corners south-west, south-east, north-west and north-east.
    both, more_up = np.minimum(up, right), up > right
    lower = up + right <= 1
    weights_4N = np.where(
        rising,
        np.stack([
            1 - np.maximum(up, right),
            np.where(more_up, 0.0, right - up),
            np.where(more_up, up - right, 0.0),
            both,
        ]),
        np.stack([
            np.where(lower, 1 - up - right, 0.0),
            np.where(lower, right, 1 - up),
            np.where(lower, up, 1 - right),
            np.where(lower, 0.0, up + right - 1),
        ]),
    )  # fmt: skip
    corners_4N = np.stack(
        [values_YX[south, west], values_YX[south, west + 1],
         values_YX[south + 1, west], values_YX[south + 1, west + 1]]
    )  # fmt: skip
    total = np.where(weights_4N > 0, weights_4N * corners_4N, 0.0).sum(axis=0)
    return np.where(inside, total, np.nan)
