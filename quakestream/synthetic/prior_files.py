"""Writes the static layers of the landslide prior for synthetic hills, as agencies hold them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from quakestream.synthetic.hazard_files import pixel_centres, write_raster
from quakestream.synthetic.hills import LITHOLOGY
from quakestream.synthetic.settings import PRIOR_LAYERS
from quakestream.synthetic.upland import DEM_STEP_DEG, Upland, dem_half_deg
from quakestream.synthetic.world import SyntheticWorld

F64 = NDArray[np.float64]

ROCK_COEFFICIENT = {"granite": -1.92, "sandstone": -1.5, "schist": -0.95, "ash": -0.78}
"""Coefficients of the prior's lithology, values that USGS's layer holds; the order of rocks is
that of the hills."""
WOODS, PLAIN = 1.13, 0.3
"""Coefficients of land cover on hillsides and in the plain, values that USGS's layer holds."""
_LEAST_TANGENT = 1e-3
"""Flatter ground counts as this steep: its index would be infinite."""
_AROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


def write_prior_layers(folder: Path, upland: Upland, world: SyntheticWorld) -> None:
    """Writes `lithology.tif`, `landcover.tif` and `cti.tif` on the lattice of the DEM."""
    hills = upland.hills
    points, shape, transform = pixel_centres(world, DEM_STEP_DEG, dem_half_deg(world))
    col, row = ~world.transform @ (points[:, 0], points[:, 1])
    rows, cols = (
        np.clip(at.astype(np.intp), 0, size - 1)
        for at, size in ((row, world.shape[0]), (col, world.shape[1]))
    )
    rock_N = np.array([ROCK_COEFFICIENT[name] for name in LITHOLOGY])[
        hills.lithology_YX[rows, cols]
    ]
    cover_N = np.where(upland.side_YX[rows, cols], WOODS, PLAIN)
    metres_N = map_coordinates(
        hills.elevation_YX, [row - 0.5, col - 0.5], order=1, mode="nearest", output=np.float64
    )
    size_m = abs(points[1, 0] - points[0, 0]), abs(points[shape[1], 1] - points[0, 1])
    index_YX = topographic_index(metres_N.reshape(shape), *size_m)
    for name, values in zip(PRIOR_LAYERS, (rock_N, cover_N, index_YX), strict=True):
        values_YX = values.reshape(shape).astype(np.float32)
        write_raster(folder / f"{name}.tif", values_YX, transform, f"{name} of the landslide prior")


def topographic_index(metres_YX: F64, across_m: float, down_m: float) -> F64:
    """ln(area above per metre of contour / tangent of the slope).

    Each pixel drains into the steepest of its eight neighbours, the highest pixel first. A pit
    keeps what flows into it.

    Args:
        metres_YX: elevation.
        across_m: width of a pixel.
        down_m: height of a pixel.
    """
    height, width = metres_YX.shape
    low_YX = np.pad(metres_YX, 1, constant_values=np.inf)
    fall_ENYX = np.stack(
        [
            (metres_YX - low_YX[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width])
            / np.hypot(dy * down_m, dx * across_m)
            for dy, dx in _AROUND
        ]
    )
    into_N = fall_ENYX.argmax(axis=0).ravel()
    tangent_N = fall_ENYX.max(axis=0).ravel()
    step_E = np.array([dy * width + dx for dy, dx in _AROUND])
    area_N = np.full(metres_YX.size, across_m * down_m)
    for pixel in np.argsort(-metres_YX, axis=None, kind="stable").tolist():
        if tangent_N[pixel] > 0:
            area_N[pixel + step_E[into_N[pixel]]] += area_N[pixel]
    contour_m = np.sqrt(across_m * down_m)
    index_N = np.log(area_N / contour_m / np.maximum(tangent_N, _LEAST_TANGENT))
    return np.asarray(index_N.reshape(metres_YX.shape), np.float64)
