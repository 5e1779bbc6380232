"""Reads the tiles of a sheet as one raster, as rasterio would read the raster they were cut from.

Pixels are put together as they are stored, and resampled afterwards. So a pixel that is averaged
from both sides of a seam is what it would be without the seam.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.io import MemoryFile
from rasterio.transform import rowcol
from rasterio.warp import transform_bounds
from rasterio.windows import Window as DatasetWindow

from quakestream.domain import Scene, Window
from quakestream.domain.sheets import offset_px
from quakestream.raster.bands import BandReader, bands_in

OPEN_TILES = 16
"""Tiles that a mosaic keeps open."""
PART_PX = 2048
"""Side of the largest part that is put together at a time, pixels as stored or of an overview."""
MARGIN_PX = 4
"""Pixels around a part that interpolation reaches for."""

Opens = Callable[[Scene], Any]
"""Opens a tile as a rasterio dataset."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tile:
    """A tile and its place on the mosaic."""

    scene: Scene
    window: Window
    """Its pixels, counted from the mosaic's first pixel."""


class MosaicDataset:
    """Tiles of one lattice, with as much of rasterio's dataset as readers here use.

    The first tile in order of id that sees a pixel gives it. Its bands are red, green and blue,
    whatever their order in each tile. One thread at a time reads.

    Raises:
        SceneError: if a tile cannot be opened. It names the tile.
    """

    count = 3
    colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)

    def __init__(self, scene: Scene, opens: Opens) -> None:
        assert scene.transform is not None
        assert scene.shape is not None
        self.name, self.transform = scene.id, scene.transform
        self.crs = rasterio.CRS.from_wkt(scene.crs_wkt)
        self.height, self.width = scene.shape
        self._tiles = [_placed(tile, scene) for tile in scene.tiles]
        windows = [tile.window for tile in self._tiles]
        self._edge_T4 = np.array([(w.row, w.col, w.row_end, w.col_end) for w in windows])
        self._opens = opens
        self._open: OrderedDict[int, BandReader] = OrderedDict()
        first = self._reader(0)
        self.dtypes = (first.dataset.dtypes[first.bands.rgb[0] - 1],) * 3
        kept = [self._facts(n) for n in range(len(self._tiles))]
        fills = {fill for _, fill, _ in kept}
        self._plain = all(plain for plain, _, _ in kept)
        self._fill = fills.pop() if len(fills) == 1 else None
        self._levels = self._common_levels([levels for _, _, levels in kept])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].dataset.close()

    @property
    def bounds(self) -> Any:
        west, north = self.transform @ (0, 0)
        east, south = self.transform @ (self.width, self.height)
        return rasterio.coords.BoundingBox(west, south, east, north)

    @property
    def nodatavals(self) -> tuple[float | None, ...]:
        return (self._fill,) * 3

    @property
    def nodata(self) -> float | None:
        return self._fill

    @property
    def mask_flag_enums(self) -> tuple[list[MaskFlags], ...]:
        """Where no tile declares which pixels are valid, neither does the mosaic."""
        if self._plain:
            return ([MaskFlags.all_valid],) * 3
        return ([MaskFlags.per_dataset if self._fill is None else MaskFlags.nodata],) * 3

    def overviews(self, _: int) -> list[int]:
        """Factors of the overviews whose pixels lie on one lattice in all tiles."""
        return self._levels

    def read(
        self,
        indexes: list[int],
        *,
        window: DatasetWindow | None = None,
        out_shape: tuple[int, ...] | None = None,
        resampling: Resampling = Resampling.nearest,
    ) -> NDArray[Any]:
        """Counts, as `rasterio.DatasetReader.read` gives them."""
        whole, shape = self._asked(window, out_shape)
        out = np.zeros((len(indexes), *shape), self.dtypes[0])
        for rows, cols, part, within in self._parts(whole, shape):
            with part as memory:
                size = (rows.stop - rows.start, cols.stop - cols.start)
                out[:, rows, cols] = memory.read(
                    indexes,
                    window=within,
                    out_shape=(len(indexes), *size),
                    resampling=resampling,
                )
        return out

    def dataset_mask(
        self,
        *,
        window: DatasetWindow | None = None,
        out_shape: tuple[int, int] | None = None,
    ) -> NDArray[np.uint8]:
        """255 where the ground is valid, as `rasterio.DatasetReader.dataset_mask` gives it."""
        whole, shape = self._asked(window, out_shape)
        out = np.zeros(shape, np.uint8)
        for rows, cols, part, within in self._parts(whole, shape):
            with part as memory:
                size = (rows.stop - rows.start, cols.stop - cols.start)
                out[rows, cols] = memory.dataset_mask(window=within, out_shape=size)
        return out

    @contextmanager
    def around(self, bounds: tuple[float, float, float, float], crs: Any) -> Iterator[Any]:
        """A dataset in memory with the pixels as stored under bounds of another CRS."""
        west, south, east, north = transform_bounds(crs, self.crs, *bounds, densify_pts=21)
        rows, cols = rowcol(self.transform, [west, east], [north, south])
        top, left = max(int(rows[0]) - MARGIN_PX, 0), max(int(cols[0]) - MARGIN_PX, 0)
        bottom = min(int(rows[1]) + 1 + MARGIN_PX, self.height)
        right = min(int(cols[1]) + 1 + MARGIN_PX, self.width)
        top, left = min(top, self.height - 1), min(left, self.width - 1)
        height, width = max(bottom - top, 1), max(right - left, 1)
        with self._memory(Window(row=top, col=left, height=height, width=width), 1) as memory:
            yield memory

    def _asked(
        self, window: DatasetWindow | None, out_shape: tuple[int, ...] | None
    ) -> tuple[DatasetWindow, tuple[int, int]]:
        whole = window or DatasetWindow(0, 0, self.width, self.height)
        height, width = (out_shape or (round(whole.height), round(whole.width)))[-2:]
        return whole, (int(height), int(width))

    def _parts(
        self, window: DatasetWindow, shape: tuple[int, int]
    ) -> Iterator[tuple[slice, slice, Any, DatasetWindow]]:
        """Parts of an output, each with a dataset in memory and its window there."""
        down, across = window.height / max(shape[0], 1), window.width / max(shape[1], 1)
        level = self._level(min(down, across))
        step_y, step_x = (max(int(PART_PX * level / max(s, 1)), 1) for s in (down, across))
        for y in range(0, shape[0], step_y):
            for x in range(0, shape[1], step_x):
                y1, x1 = min(y + step_y, shape[0]), min(x + step_x, shape[1])
                # the very numbers that GDAL gets for a whole raster
                height = window.height if y1 - y == shape[0] else (y1 - y) * down
                width = window.width if x1 - x == shape[1] else (x1 - x) * across
                top, left = window.row_off + y * down, window.col_off + x * across
                outer = self._outer((top, left, top + height, left + width), level)
                within = DatasetWindow(
                    (left - outer.col) / level,
                    (top - outer.row) / level,
                    width / level,
                    height / level,
                )
                yield slice(y, y1), slice(x, x1), self._memory(outer, level), within

    def _outer(self, box: tuple[float, float, float, float], level: int) -> Window:
        """The stored pixels under a box and its margin, in whole pixels of a level."""
        top, left = (max(int(v // level) - MARGIN_PX, 0) * level for v in box[:2])
        limits = (self.height, self.width)
        bottom, right = (
            min((int(-(-v // level)) + MARGIN_PX) * level, -(-limit // level) * level)
            for v, limit in zip(box[2:], limits, strict=True)
        )
        return Window(row=top, col=left, height=bottom - top, width=right - left)

    @contextmanager
    def _memory(self, window: Window, level: int) -> Iterator[Any]:
        """A window as a dataset in memory, at a level."""
        counts_BYX, valid_YX = self._compose(window, level)
        with MemoryFile() as file, rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            with file.open(driver="GTiff", **self._profile(window, level)) as dataset:
                dataset.write(counts_BYX)
                if not self._plain and self._fill is None:
                    dataset.write_mask(valid_YX)
            with file.open() as dataset:  # a warp takes nothing that is open for writing
                yield dataset

    def _profile(self, window: Window, level: int) -> dict[str, Any]:
        place = self.transform @ Affine.translation(window.col, window.row)
        return {
            "count": 3,
            "height": window.height // level,
            "width": window.width // level,
            "dtype": self.dtypes[0],
            "crs": self.crs,
            "transform": place @ Affine.scale(level),
            "nodata": None if self._plain else self._fill,
        }

    def _compose(self, window: Window, level: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        shape = window.height // level, window.width // level
        counts_BYX = np.full((3, *shape), self._fill or 0, self.dtypes[0])
        valid_YX = np.zeros(shape, np.bool_)
        for n in self._touched(window):
            tile = self._tiles[n]
            inside = _whole(window.shared(tile.window), level)
            rows, cols = _at_level(inside, level).slices_in(_at_level(window, level))
            if valid_YX[rows, cols].all():  # also where the tile shows nothing
                continue
            new_BYX, seen_YX = self._tile(n, inside, level)
            fill_YX = seen_YX & ~valid_YX[rows, cols]
            counts_BYX[:, rows, cols] = np.where(fill_YX, new_BYX, counts_BYX[:, rows, cols])
            valid_YX[rows, cols] |= seen_YX
        return counts_BYX, valid_YX

    def _touched(self, window: Window) -> list[int]:
        """Tiles that reach into a window, in order."""
        top_T, left_T, bottom_T, right_T = self._edge_T4.T
        inside_T = (top_T < window.row_end) & (bottom_T > window.row)
        inside_T &= (left_T < window.col_end) & (right_T > window.col)
        touched: list[int] = np.flatnonzero(inside_T).tolist()
        return touched

    def _tile(self, n: int, inside: Window, level: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """A tile's counts and validity in a window of the mosaic, at a level."""
        tile = self._tiles[n]
        window = DatasetWindow(
            inside.col - tile.window.col,
            inside.row - tile.window.row,
            inside.width,
            inside.height,
        )
        shape = inside.height // level, inside.width // level
        how = Resampling.nearest if level == 1 else Resampling.average
        return self._reader(n).read(window, shape, how)

    def _level(self, ratio: float) -> int:
        """The coarsest overview that is not coarser than the output."""
        return max((by for by in self._levels if by <= ratio * 1.001), default=1)

    def _facts(self, n: int) -> tuple[bool, float | None, list[int]]:
        """Whether a tile declares nothing, the one count that marks missing ground, overviews."""
        reader = self._reader(n)
        dataset, bands = reader.dataset, reader.bands
        fill: float | None = None
        if MaskFlags.nodata in reader.flags and not bands.fills:
            fill = dataset.nodatavals[bands.rgb[0] - 1]
        elif len(bands.fills) == 1 and not (reader.masked or bands.alpha):
            red, *others = bands.fills[0]
            fill = red if others == [red, red] else None
        return reader.black_is_missing, fill, list(dataset.overviews(bands.rgb[0]))

    def _common_levels(self, levels: list[list[int]]) -> list[int]:
        # a tile that is too small for one is averaged from its pixels instead
        most = max(levels, key=len)
        corners = [v for t in self._tiles for v in (t.window.row, t.window.col)]
        return sorted(by for by in most if all(v % by == 0 for v in corners))

    def _reader(self, n: int) -> BandReader:
        if n not in self._open:
            while len(self._open) >= OPEN_TILES:
                self._open.popitem(last=False)[1].dataset.close()
            tile = self._tiles[n].scene
            dataset = self._opens(tile)
            bands = bands_in(dataset, tile.bands, tile.stated)
            self._open[n] = BandReader(dataset=dataset, bands=bands)
        self._open.move_to_end(n)
        return self._open[n]


def _whole(window: Window, level: int) -> Window:
    """The part of a window that holds whole pixels of a level; it begins at one."""
    height, width = (v // level * level for v in window.shape)
    return Window(row=window.row, col=window.col, height=height, width=width)


def _at_level(window: Window, level: int) -> Window:
    row, col = window.row // level, window.col // level
    return Window(row=row, col=col, height=window.height // level, width=window.width // level)


def _placed(tile: Scene, scene: Scene) -> _Tile:
    row, col = offset_px(tile, scene)
    height, width = tile.shape or (0, 0)
    return _Tile(scene=tile, window=Window(row=row, col=col, height=height, width=width))
