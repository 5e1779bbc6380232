"""Reads the bands of one file as physical values: the protocol, and the reference reader.

Values are scale × count + offset. Counts of missing ground take no part when pixels are averaged
or interpolated, and NaN never counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT

from quakestream.domain import Grid, SceneLayer, Window
from quakestream.errors import ReadError
from quakestream.raster.datasets import dataset_of, gdal_session, source_crs
from quakestream.raster.messages import restated
from quakestream.raster.source import AVERAGE_ABOVE, WARP_TOLERANCE_PX
from quakestream.storage import StorageOptions

UNDECLARED = -(2.0**40)
"""Marks pixels outside a file that declares no nodata: no count of a sensor."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Values:
    """One window of some bands of a file."""

    value_BYX: NDArray[np.float32]
    """Physical values, shape (band, y, x); 0 where invalid."""
    valid_BYX: NDArray[np.bool_]
    """True where the file has a value, shape (band, y, x)."""


class ValueReader(Protocol):
    """Bands of one file that a worker has opened. Its context manager closes it."""

    @property
    def seamless(self) -> bool:
        """True if any part of a window reads the same alone as within a larger window."""
        ...

    def read(self, window: Window) -> Values:
        """Values on the grid; invalid outside the file.

        Raises:
            ReadError: if blocks cannot be fetched or decoded.
        """
        ...

    def prefetch(self, *windows: Window) -> None:
        """Requests the bytes that later reads of windows need, and returns at once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class GdalValues:
    """Reads through GDAL: files other than TIFF, such as JPEG 2000, and odd codecs.

    Args:
        layers: bands of one file.
        nearest: takes the nearest pixel, for classes; else pixels are averaged or interpolated.
    """

    def __init__(
        self, layers: Sequence[SceneLayer], grid: Grid, options: StorageOptions, *, nearest: bool
    ) -> None:
        self._layers, self._grid, self._options = layers, grid, options
        file = layers[0].file
        finer = grid.gsd_m / (file.gsd_m or grid.gsd_m)
        smooth = Resampling.average if finer >= AVERAGE_ABOVE else Resampling.bilinear
        self._how = Resampling.nearest if nearest else smooth
        self._href = file.href

    def __enter__(self) -> Self:
        with gdal_session(self._options):
            self._dataset = dataset_of(self._href, self._options)
            self._crs = rasterio.CRS.from_epsg(self._grid.epsg)
        return self

    def __exit__(self, *_: object) -> None:
        self._dataset.close()

    @property
    def seamless(self) -> bool:
        return bool(self._dataset.crs == self._crs)

    def prefetch(self, *windows: Window) -> None:
        """Does nothing: GDAL reads when it is asked."""

    def read(self, window: Window) -> Values:
        try:
            with gdal_session(self._options):
                bands = [self._band(layer, window) for layer in self._layers]
        except (RasterioError, OSError) as error:
            raise restated(ReadError, "cannot read", self._href, error) from error
        return Values(
            value_BYX=np.stack([value_YX for value_YX, _ in bands]),
            valid_BYX=np.stack([valid_YX for _, valid_YX in bands]),
        )

    def _band(
        self, layer: SceneLayer, window: Window
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        missing = layer.nodata[0] if layer.nodata else UNDECLARED
        with WarpedVRT(
            self._dataset,
            src_crs=source_crs(self._dataset),
            src_nodata=layer.nodata[0] if layer.nodata else None,
            nodata=missing,
            crs=self._crs,
            transform=self._grid.window_transform(window),
            width=window.width,
            height=window.height,
            resampling=self._how,
            tolerance=WARP_TOLERANCE_PX,
            dtype="float64",
        ) as vrt:
            stored_YX = vrt.read(layer.band)
        return physical(stored_YX, is_valid(stored_YX, (*layer.nodata, missing)), layer)


_: type[ValueReader] = GdalValues


def is_valid(stored_YX: NDArray[Any], nodata: Sequence[float]) -> NDArray[np.bool_]:
    """True where counts are finite and none of those that mark missing ground."""
    valid_YX: NDArray[np.bool_] = np.isfinite(stored_YX)
    for count in nodata:
        valid_YX &= stored_YX != stored_YX.dtype.type(count)
    return valid_YX


def physical(
    stored_YX: NDArray[Any], valid_YX: NDArray[np.bool_], layer: SceneLayer
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The values of a band's counts, 0 where invalid, and validity."""
    scale, offset = layer.scale, layer.offset
    value_YX = np.where(valid_YX, stored_YX, 0).astype(np.float64)
    if (scale, offset) not in ((1.0, 0.0), (None, None)):
        value_YX = value_YX * (1.0 if scale is None else scale) + (offset or 0.0)
    return np.where(valid_YX, value_YX, 0).astype(np.float32), valid_YX
