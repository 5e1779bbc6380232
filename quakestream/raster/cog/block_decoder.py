"""Decodes blocks into the memory and the axes that their places take."""

import math
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from quakestream.raster.cog.block_plan import BlockPart
from quakestream.raster.cog.decode import decode, tiff_header
from quakestream.raster.cog.layout import CogLayout
from quakestream.raster.cog.places import BlockTask, PlanarPlace, empty_bands
from quakestream.raster.cog.scratch import Scratch, offset_empty
from quakestream.raster.messages import counted
from quakestream.storage.limits import encoded_block_bytes
from quakestream.storage.ranges import Buffer


class BlockDecoder:
    """Decodes the blocks of one scene. Safe to use from several threads."""

    def __init__(self, layout: CogLayout, scratch: Scratch) -> None:
        self._levels, self._fill, self._scratch = len(layout.levels), layout.fill, scratch

    def header(self, part: BlockPart) -> bytes:
        """Bytes that must stand before a block's own to save a copy; empty for most codecs."""
        level = part.level
        return tiff_header(level.coding, level.packed_shape(part.row), part.size)

    def excess(self, part: BlockPart) -> str:
        """Why a block's size cannot be right; empty where it may be. Nothing was read yet."""
        shape, dtype = part.level.packed_shape(part.row), part.level.coding.dtype
        decoded = math.prod(shape) * np.dtype(dtype).itemsize
        if part.size <= encoded_block_bytes(decoded):
            return ""
        return f"block states {part.size:,} bytes, but it decodes to {decoded:,}"

    def absent(self, task: BlockTask) -> NDArray[Any]:
        """The pixels of a block that is not in the file: nodata, else 0, as GDAL has it."""
        part = task.part
        fill = 0 if part.image >= self._levels else self._fill
        block = np.full(part.level.shape_of(part.row), fill, part.level.coding.dtype)
        return block.transpose(2, 0, 1) if task.place.planar else block

    def decode(
        self, task: BlockTask, data: Buffer, *, keep: bool, header_bytes: int = 0
    ) -> NDArray[Any] | None:
        """Decodes a block.

        Args:
            data: the block's bytes, after its `header` if `header_bytes` is its length.
            keep: the block outlives the call, so it gets memory of its own.

        Returns:
            The block as its place takes it; None if its pixels are in their place already.

        Raises:
            ValueError, RuntimeError: if the block is truncated or damaged.
        """
        part, level = task.part, task.part.level
        missing = part.size + header_bytes - len(data)
        if missing > 0:
            raise ValueError(f"block truncated: {counted(missing, 'byte')} missing")
        shape, dtype = level.packed_shape(part.row), level.coding.dtype
        own_memory = keep and not task.place.planar
        empty = offset_empty if own_memory else partial(self._scratch.array, "block")
        block_YXS = decode(level, data, empty(shape, dtype), with_header=header_bytes > 0)
        if isinstance(task.place, PlanarPlace):
            if not keep and task.place.split(block_YXS, part.source, part.target):
                return None
            return self._split(block_YXS, keep=keep)
        if keep and level.coding.codec == "none":
            return block_YXS.copy()  # a view would keep the whole request's bytes in memory
        return block_YXS

    def _split(self, block_YXS: NDArray[np.uint8], *, keep: bool) -> NDArray[np.uint8]:
        """A block's bands, shape (sample, y, x); with `keep` in memory of their own."""
        height, width, samples = block_YXS.shape
        empty = np.empty if keep else partial(self._scratch.array, "bands")
        bands_SYX = empty_bands(empty, samples, (height, width))
        cv2.split(block_YXS, list(bands_SYX))
        return bands_SYX
