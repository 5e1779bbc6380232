"""One scene on one grid by the hot path: the pixels GDAL's reader gives, sooner."""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import SceneError, StorageError
from quakestream.raster.cog.blocks import BlockReader, Rect
from quakestream.raster.cog.layout import CogLayout, Colour, Level, refused
from quakestream.raster.cog.places import Target, bands_apart
from quakestream.raster.cog.positions import Positions
from quakestream.raster.cog.resample import Resampler, choose_level
from quakestream.raster.cog.workers import Team
from quakestream.raster.source import Pixels, RasterSource, is_aligned, whole_offset
from quakestream.storage import StorageOptions
from quakestream.storage.fetchers import open_fetcher
from quakestream.storage.ranges import Fetcher

OpenBytes = Callable[[str, StorageOptions], Fetcher]


class _Raster(NamedTuple):
    """A raster's shape and georeference, by the names rasterio's datasets use."""

    transform: Affine
    height: int
    width: int


class CogSource:
    """Reads a colour scene by its block index. Safe to read from several threads.

    Counts of 16 bits are brought to 8 as soon as their block is decoded, validity is judged
    on what is stored, and only then pixels are resampled.

    Whole-pixel offsets where the scene has the grid's CRS and GSD, as `RasterioSource`
    reads it, to the last bit but for JPEG, whose decoders differ in rounding and chroma.
    Any other scene is resampled, each pixel within `POSITION_BOUND_PX` of where it
    belongs. Whatever window a pixel is read in, its counts are the same.

    Held while a window is read: its counts and validity; per thread a decoded block or
    two; at most 64 MB of encoded bytes; for a scene of 16 bits with bands apart, those bands
    as stored; and for a scene that is resampled the part of the level under at most
    2,048 × 2,048 pixels of the window.

    Args:
        team: threads it may use, and blocks that neighbouring windows share; without, who
            asks for a window decodes it, and all of it.

    Raises:
        NotCoveredError: if the hot path does not cover the scene on this grid.
    """

    def __init__(
        self,
        scene: Scene,
        grid: Grid,
        layout: CogLayout,
        options: StorageOptions | None = None,
        *,
        team: Team | None = None,
        opens: OpenBytes = open_fetcher,
    ) -> None:
        self._scene, self._grid, self._layout = scene, grid, layout
        self._options, self._opens = options or StorageOptions(), opens
        self._lent = team
        first = layout.levels[0]
        if layout.colour is None:
            raise refused(scene.href, layout.why_not)
        self._tables_BV = _tables(scene, layout.colour, first)
        if not layout.crs_wkt:
            raise refused(scene.href, "it has no CRS")
        self._raster = _Raster(layout.transform, first.height, first.width)
        self._offset = self._whole_pixels()
        if self._offset is None:
            self._positions = self._way()
            choice = choose_level(layout, self._positions.ratio)
            if choice is None:
                finer = f"it is {self._positions.ratio:.1f} times finer than the grid"
                raise refused(scene.href, f"{finer} and has no overview near it")
            self._choice = choice

    def _whole_pixels(self) -> tuple[int, int] | None:
        """Grid row and column of the scene's first pixel; None where its pixels are others."""
        same = rasterio.CRS.from_wkt(self._layout.crs_wkt) == rasterio.CRS.from_epsg(
            self._grid.epsg
        )
        if not (same and is_aligned(self._raster, self._grid)):
            return None
        return whole_offset(self._raster.transform, self._grid)

    def _way(self) -> Positions:
        shape = self._raster.height, self._raster.width
        try:
            return Positions(self._grid, self._layout.crs_wkt, self._raster.transform, shape)
        except SceneError as error:
            raise refused(self._scene.href, str(error)) from error

    def __enter__(self) -> Self:
        try:
            self._fetcher = self._opens(self._scene.href, self._options)
        except StorageError as error:
            raise SceneError(str(error)) from error
        self._team = self._lent or Team()
        self._reader = BlockReader(
            self._layout,
            self._fetcher,
            name=f"scene {self._scene.id}, ",
            team=self._team,
            tables_BV=self._tables_BV,
        )
        if self._offset is None:
            self._resampler = Resampler(
                self._layout, self._reader, self._positions, self._choice, self._team
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._fetcher.close()
        if self._lent is None:
            self._team.close()

    @property
    def seamless(self) -> bool:
        return True

    @property
    def aligned(self) -> bool:
        """True if its pixels are the file's own; False if they are resampled."""
        return self._offset is not None

    def read(self, window: Window) -> Pixels:
        """Counts and validity; zeros and invalid outside the scene.

        Raises:
            ReadError: if a block cannot be fetched or decoded; names it.
        """
        if self._offset is not None:
            return self._copied(window, *self._offset)
        return self._resampler.read(window)

    def prefetch(self, *windows: Window) -> None:
        """Asks for the bytes later reads of windows will need, and returns at once.

        For stores that answer late: ask for the next windows, then read this one. Asked for
        together, neighbours cost fewer requests. At most 64 MB are on their way for all scenes
        of a team; what would be more is not asked for.
        """
        if self._offset is None:
            self._resampler.prefetch(windows)
            return
        found = [self._under(window, *self._offset) for window in windows]
        rects = [rect for rect in found if rect is not None]
        self._reader.prefetch(0, rects, interleaved=False)

    def _under(self, window: Window, row0: int, col0: int) -> Rect | None:
        """The scene's pixels that lie in a window; None where none do."""
        top, left = max(window.row, row0), max(window.col, col0)
        bottom = min(window.row_end, row0 + self._raster.height)
        right = min(window.col_end, col0 + self._raster.width)
        if bottom <= top or right <= left:
            return None
        return Rect(top=top - row0, left=left - col0, height=bottom - top, width=right - left)

    def _copied(self, window: Window, row0: int, col0: int) -> Pixels:
        rect = self._under(window, row0, col0)
        whole = rect is not None and (rect.height, rect.width) == window.shape
        make = np.empty if whole else np.zeros
        counts_BYX = bands_apart(make, 3, window.shape)
        valid_YX = make(window.shape, np.bool_)
        if rect is not None:
            top, left = rect.top + row0 - window.row, rect.left + col0 - window.col
            rows, cols = slice(top, top + rect.height), slice(left, left + rect.width)
            target = Target(counts_BYX=counts_BYX[:, rows, cols], valid_YX=valid_YX[rows, cols])
            self._reader.colour(0, rect, target)
        return Pixels(counts_BYX=counts_BYX, valid_YX=valid_YX)


_: type[RasterSource] = CogSource


def _tables(scene: Scene, colour: Colour, level: Level) -> NDArray[np.uint8] | None:
    """What counts of 16 bits become, by the scene's stretch; None for 8 bits."""
    stretch, coding = scene.stretch, level.coding
    bits = 8 if stretch is None else 16
    if np.dtype(coding.dtype).newbyteorder("=") != f"u{bits // 8}" or coding.bits != bits:
        raise refused(scene.href, f"it holds {coding.dtype}, takes uint{bits}")
    if stretch is None:
        return None
    fill = colour.nodata if colour.validity == "nodata" else 0
    return stretch.tables([fill or 0] * len(colour.bands))
