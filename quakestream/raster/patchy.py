"""A scene whose lost blocks are missing ground and no error."""

from typing import Self

import numpy as np

from quakestream.domain import Scene, Window
from quakestream.raster.lost_blocks import LostBlocks, readable
from quakestream.raster.source import Pixels, RasterSource
from quakestream.storage import StorageOptions

LEAST_PX = 64
"""Side of the smallest part that is read alone, pixels of the grid."""


class PatchySource:
    """Reads a scene, and what it lacks as invalid pixels."""

    def __init__(self, source: RasterSource, scene: Scene, options: StorageOptions) -> None:
        self._source, self._lost = source, LostBlocks(scene=scene, options=options)

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        self._source.__exit__(*about)

    @property
    def seamless(self) -> bool:
        return self._source.seamless

    def read(self, window: Window) -> Pixels:
        """Counts and validity on the grid. Pixels of lost blocks are invalid.

        Raises:
            ReadError: if bytes did not arrive.
        """
        counts_BYX = np.zeros((3, *window.shape), np.uint8)
        valid_YX = np.zeros(window.shape, np.bool_)
        least = (LEAST_PX, LEAST_PX)
        for part, pixels in readable(window, self._source.read, self._lost.are_why, least):
            at = part.slices_in(window)
            counts_BYX[:, *at], valid_YX[at] = pixels.counts_BYX, pixels.valid_YX
        return Pixels(counts_BYX=counts_BYX, valid_YX=valid_YX)


_: type[RasterSource] = PatchySource
