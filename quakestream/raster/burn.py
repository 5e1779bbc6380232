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
    keys = _crossings(polygon_E[steep_E], from_E2[steep_E], to_E2[steep_E], window)
    if not len(keys):
        return burnt_YX
    # by outline, then by row; in a row the columns where borders cross it come in pairs
    keys.sort()
    starts, ends = keys[0::2], keys[1::2]
    lengths = ends - starts
    lines, cols = np.divmod(starts, window.width + 1)
    polygons, rows = np.divmod(lines, window.height)
    before = np.cumsum(lengths) - lengths
    pixel_P = np.repeat(rows * window.width + cols - before, lengths)
    pixel_P += np.arange(len(pixel_P))
    burnt_YX.reshape(-1)[pixel_P] = np.repeat(value_N[polygons], lengths)
    return burnt_YX


def _edges(
    polygons_N: NDArray[np.object_], grid: Grid
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Every border segment: its polygon, and its start and end (col, row) in grid pixels."""
    parts, polygon_of_part = shapely.get_parts(polygons_N, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    metres_E2, ring_E = shapely.get_coordinates(rings, return_index=True)
    corner_E2 = metres_E2 * (1.0, -1.0)
    corner_E2[:, 1] += NORTHING_TOP_M
    corner_E2 /= grid.gsd_m
    same_ring = ring_E[1:] == ring_E[:-1]
    polygon_E = polygon_of_part[part_of_ring][ring_E] if len(ring_E) else ring_E
    return polygon_E[:-1][same_ring], corner_E2[:-1][same_ring], corner_E2[1:][same_ring]


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
    count_E = last_E - first_E
    edges = np.repeat(np.arange(len(count_E)), count_E)
    rows = np.arange(len(edges)) - np.repeat(np.cumsum(count_E) - count_E - first_E, count_E)
    slope_E = (lower_E2[:, 0] - upper_E2[:, 0]) / (lower_E2[:, 1] - upper_E2[:, 1])
    down = rows + (window.row + 0.5) - upper_E2[edges, 1]
    x = upper_E2[edges, 0] + down * slope_E[edges]
    cols = np.clip(np.floor(x + 0.5) - window.col, 0, window.width).astype(np.int64)
    lines = polygon_E[edges] * window.height + rows
    return np.asarray(lines * (window.width + 1) + cols, np.int64)
