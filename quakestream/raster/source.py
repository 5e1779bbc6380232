"""Reads the pixels of one scene on one grid: the protocol of readers, and the reference reader."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as DatasetWindow

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import ReadError
from quakestream.raster.bands import BandReader, bands_in
from quakestream.raster.datasets import NO_OVERVIEWS, dataset_of, gdal_session, source_crs
from quakestream.raster.messages import restated
from quakestream.raster.mosaic import MosaicDataset
from quakestream.raster.stretch import in_eight_bits, tables_for
from quakestream.storage import StorageOptions

T = TypeVar("T")

AVERAGE_ABOVE = 1.5
"""A scene at least this many times finer than the grid is averaged. Others are interpolated."""

FULL_M2 = 32_000_000
"""Largest area of a scene or pair that is prepared from its full resolution, averaged. What is
measured then does not depend on whether files have overviews and how those were made. Larger ones
are read from overviews: four to eleven times the bytes would cost more than the rest of preparing.
"""

WARP_TOLERANCE_PX = 0.01
"""Error that GDAL may make when it projects between two CRS. (It refuses 0.)"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pixels:
    """One window of one scene."""

    counts_BYX: NDArray[Any]
    """uint8: counts of red, green and blue, shape (band, y, x); counts of 16 bits are stretched to
    8. float32: physical values of a scene's layers, 0 where invalid."""
    valid_YX: NDArray[np.bool_]
    """True where the sensor saw the ground, shape (y, x): not outside, not nodata, not masked."""
    quality_YX: NDArray[np.uint8] | None = None
    """`Quality` by the mask of the item, for scenes with layers; None for counts."""

    def part(self, outer: Window, window: Window) -> "Pixels":
        """The pixels of a window inside `outer`, whose pixels these are."""
        rows, cols = window.slices_in(outer)
        quality_YX = self.quality_YX
        return Pixels(
            counts_BYX=self.counts_BYX[:, rows, cols],
            valid_YX=self.valid_YX[rows, cols],
            quality_YX=None if quality_YX is None else quality_YX[rows, cols],
        )


