"""Finds clouds, snow, collars and saturated pixels by simple rules.

Colour images cannot tell all white surfaces apart. A bright, grey and smooth area of at least a
hectare counts as cloud, and one with texture as snow. Thin haze and shadow count as valid ground.
"""

from dataclasses import dataclass
from typing import NamedTuple

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """A scene in blocks of about 16 m, and the averaged pixels in each."""

    mean_BYX: NDArray[np.float32]
    """Band means, 8 bits."""
    deviation_YX: NDArray[np.float32]
    """Standard deviation of grey inside each block."""
    valid_YX: NDArray[np.int64]
    """Averaged pixels that show the ground."""
    black_YX: NDArray[np.int64]
    """Averaged pixels that are 0 in every band throughout, though the file calls them valid."""
    white_YX: NDArray[np.int64]
    """Averaged pixels that are at the maximum in every band throughout."""
    side: int
    """Averaged pixels along a side of a block."""


class BlockQuality(NamedTuple):
    """What hides the ground in each block."""

    block_YX: NDArray[np.uint8]
    """`Quality` of each block. In a block of NODATA, only black and white pixels are collar."""
    collar_YX: NDArray[np.bool_]
    """True for the blocks of a collar and those that touch it."""


def block_quality(blocks: Blocks, block_area_m2: float) -> BlockQuality:
    """Finds collars, cloud and snow by the means of blocks and the deviation inside them."""
    mean_BYX = blocks.mean_BYX
    collar_YX = _collar(blocks, MIN_AREA_M2 / block_area_m2)
    near_YX = ndi.binary_dilation(collar_YX, np.ones((3, 3))) if collar_YX.any() else collar_YX
    white_YX = (mean_BYX.min(axis=0) >= BRIGHT_COUNTS) & (np.ptp(mean_BYX, axis=0) <= GREY_COUNTS)
    white_YX &= ~near_YX  # blocks that a collar covers in part are no snow
    smooth_YX = blocks.deviation_YX <= SMOOTH_COUNTS
    quality_YX = np.zeros(white_YX.shape, np.uint8)
    for hidden_YX, quality in (
        (white_YX & ~smooth_YX, Quality.SNOW),
        (white_YX & smooth_YX, Quality.CLOUD),
    ):
        quality_YX[_large(hidden_YX, MIN_AREA_M2 / block_area_m2)] = quality
    # the soft edge of a cloud also hides the ground
    rim_YX = ndi.binary_dilation(quality_YX == Quality.CLOUD, iterations=1)
    quality_YX[rim_YX] = Quality.CLOUD
    quality_YX[collar_YX | (near_YX & (quality_YX == 0))] = Quality.NODATA
    return BlockQuality(quality_YX, near_YX)


def _collar(blocks: Blocks, min_blocks: float) -> NDArray[np.bool_]:
    """Blocks that are black or white throughout, in large areas that reach the scene's edge.

    Vendors fill what lies outside the swath, not always with a tag that says so.
    """
    collar_YX = np.zeros(blocks.valid_YX.shape, np.bool_)
    unseen_YX = blocks.valid_YX == 0
    for filled_YX in (blocks.black_YX, blocks.white_YX):
        full_YX = (filled_YX > 0) & (filled_YX == blocks.valid_YX)
        if full_YX.any():
            outside_YX = _at_the_edge(full_YX | unseen_YX)
            collar_YX |= _large(full_YX & outside_YX, min_blocks)
    return collar_YX


def _at_the_edge(mask_YX: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The areas of a mask that reach the edge of the array."""
    label_YX, _ = ndi.label(mask_YX, structure=np.ones((3, 3)))
    edges = (label_YX[0], label_YX[-1], label_YX[:, 0], label_YX[:, -1])
    touching = np.unique(np.concatenate(edges))
    reached_YX: NDArray[np.bool_] = mask_YX & np.isin(label_YX, touching[touching > 0])
    return reached_YX


def blank(counts_BYX: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """True where every band is 0, or every band is at its maximum: the counts of collars."""
    return saturated(counts_BYX) | ~counts_BYX.any(axis=0)


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
