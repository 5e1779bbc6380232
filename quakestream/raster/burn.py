"""Burns outlines into pixels, all outlines at once.

A pixel belongs to an outline if its centre lies inside, by the even-odd rule over all rings. A
centre on a border belongs to the outline on its right or below, so neighbours with a common
border share no pixel and leave none out. GDAL uses the same rule, but for one outline after the
other. In dense towns that took longer than decoding the images.
"""

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.domain import Grid, Window
from quakestream.domain.grid import NORTHING_TOP_M


def burn(
    polygons_N: NDArray[np.object_], value_N: NDArray[np.int64], grid: Grid, window: Window
) -> NDArray[np.int32]:
    """The value of the outline around each pixel of a window; -1 where there is none.

    The pixels of an outline depend on the grid alone, never on the window.

    Args:
        polygons_N: polygons or multipolygons in the grid's CRS. Where several overlap, the pixel
            gets the value of one of them.
        value_N: values of the polygons, not negative.
    """
    burnt_YX = np.full(window.shape, -1, np.int32)
    polygon_E, from_E2, to_E2 = _edges(polygons_N, grid)
    steep_E = from_E2[:, 1] != to_E2[:, 1]
    key_P = _crossings(polygon_E[steep_E], from_E2[steep_E], to_E2[steep_E], window)
    if not len(key_P):
        return burnt_YX
    # by outline, then by row; in a row the columns where borders cross it come in pairs
    key_P.sort()
    width = window.width + 1
    start_S, end_S = key_P[0::2], key_P[1::2]
    length_S = end_S - start_S
    line_S, col_S = np.divmod(start_S, width)
    polygon_S, row_S = np.divmod(line_S, window.height)
    before_S = np.cumsum(length_S) - length_S
    pixel_Q = np.repeat(row_S * window.width + col_S - before_S, length_S)
    pixel_Q += np.arange(len(pixel_Q))
    burnt_YX.reshape(-1)[pixel_Q] = np.repeat(value_N[polygon_S], length_S)
    return burnt_YX


def _edges(
    polygons_N: NDArray[np.object_], grid: Grid
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Every border segment: its polygon, and its start and end (col, row) in grid pixels."""
    parts, polygon_P = shapely.get_parts(polygons_N, return_index=True)
    rings, part_R = shapely.get_rings(parts, return_index=True)
    metres_V2, ring_V = shapely.get_coordinates(rings, return_index=True)
    place_V2 = metres_V2 * (1.0, -1.0)
    place_V2[:, 1] += NORTHING_TOP_M
    place_V2 /= grid.gsd_m
    same_E = ring_V[1:] == ring_V[:-1]
    polygon_V = polygon_P[part_R][ring_V] if len(ring_V) else ring_V
    return polygon_V[:-1][same_E], place_V2[:-1][same_E], place_V2[1:][same_E]


def _crossings(
    polygon_E: NDArray[np.int64],
    from_E2: NDArray[np.float64],
    to_E2: NDArray[np.float64],
    window: Window,
) -> NDArray[np.int64]:
    """The points where segments cross the middles of the window's rows.

    Returns:
        Keys that sort by polygon, row and first column to the right of the crossing.
    """
    down_E = to_E2[:, 1] > from_E2[:, 1]
    upper_E2 = np.where(down_E[:, None], from_E2, to_E2)
    lower_E2 = np.where(down_E[:, None], to_E2, from_E2)
    first_E, last_E = (
        np.clip(np.ceil(y_E - 0.5) - window.row, 0, window.height).astype(np.int64)
        for y_E in (upper_E2[:, 1], lower_E2[:, 1])
    )
    rows_E = last_E - first_E
    edge_P = np.repeat(np.arange(len(rows_E)), rows_E)
    row_P = np.arange(len(edge_P)) - np.repeat(np.cumsum(rows_E) - rows_E - first_E, rows_E)
    slope_E = (lower_E2[:, 0] - upper_E2[:, 0]) / (lower_E2[:, 1] - upper_E2[:, 1])
    down_P = row_P + (window.row + 0.5) - upper_E2[edge_P, 1]
    x_P = upper_E2[edge_P, 0] + down_P * slope_E[edge_P]
    col_P = np.clip(np.floor(x_P + 0.5) - window.col, 0, window.width).astype(np.int64)
    line_P = polygon_E[edge_P] * window.height + row_P
    return np.asarray(line_P * (window.width + 1) + col_P, np.int64)
