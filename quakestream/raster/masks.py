"""Finds clouds, snow and saturated pixels by simple rules.

Colour images cannot tell all white surfaces apart. A bright, grey and smooth area of at least a
hectare counts as cloud, and one with texture as snow. Thin haze and shadow count as valid ground.
"""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
from affine import Affine
from numpy.typing import NDArray

from quakestream.domain import Quality

BLOCK_M = 16.0
BRIGHT_COUNTS = 190.0
GREY_COUNTS = 28.0
"""Largest difference between the band means of a white block."""
SMOOTH_COUNTS = 14.0
"""Largest standard deviation of 4 m pixels in a block of cloud."""
MIN_AREA_M2 = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoarseQuality:
    """Cloud and snow of a whole scene in blocks of about 16 m: a small value for workers."""

    block_YX: NDArray[np.uint8]
    """`Quality` of each block, shape (y, x)."""
    transform: Affine
    """Maps (col, row) of blocks to the scene's CRS."""

    def at(self, x_P: NDArray[np.float64], y_P: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Quality at positions in the scene's CRS; VALID outside the scene."""
        col_P, row_P = ~self.transform @ (x_P, y_P)
        row_P, col_P = np.floor(row_P).astype(int), np.floor(col_P).astype(int)
        height, width = self.block_YX.shape
        inside_P = (row_P >= 0) & (row_P < height) & (col_P >= 0) & (col_P < width)
        out_P = np.zeros(np.shape(x_P), np.uint8)
        out_P[inside_P] = self.block_YX[row_P[inside_P], col_P[inside_P]]
        return out_P

    def around(self, bounds: tuple[float, float, float, float]) -> "CoarseQuality":
        """The blocks in and next to bounds (west, south, east, north) in the scene's CRS."""
        if self.clear:  # the same everywhere
            return CoarseQuality(block_YX=self.block_YX[:0, :0], transform=self.transform)
        west, south, east, north = bounds
        col_2, row_2 = ~self.transform @ (np.array([west, east]), np.array([north, south]))
        top, left = (max(int(np.floor(v.min())) - 1, 0) for v in (row_2, col_2))
        bottom, right = (max(int(np.ceil(v.max())) + 1, 0) for v in (row_2, col_2))
        return CoarseQuality(
            block_YX=self.block_YX[top:bottom, left:right].copy(),
            transform=self.transform @ Affine.translation(left, top),
        )

    @property
    def clear(self) -> bool:
        return not self.block_YX.any()


def block_quality(
    mean_BYX: NDArray[np.float32], deviation_YX: NDArray[np.float32], block_area_m2: float
) -> NDArray[np.uint8]:
    """Finds cloud and snow by the means of blocks and the deviation inside them."""
    white_YX = (mean_BYX.min(axis=0) >= BRIGHT_COUNTS) & (np.ptp(mean_BYX, axis=0) <= GREY_COUNTS)
    smooth_YX = deviation_YX <= SMOOTH_COUNTS
    quality_YX = np.zeros(white_YX.shape, np.uint8)
    for hidden_YX, quality in (
        (white_YX & ~smooth_YX, Quality.SNOW),
        (white_YX & smooth_YX, Quality.CLOUD),
    ):
        quality_YX[_large(hidden_YX, MIN_AREA_M2 / block_area_m2)] = quality
    # the soft edge of a cloud also hides the ground
    rim_YX = ndi.binary_dilation(quality_YX == Quality.CLOUD, iterations=1)
    quality_YX[rim_YX] = Quality.CLOUD
    return quality_YX


def saturated(counts_BYX: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True where every band is at its maximum, so the ground cannot be judged."""
    full_YX: NDArray[np.bool_] = counts_BYX.min(axis=0) == np.iinfo(np.uint8).max
    return full_YX


def _large(mask_YX: NDArray[np.bool_], min_blocks: float) -> NDArray[np.bool_]:
    label_YX, count = ndi.label(mask_YX, structure=np.ones((3, 3)))
    if count == 0:
        return mask_YX
    sizes = np.bincount(label_YX.ravel())
    keep = sizes >= min_blocks
    keep[0] = False
    large_YX: NDArray[np.bool_] = keep[label_YX]
    return large_YX
