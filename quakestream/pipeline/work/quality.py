"""Pixels of a window with their quality: what each pixel is worth, and how it changed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from quakestream.domain import Grid, Quality, Window
from quakestream.pipeline.work.tasks import WorkerScene
from quakestream.raster.masks import blank, saturated
from quakestream.raster.source import Pixels

NOT_HIDDEN = 255
"""Sorts after every `Quality`, so that a minimum finds what hides a pixel."""
QUALITY_STEP_PX = 8
"""Coarse cloud masks are looked up every so many pixels, on a sub-lattice fixed to the grid."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowPixels:
    """One window of one epoch."""

    counts_BYX: NDArray[Any]
    """uint8 counts, or float32 physical values."""
    quality_YX: NDArray[np.uint8]
    """A `Quality` per pixel."""

    def part(self, outer: Window, window: Window) -> "WindowPixels":
        """The pixels of a window that lies inside `outer`, whose pixels these are."""
        rows, cols = window.slices_in(outer)
        return WindowPixels(
            counts_BYX=self.counts_BYX[:, rows, cols], quality_YX=self.quality_YX[rows, cols]
        )

    def core(self, halo_px: int, side_px: int) -> "WindowPixels":
        """The pixels of a window without its halo."""
        core = slice(halo_px, halo_px + side_px)
        return WindowPixels(
            counts_BYX=self.counts_BYX[:, core, core], quality_YX=self.quality_YX[core, core]
        )


def with_quality(pixels: Pixels, scene: WorkerScene, grid: Grid, window: Window) -> WindowPixels:
    """Adds the quality of each pixel, and fills pixels without data.

    They take the scene's mean colour: a normalised network then sees zero there, as at the
    edges of its training chips. Physical values are 0 there.
    """
    if pixels.quality_YX is not None:
        nodata_YX = np.where(pixels.valid_YX, pixels.quality_YX, Quality.NODATA)
        return WindowPixels(
            counts_BYX=pixels.counts_BYX * pixels.valid_YX, quality_YX=nodata_YX.astype(np.uint8)
        )
    quality_YX = np.zeros(window.shape, np.uint8)
    saturated_YX = saturated(pixels.counts_BYX)
    if saturated_YX.any():
        quality_YX[saturated_YX] = Quality.SATURATED
    counts_BYX, valid_YX = pixels.counts_BYX, pixels.valid_YX
    if not scene.clear:
        hidden_YX = _coarse(scene, grid, window)
        near_YX = hidden_YX == Quality.NODATA
        if near_YX.any():  # on or beside a collar, whose own pixels are black or white
            valid_YX = valid_YX & ~(near_YX & blank(counts_BYX))
            hidden_YX = hidden_YX * ~near_YX
        quality_YX = np.where(hidden_YX > 0, hidden_YX, quality_YX)
    if not valid_YX.all():
        quality_YX[~valid_YX] = Quality.NODATA
        mean_B = np.rint(np.array(scene.statistics.mean_B)).astype(np.uint8)
        counts_BYX = np.where(valid_YX, counts_BYX, mean_B[:, None, None])
    return WindowPixels(counts_BYX=counts_BYX, quality_YX=quality_YX)


def worst_quality(qualities: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Quality of pixels that every epoch must show."""
    given = list(qualities)
    if not any(q.any() for q in given):  # most windows: nothing hides the ground
        return np.zeros_like(given[0])
    worst_YX = np.minimum.reduce([np.where(q == 0, NOT_HIDDEN, q) for q in given])
    return np.where(worst_YX == NOT_HIDDEN, 0, worst_YX).astype(np.uint8)


def quality_counts(quality_YX: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels per `Quality`."""
    if not quality_YX.any():
        return np.array([quality_YX.size] + [0] * (len(Quality) - 1), np.int64)
    return np.bincount(quality_YX.ravel(), minlength=len(Quality))


def change(epochs: Mapping[str, WindowPixels], where_P: NDArray[np.int64]) -> NDArray[np.int64]:
    """|post - pre| summed over bands; 0 where there is no pre epoch.

    Args:
        where_P: flat indices of the pixels that are wanted.
    """
    if "pre" not in epochs:
        return np.zeros(len(where_P), np.int64)
    post_BYX, pre_BYX = (epochs[e].counts_BYX for e in ("post", "pre"))
    if post_BYX.dtype != np.uint8:  # reflectance counts in steps of 1/255, as a picture would
        apart_YX = np.abs(post_BYX - pre_BYX).sum(axis=0) * 255
        return np.asarray(np.rint(apart_YX).reshape(-1)[where_P], np.int64)
    # Computed for every pixel: picking pixels of three bands and two epochs takes four times
    # as long.
    apart_BYX = np.maximum(post_BYX, pre_BYX)
    apart_BYX -= np.minimum(post_BYX, pre_BYX)
    change_YX = apart_BYX[0].astype(np.uint16)
    for apart_YX in apart_BYX[1:]:
        change_YX += apart_YX
    change_P: NDArray[np.int64] = change_YX.reshape(-1)[where_P].astype(np.int64)
    return change_P


def _coarse(scene: WorkerScene, grid: Grid, window: Window) -> NDArray[np.uint8]:
    """Cloud and snow of a window, looked up on a sub-lattice fixed to the grid."""
    step = QUALITY_STEP_PX
    row_Y = np.arange(window.row // step, (window.row_end - 1) // step + 1)
    col_X = np.arange(window.col // step, (window.col_end - 1) // step + 1)
    col_YX, row_YX = np.meshgrid((col_X + 0.5) * step, (row_Y + 0.5) * step)
    x_YX = grid.transform.c + col_YX * grid.gsd_m
    y_YX = grid.transform.f - row_YX * grid.gsd_m
    hidden_YX = np.zeros(x_YX.shape, np.uint8)
    for crs_wkt, quality in scene.qualities:
        new_YX = quality.at(*_projected(x_YX, y_YX, grid, crs_wkt))
        hidden_YX = np.where(hidden_YX > 0, hidden_YX, new_YX)
    fine_YX = hidden_YX.repeat(step, axis=0).repeat(step, axis=1)
    top, left = window.row - row_Y[0] * step, window.col - col_X[0] * step
    return fine_YX[top : top + window.height, left : left + window.width]


def _projected(
    x_YX: NDArray[np.float64], y_YX: NDArray[np.float64], grid: Grid, crs_wkt: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of a grid in another CRS."""
    if not crs_wkt:
        return x_YX, y_YX
    crs = pyproj.CRS.from_user_input(crs_wkt)
    if crs == pyproj.CRS.from_epsg(grid.epsg):
        return x_YX, y_YX
    project = pyproj.Transformer.from_crs(grid.epsg, crs, always_xy=True)
    moved_x_YX, moved_y_YX = project.transform(x_YX, y_YX)
    return moved_x_YX, moved_y_YX
