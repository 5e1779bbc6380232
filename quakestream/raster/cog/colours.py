"""Reads red, green, blue and validity of a scene's rectangles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.raster.cog.block_plan import BlockPart, Rect
from quakestream.raster.cog.blocks import BlockReader
from quakestream.raster.cog.layout import CogLayout, Colour
from quakestream.raster.cog.places import (
    BlockTask,
    InterleavedPlace,
    Place,
    PlanarPlace,
    SamplePlace,
    StretchedPlace,
    Target,
    sample_tables,
    validity,
)
from quakestream.raster.cog.scratch import Scratch


class ColourReader:
    """Reads rectangles of a colour scene. Safe to use from several threads.

    Args:
        tables_BV: what counts of 16 bits become; None for scenes of 8 bits.
    """

    def __init__(
        self,
        layout: CogLayout,
        colour: Colour,
        blocks: BlockReader,
        scratch: Scratch,
        tables_BV: NDArray[np.uint8] | None = None,
    ) -> None:
        self._layout, self.colour, self._blocks = layout, colour, blocks
        self._scratch, self._tables_BV = scratch, tables_BV
        self._tables_VS = None
        if tables_BV is not None:
            self._tables_VS = sample_tables(tables_BV, colour, layout.levels[0].samples)

    def read(self, level: int, rect: Rect, target: Target) -> None:
        """Fills a target of the rectangle's shape.

        Validity is left alone where the target is interleaved and the file declares nothing.

        Raises:
            ReadError: if a block cannot be fetched or decoded; it names the block.
        """
        mask_place = SamplePlace({0: target.valid_YX}, planes_apart=False)
        if not self._layout.levels[level].planar:
            self._read_blocks(level, rect, self._place(target), mask_place)
            return
        planes: dict[int, NDArray[Any]] = {}
        if self._tables_BV is None:
            planes.update(zip(self.colour.bands, target.counts_BYX, strict=True))
        counts = np.uint8 if self._tables_BV is None else np.uint16
        for sample in self.colour.used[len(planes) :]:
            planes[sample] = np.empty(target.valid_YX.shape, counts)
        self._read_blocks(level, rect, SamplePlace(planes, planes_apart=True), mask_place)
        if self._tables_BV is not None:
            bands = zip(self._tables_BV, self.colour.bands, target.counts_BYX, strict=True)
            for table_V, band, out_YX in bands:
                out_YX[:] = table_V[planes[band]]
        ground_YX = validity(self.colour, planes, Scratch(), black_later=target.interleaved)
        if ground_YX is not None:
            np.not_equal(ground_YX, 0, out=target.valid_YX)

    def prefetch(self, level: int, rects: Sequence[Rect], *, interleaved: bool) -> None:
        """Requests what `read` will need of rectangles, and returns at once.

        Args:
            interleaved: the targets will be interleaved.
        """
        bands_apart = self._layout.levels[level].planar
        planar = not (bands_apart or interleaved or self._tables_VS is not None)
        parts = [part for rect in rects for part in self._colour_parts(level, rect)]
        masks = [part for rect in rects for part in self._mask_parts(level, rect)]
        self._blocks.prefetch(parts, masks, planar=planar)

    def _read_blocks(self, level: int, rect: Rect, place: Place, mask_place: Place) -> None:
        tasks = [BlockTask(part, place) for part in self._colour_parts(level, rect)]
        tasks += [BlockTask(part, mask_place) for part in self._mask_parts(level, rect)]
        self._blocks.read(tasks)

    def _colour_parts(self, level: int, rect: Rect) -> list[BlockPart]:
        planes = self.colour.used if self._layout.levels[level].planar else (0,)
        return self._blocks.parts(level, rect, planes)

    def _mask_parts(self, level: int, rect: Rect) -> list[BlockPart]:
        if self.colour.validity != "mask":
            return []
        return self._blocks.parts(len(self._layout.levels) + level, rect, (0,))

    def _place(self, target: Target) -> Place:
        """The place for blocks that hold all bands."""
        if self._tables_VS is not None:
            return StretchedPlace(self.colour, target, self._scratch, self._tables_VS)
        if target.counts_YX4 is not None:
            return InterleavedPlace(self.colour, target, self._scratch, target.counts_YX4)
        return PlanarPlace(self.colour, target, self._scratch)
