"""Resamples the tiles of one acquisition as if they were one raster.

Tiles that are resampled one by one differ next to seams from the raster they were cut from: no
pixel beyond the seam takes part. Here the tiles' pixels are put together first.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, Scene, Window
from quakestream.domain.sheets import offset_px
from quakestream.raster.cog.block_plan import Rect
from quakestream.raster.cog.colours import ColourReader
from quakestream.raster.cog.layout import Colour
from quakestream.raster.cog.places import Target, interleaved_target
from quakestream.raster.cog.positions import Positions
from quakestream.raster.cog.resample import Resampler, choose_level
from quakestream.raster.cog.source import CogSource
from quakestream.raster.source import Pixels, RasterSource

Member = tuple[Scene, CogSource]


class SheetReader:
    """Reads rectangles of a sheet as `ColourReader` reads those of a scene.

    The first tile that sees a pixel gives it.
    """

    def __init__(self, scene: Scene, members: Sequence[Member]) -> None:
        self._members = [(source.reader, _place(tile, scene)) for tile, source in members]
        colours = [reader.colour for reader, _ in self._members]
        declared = [colour for colour in colours if colour.validity != "black"]
        self.colour: Colour = [*declared, *colours][0]

    def read(self, level: int, rect: Rect, target: Target) -> None:
        """Fills an interleaved target. Validity is left alone where no tile declares any.

        Raises:
            ReadError: if a block cannot be fetched or decoded; it names the block.
        """
        assert target.counts_YX4 is not None
        target.counts_YX4[:] = 0
        seen_YX = np.zeros(target.valid_YX.shape, np.bool_)
        for reader, place in self._members:
            shared = _shared(rect, place)
            if shared is None:
                continue
            at = _slices(shared, rect)
            if seen_YX[at].all():
                continue
            counts_YX4, new_YX = _read_tile(reader, level, _moved(shared, place))
            new_YX &= ~seen_YX[at]
            np.copyto(target.counts_YX4[at], counts_YX4, where=new_YX[..., None])
            seen_YX[at] |= new_YX
        if self.colour.validity != "black":
            target.valid_YX[:] = seen_YX

    def prefetch(self, level: int, rects: Sequence[Rect], *, interleaved: bool) -> None:
        """Requests what `read` will need of rectangles, and returns at once."""
        for reader, place in self._members:
            shared = (_shared(rect, place) for rect in rects)
            own = [_moved(rect, place) for rect in shared if rect is not None]
            if own:
                reader.prefetch(level, own, interleaved=interleaved)


class SheetSource:
    """Reads the tiles of one lattice on a grid that needs them resampled.

    Args:
        scene: the acquisition, whose transform fixes where pixels are sampled.
        members: its tiles that may be needed, in order, with their open sources.
    """

    def __init__(self, scene: Scene, grid: Grid, members: Sequence[Member]) -> None:
        assert scene.transform is not None
        assert scene.shape is not None
        first, self._reader = members[0][1], SheetReader(scene, members)
        height, width = scene.shape
        level = replace(
            first.layout.levels[0],
            height=height,
            width=width,
            block_height=height,
            block_width=width,
            planar=False,
            offset_N=np.zeros(1, np.int64),
            bytes_N=np.zeros(1, np.int64),
        )
        layout = replace(first.layout, transform=scene.transform, levels=(level,), masks=())
        positions = Positions(grid, layout.crs_wkt, scene.transform, scene.shape)
        choice = choose_level(layout, positions.ratio)
        assert choice is not None, "tiles near the GSD of the grid"
        self._resampler = Resampler(layout, self._reader, positions, choice, first.team)

    def read(self, window: Window) -> Pixels:
        """Counts and validity; zeros and invalid where no tile shows the ground.

        Raises:
            ReadError: if a block cannot be fetched or decoded; it names the block.
        """
        return self._resampler.read(window)

    def prefetch(self, *windows: Window) -> None:
        """Requests the bytes that later reads of windows need, and returns at once."""
        self._resampler.prefetch(windows)


def sheet_source(
    scene: Scene, grid: Grid, sources: Sequence[tuple[Scene, RasterSource]]
) -> SheetSource:
    """A source over those tiles that are read by their blocks."""
    members = [(tile, source) for tile, source in sources if isinstance(source, CogSource)]
    return SheetSource(scene, grid, members)


def _read_tile(
    reader: ColourReader, level: int, rect: Rect
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    shape = rect.height, rect.width
    counts_YX4, valid_YX = np.empty((*shape, 4), np.uint8), np.ones(shape, np.bool_)
    reader.read(level, rect, interleaved_target(counts_YX4, valid_YX))
    if reader.colour.validity == "black":
        valid_YX[:] = counts_YX4[..., :3].any(axis=2)
    return counts_YX4, valid_YX


def _place(tile: Scene, scene: Scene) -> Rect:
    row, col = offset_px(tile, scene)
    height, width = tile.shape or (0, 0)
    return Rect(top=row, left=col, height=height, width=width)


def _shared(one: Rect, other: Rect) -> Rect | None:
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom = min(one.top + one.height, other.top + other.height)
    right = min(one.left + one.width, other.left + other.width)
    if bottom <= top or right <= left:
        return None
    return Rect(top=top, left=left, height=bottom - top, width=right - left)


def _slices(rect: Rect, outer: Rect) -> tuple[slice, slice]:
    top, left = rect.top - outer.top, rect.left - outer.left
    return slice(top, top + rect.height), slice(left, left + rect.width)


def _moved(rect: Rect, place: Rect) -> Rect:
    """A rectangle counted from a tile's own first pixel."""
    top, left = rect.top - place.top, rect.left - place.left
    return Rect(top=top, left=left, height=rect.height, width=rect.width)
