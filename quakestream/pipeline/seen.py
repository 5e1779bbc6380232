"""What a window of a scene shows: counts, and what each pixel is worth."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyproj
from numpy.typing import NDArray

from quakestream.domain import Grid, Quality, Window
from quakestream.pipeline.tasks import SceneTask
from quakestream.raster.masks import saturated
from quakestream.raster.source import Pixels

UNSEEN = 255
QUALITY_STEP_PX = 8
"""Coarse cloud masks are looked up every so many pixels, on a sub-lattice fixed to the grid."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """One window of one epoch."""

    counts_BYX: NDArray[np.uint8]
    quality_YX: NDArray[np.uint8]

    def part(self, outer: Window, window: Window) -> "Seen":
        """A window inside what was seen of `outer`."""
        rows, cols = window.slices_in(outer)
        return Seen(
            counts_BYX=self.counts_BYX[:, rows, cols], quality_YX=self.quality_YX[rows, cols]
        )


def see(pixels: Pixels, scene: SceneTask, grid: Grid, window: Window) -> Seen:
    """Quality of a window; what was not seen is given the scene's mean colour, so that
    a normalised network sees zero there, as at the edge of its training chips."""
    quality_YX = np.zeros(window.shape, np.uint8)
    full_YX = saturated(pixels.counts_BYX)
    if full_YX.any():
        quality_YX[full_YX] = Quality.SATURATED
    if not scene.quality.clear:
        hidden_YX = _coarse(scene, grid, window)
        quality_YX = np.where(hidden_YX > 0, hidden_YX, quality_YX)
    counts_BYX = pixels.counts_BYX
    if not pixels.valid_YX.all():
        quality_YX[~pixels.valid_YX] = Quality.NODATA
        mean_B = np.rint(np.array(scene.statistics.mean_B)).astype(np.uint8)
        counts_BYX = np.where(pixels.valid_YX, counts_BYX, mean_B[:, None, None])
    return Seen(counts_BYX=counts_BYX, quality_YX=quality_YX)


def worst(qualities: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Quality of pixels that all epochs must show."""
    given = list(qualities)
    if not any(q.any() for q in given):  # most windows: nothing hides the ground
        return np.zeros_like(given[0])
    worst_YX = np.minimum.reduce([np.where(q == 0, UNSEEN, q) for q in given])
    return np.where(worst_YX == UNSEEN, 0, worst_YX).astype(np.uint8)


def counted(quality_YX: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels per `Quality`."""
    if not quality_YX.any():
        return np.array([quality_YX.size] + [0] * (len(Quality) - 1), np.int64)
    return np.bincount(quality_YX.ravel(), minlength=len(Quality))


def change(seen: dict[str, Seen], where_P: NDArray[np.int64]) -> NDArray[np.int64]:
    """|post - pre| summed over bands; 0 where there is no pre epoch.

    Args:
        where_P: flat indices of the pixels it is asked of.
    """
    if "pre" not in seen:
        return np.zeros(len(where_P), np.int64)
    post_BYX, pre_BYX = (seen[e].counts_BYX for e in ("post", "pre"))
    # of every pixel: picking them from three bands of two epochs takes four times as long
    apart_BYX = np.maximum(post_BYX, pre_BYX)
    apart_BYX -= np.minimum(post_BYX, pre_BYX)
    change_YX = apart_BYX[0].astype(np.uint16)
    for apart_YX in apart_BYX[1:]:
        change_YX += apart_YX
    change_P: NDArray[np.int64] = change_YX.reshape(-1)[where_P].astype(np.int64)
    return change_P


def _coarse(scene: SceneTask, grid: Grid, window: Window) -> NDArray[np.uint8]:
    """Cloud and snow of a window, looked up on a sub-lattice fixed to the grid."""
    step = QUALITY_STEP_PX
    row_R = np.arange(window.row // step, (window.row_end - 1) // step + 1)
    col_C = np.arange(window.col // step, (window.col_end - 1) // step + 1)
    col_RC, row_RC = np.meshgrid((col_C + 0.5) * step, (row_R + 0.5) * step)
    x_RC = grid.transform.c + col_RC * grid.gsd_m
    y_RC = grid.transform.f - row_RC * grid.gsd_m
    if scene.scene.crs_wkt:
        crs = pyproj.CRS.from_user_input(scene.scene.crs_wkt)
        if crs != pyproj.CRS.from_epsg(grid.epsg):
            project = pyproj.Transformer.from_crs(grid.epsg, crs, always_xy=True)
            x_RC, y_RC = project.transform(x_RC, y_RC)
    fine_YX = scene.quality.at(x_RC, y_RC).repeat(step, axis=0).repeat(step, axis=1)
    top, left = window.row - row_R[0] * step, window.col - col_C[0] * step
    return fine_YX[top : top + window.height, left : left + window.width]
