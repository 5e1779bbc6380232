"""Reads one scene on one grid by the hot path: the same pixels as GDAL's reader, but faster."""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import SceneError, StorageError
from quakestream.raster.cog.block_plan import Rect
from quakestream.raster.cog.blocks import BlockReader
from quakestream.raster.cog.colours import ColourReader
from quakestream.raster.cog.layout import CogLayout, Colour, Level, NotCoveredError
from quakestream.raster.cog.places import Target, empty_bands
from quakestream.raster.cog.positions import Positions
from quakestream.raster.cog.resample import Resampler, choose_level
from quakestream.raster.cog.workers import Team
from quakestream.raster.messages import reason_of
from quakestream.raster.source import Pixels, RasterSource, is_aligned, whole_offset
from quakestream.storage import StorageOptions
from quakestream.storage.fetchers import open_fetcher
from quakestream.storage.ranges import Fetcher

OpenFetcher = Callable[[str, StorageOptions], Fetcher]


class FileRaster(NamedTuple):
    """A raster's shape and georeference, named as in rasterio's datasets."""

    transform: Affine
    height: int
    width: int


class CogSource:
    """Reads a colour scene by its block index. Safe to read from several threads.

    Counts of 16 bits are brought to 8 as soon as their block is decoded. Validity is taken from
    the stored counts. Pixels are resampled last.

    A scene with the grid's CRS and GSD is read with whole-pixel offsets: equal to
    `RasterioSource` to the last bit, except for JPEG, whose decoders differ in rounding and
    chroma. Any other scene is resampled, each pixel within `POSITION_BOUND_PX` of its exact
    position. A pixel has the same counts in every window.

    While a window is read the source holds its counts and validity, one or two decoded blocks
    per thread, and at most 64 MB of encoded bytes. A scene of 16 bits with separate bands adds
    those bands as stored. A scene that is resampled adds the part of the level under at most
    2,048 × 2,048 pixels of the window.

    Args:
        team: threads and blocks that it shares with other sources. Without a team the calling
            thread decodes every block of its window.

    Raises:
        NotCoveredError: if the hot path cannot read the scene on this grid.
    """

    def __init__(
        self,
        scene: Scene,
        grid: Grid,
        layout: CogLayout,
        options: StorageOptions | None = None,
        *,
        team: Team | None = None,
        opens: OpenFetcher = open_fetcher,
    ) -> None:
        self._scene, self._grid, self._layout = scene, grid, layout
        self._options, self._opens = options or StorageOptions(), opens
        self._shared_team = team
        first = layout.levels[0]
        if layout.colour is None:
            raise NotCoveredError(layout.why_not, scene.href)
        self._colour = layout.colour
        self._tables_BV = _tables(scene, layout.colour, first)
        if not layout.crs_wkt:
            raise NotCoveredError("image has no CRS", scene.href)
        self._raster = FileRaster(layout.transform, first.height, first.width)
        self._offset = self._whole_pixels()
        if self._offset is None:
            self._positions = self._make_positions()
            choice = choose_level(layout, self._positions.ratio)
            if choice is None:
                ratio = f"{self._positions.ratio:.1f} times finer than the grid"
                raise NotCoveredError(f"image is {ratio} and has no overview near it", scene.href)
            self._choice = choice

    def _whole_pixels(self) -> tuple[int, int] | None:
        """Grid row and column of the scene's first pixel; None if it must be resampled."""
        same = rasterio.CRS.from_wkt(self._layout.crs_wkt) == rasterio.CRS.from_epsg(
            self._grid.epsg
        )
        if not (same and is_aligned(self._raster, self._grid)):
            return None
        return whole_offset(self._raster.transform, self._grid)

    def _make_positions(self) -> Positions:
        shape = self._raster.height, self._raster.width
        try:
            return Positions(self._grid, self._layout.crs_wkt, self._raster.transform, shape)
        except SceneError as error:
            raise NotCoveredError(reason_of(error), self._scene.href) from error

    def __enter__(self) -> Self:
        try:
            self._fetcher = self._opens(self._scene.href, self._options)
        except StorageError as error:
            raise SceneError.of(error.problem) from error
        self._team = self._shared_team or Team()
        blocks = BlockReader(
            self._layout, self._fetcher, name=f"scene {self._scene.id}", team=self._team
        )
        self._reader = ColourReader(
            self._layout, self._colour, blocks, self._team.scratch, self._tables_BV
        )
        if self._offset is None:
            self._resampler = Resampler(
                self._layout, self._reader, self._positions, self._choice, self._team
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._fetcher.close()
        if self._shared_team is None:
            self._team.close()

    @property
    def layout(self) -> CogLayout:
        return self._layout

    @property
    def reader(self) -> ColourReader:
        """Reads the file's own pixels, once this is open."""
        return self._reader

    @property
    def team(self) -> Team:
        return self._team

    @property
    def seamless(self) -> bool:
        return True

    @property
    def aligned(self) -> bool:
        """True if the pixels are the file's own; False if they are resampled."""
        return self._offset is not None

    def read(self, window: Window) -> Pixels:
        """Counts and validity; zeros and invalid outside the scene.

        Raises:
            ReadError: if a block cannot be fetched or decoded; it names the block.
        """
        if self._offset is not None:
            return self._copy(window, *self._offset)
        return self._resampler.read(window)

    def prefetch(self, *windows: Window) -> None:
        """Requests the bytes that later reads of windows need, and returns at once.

        It hides the latency of stores: prefetch the next windows, then read the current one.
        Neighbours that are prefetched together cost fewer requests. All scenes of a team share
        a bound of 64 MB; bytes beyond it are not requested.
        """
        if self._offset is None:
            self._resampler.prefetch(windows)
            return
        overlaps = [self._overlap(window, *self._offset) for window in windows]
        rects = [rect for rect in overlaps if rect is not None]
        self._reader.prefetch(0, rects, interleaved=False)

    def _overlap(self, window: Window, row0: int, col0: int) -> Rect | None:
        """The scene's pixels inside a window; None if there are none."""
        top, left = max(window.row, row0), max(window.col, col0)
        bottom = min(window.row_end, row0 + self._raster.height)
        right = min(window.col_end, col0 + self._raster.width)
        if bottom <= top or right <= left:
            return None
        return Rect(top=top - row0, left=left - col0, height=bottom - top, width=right - left)

    def _copy(self, window: Window, row0: int, col0: int) -> Pixels:
        """A window of the file's own pixels."""
        rect = self._overlap(window, row0, col0)
        whole = rect is not None and (rect.height, rect.width) == window.shape
        new_array = np.empty if whole else np.zeros
        counts_BYX = empty_bands(new_array, 3, window.shape)
        valid_YX = new_array(window.shape, np.bool_)
        if rect is not None:
            top, left = rect.top + row0 - window.row, rect.left + col0 - window.col
            rows, cols = slice(top, top + rect.height), slice(left, left + rect.width)
            target = Target(counts_BYX=counts_BYX[:, rows, cols], valid_YX=valid_YX[rows, cols])
            self._reader.read(0, rect, target)
        return Pixels(counts_BYX=counts_BYX, valid_YX=valid_YX)


_: type[RasterSource] = CogSource


def _tables(scene: Scene, colour: Colour, level: Level) -> NDArray[np.uint8] | None:
    """The scene's stretch as tables for counts of 16 bits; None for 8 bits."""
    stretch, coding = scene.stretch, level.coding
    bits = 8 if stretch is None else 16
    if np.dtype(coding.dtype).newbyteorder("=") != f"u{bits // 8}" or coding.bits != bits:
        raise NotCoveredError("counts are not supported", scene.href, f"uint{bits}", coding.dtype)
    if stretch is None:
        return None
    if colour.nodata is not None:
        return stretch.tables([colour.nodata] * len(colour.bands))
    return stretch.tables(colour.fills[0] if colour.fills else [0] * len(colour.bands))