class RasterSource(Protocol):
    """A scene that a worker has opened. Its context manager closes it."""

    @property
    def seamless(self) -> bool:
        """True if any part of a window reads the same alone as within a larger window."""
        ...

    def read(self, window: Window) -> Pixels:
        """Counts and validity on the grid. Pixels outside the scene are invalid.

        Raises:
            ReadError: if blocks cannot be fetched or decoded.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


@runtime_checkable
class ReadsAhead(Protocol):
    """A source that can request bytes before it reads them."""

    def prefetch(self, *windows: Window) -> None:
        """Requests the bytes that later reads of windows need, and returns at once."""
        ...


def full_or_overviews(read: Callable[[bool], T], ground_m2: float) -> T:
    """Runs `read(overviews)`: small ground at full resolution, large ground from overviews.

    Where blocks of the full resolution are lost, overviews that are whole stand in. Lost blocks
    then cost the buildings on them and not the whole scene.

    Raises:
        ReadError: if the overviews cannot be read either.
    """
    if ground_m2 > FULL_M2:
        return read(True)
    try:
        return read(False)
    except ReadError:
        return read(True)


@contextmanager
def open_scene(scene: Scene, options: StorageOptions, *, overviews: bool = True) -> Iterator[Any]:
    """A scene's file as a rasterio dataset, or the tiles of a sheet as one that looks alike.

    Args:
        overviews: whether reads may use overviews.

    Raises:
        SceneError: if it cannot be opened.
    """
    with gdal_session(options), _open_scene(scene, options, overviews=overviews) as dataset:
        yield dataset


def _open_scene(scene: Scene, options: StorageOptions, *, overviews: bool) -> Any:
    level = None if overviews else NO_OVERVIEWS

    def opened(tile: Scene) -> Any:
        return dataset_of(tile.href, options, overview=level)

    return MosaicDataset(scene, opened) if scene.tiles else opened(scene)


class RasterioSource:
    """Reads through GDAL. It is the reference reader, and it reads every scene.

    A scene with the grid's CRS and GSD is read with whole-pixel offsets, at most half a pixel
    off. A scene with the same CRS and another GSD is averaged (from overviews if there are any)
    or interpolated. A scene with another CRS is warped, bilinear or averaged, within 0.01 pixels
    of the exact position. Counts of 16 bits are brought to 8 last.

    Args:
        overviews: whether overviews are used. Without them the full resolution is averaged, so
            pixels do not depend on how the overviews of a file were made.
    """

    def __init__(
        self,
        scene: Scene,
        grid: Grid,
        options: StorageOptions | None = None,
        *,
        overviews: bool = True,
    ) -> None:
        self._scene, self._grid = scene, grid
        self._overviews = overviews
        self._options = options or StorageOptions()

    def __enter__(self) -> Self:
        with gdal_session(self._options):
            self._dataset = _open_scene(self._scene, self._options, overviews=self._overviews)
            self._same_crs = self._dataset.crs == rasterio.CRS.from_epsg(self._grid.epsg)
            bands = bands_in(self._dataset, self._scene.bands, self._scene.stated)
            self._reader = BandReader(dataset=self._dataset, bands=bands)
            self._tables_BV = tables_for(self._dataset, bands, self._scene.stretch)
            # a warp keeps nodata and alpha, but it would lose a mask beside the bands
            self._needs_alpha = not {MaskFlags.alpha, MaskFlags.nodata} & self._reader.flags
        return self

    def __exit__(self, *_: object) -> None:
        self._dataset.close()

    @property
    def seamless(self) -> bool:
        return self._same_crs and is_aligned(self._dataset, self._grid)

    def read(self, window: Window) -> Pixels:
        try:
            with gdal_session(self._options):
                counts_BYX, valid_YX = self._read(window)
        except (RasterioError, OSError) as error:
            where = (
                f"{self._scene.href} (scene {self._scene.id}, rows {window.row}..{window.row_end}, "
                f"cols {window.col}..{window.col_end} of grid {self._grid.epsg})"
            )
            raise restated(ReadError, "cannot read", where, error) from error
        if self._reader.black_is_missing:
            valid_YX &= counts_BYX.any(axis=0)
        return Pixels(counts_BYX=counts_BYX, valid_YX=valid_YX)

    def _read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        if self.seamless:
            return self._copy(window)
        if self._same_crs and _north_up(self._dataset.transform):
            return self._scale(window)
        return self._warp(window)

    def _copy(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        row0, col0 = whole_offset(self._dataset.transform, self._grid)
        inside = _clip(window, row0, col0, self._dataset.height, self._dataset.width)
        source = DatasetWindow(inside.col - col0, inside.row - row0, inside.width, inside.height)
        return self._read_part(window, inside, source, Resampling.nearest)

    def _scale(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        transform = self._dataset.transform
        ratio = self._grid.gsd_m / transform.a
        to_source = ~transform @ self._grid.transform
        col0, row0 = ~to_source @ (0.0, 0.0)
        inside = _clip(
            window,
            int(np.ceil(row0)),
            int(np.ceil(col0)),
            int(self._dataset.height / ratio) - 1,
            int(self._dataset.width / ratio) - 1,
        )
        left, top = to_source @ (float(inside.col), float(inside.row))
        source = DatasetWindow(left, top, inside.width * ratio, inside.height * ratio)
        how = Resampling.average if ratio >= AVERAGE_ABOVE else Resampling.bilinear
        return self._read_part(window, inside, source, how)

    def _read_part(
        self, window: Window, inside: Window, source: DatasetWindow, how: Resampling
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        counts_BYX = np.zeros((3, *window.shape), np.uint8)
        valid_YX = np.zeros(window.shape, np.bool_)
        if inside.height > 0 and inside.width > 0:
            rows, cols = inside.slices_in(window)
            stored_BYX, valid_YX[rows, cols] = self._reader.read(source, inside.shape, how)
            counts_BYX[:, rows, cols] = in_eight_bits(stored_BYX, self._tables_BV)
        return counts_BYX, valid_YX

    def _warp(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        gsd_m = self._scene.gsd_m or self._grid.gsd_m
        average = self._grid.gsd_m / gsd_m >= AVERAGE_ABOVE
        crs = rasterio.CRS.from_epsg(self._grid.epsg)
        with (
            _under(self._dataset, self._grid.bounds(window), crs) as dataset,
            WarpedVRT(
                dataset,
                src_crs=source_crs(dataset),
                crs=crs,
                transform=self._grid.window_transform(window),
                width=window.width,
                height=window.height,
                resampling=Resampling.average if average else Resampling.bilinear,
                tolerance=WARP_TOLERANCE_PX,
                add_alpha=self._needs_alpha,
            ) as vrt,
        ):
            stored_BYX, valid_YX = self._reader.warped(vrt)
            return in_eight_bits(stored_BYX, self._tables_BV), valid_YX


_: type[RasterSource] = RasterioSource


def _under(dataset: Any, bounds: tuple[float, float, float, float], crs: Any) -> Any:
    """What GDAL warps: the dataset, or the part of a mosaic under bounds."""
    if isinstance(dataset, MosaicDataset):
        return dataset.around(bounds, crs)
    return nullcontext(dataset)


def whole_offset(transform: Affine, grid: Grid) -> tuple[int, int]:
    """Grid row and column nearest to a raster's upper left pixel."""
    col, row = ~grid.transform @ (transform.c, transform.f)
    return round(row), round(col)


def is_aligned(dataset: Any, grid: Grid) -> bool:
    """True if whole-pixel offsets stay within half a pixel over the whole raster."""
    transform = dataset.transform
    drift = max(dataset.width, dataset.height) * abs(transform.a / grid.gsd_m - 1.0)
    square = abs(transform.a + transform.e) <= 1e-6 * transform.a
    return bool(_north_up(transform) and square and drift < 0.01)


def _north_up(transform: Affine) -> bool:
    return transform.b == 0 and transform.d == 0 and transform.a > 0 and transform.e < 0


def _clip(window: Window, row0: int, col0: int, height: int, width: int) -> Window:
    row = min(max(window.row, row0), window.row_end)
    col = min(max(window.col, col0), window.col_end)
    return Window(
        row=row,
        col=col,
        height=max(min(window.row_end, row0 + height) - row, 0),
        width=max(min(window.col_end, col0 + width) - col, 0),
    )
