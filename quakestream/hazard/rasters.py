"""Samples rasters at points: VS30, SAR, damage proxies, any format of GDAL."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Window
from quakestream.errors import HazardError, QuakestreamError
from quakestream.hazard.interpolation import Floats, bilinear
from quakestream.hazard.layers import RasterLayer, open_layer
from quakestream.storage import StorageOptions

_TILE_PX = 1024
"""Side of the tiles in which points are read, so that memory does not grow with the raster."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RasterSample:
    """Values of a raster at points."""

    values_N: Floats
    """NaN where the raster has no value."""
    note: str = ""
    """An assumption that was made; empty without one."""


def sample_raster(
    uri: str, lon_N: Floats, lat_N: Floats, options: StorageOptions | None = None
) -> RasterSample:
    """Values at points (EPSG:4326), with scale and offset applied.

    A value is bilinear where the four pixels around the point are valid, else the value of the
    pixel that holds the point, else NaN. A file without CRS whose bounds can be degrees is read
    as EPSG:4326, with a note.

    Raises:
        HazardError: if it is not a georeferenced raster of one band, or cannot be read.
        StorageError: if it cannot be fetched.
    """
    try:
        with open_layer(uri, options) as layer:
            row_N, col_N = layer.frame.positions(lon_N, lat_N)
            return RasterSample(values_N=_values(layer, row_N, col_N), note=layer.note)
    except QuakestreamError:
        raise
    except Exception as error:  # rasterio lets bare GDAL, PROJ and numpy errors through
        cause = f"{type(error).__name__}: {error}"
        raise HazardError(
            "cannot be read as a raster", uri, got=cause, remedy="check the file"
        ) from error


def _values(layer: RasterLayer, row_N: Floats, col_N: Floats) -> Floats:
    values_N = np.full(row_N.shape, np.nan)
    # The pixel that holds a point; the south and east edges belong to the last pixel.
    pixel_row_N, pixel_col_N = _pixel(row_N, layer.frame.height), _pixel(col_N, layer.frame.width)
    inside_N = (pixel_row_N >= 0) & (pixel_col_N >= 0)
    across = -(-layer.frame.width // _TILE_PX)
    tile_N = (pixel_row_N // _TILE_PX) * across + pixel_col_N // _TILE_PX
    order = np.flatnonzero(inside_N)
    order = order[np.argsort(tile_N[order], kind="stable")]
    if not len(order):
        return values_N
    for points in np.split(order, np.flatnonzero(np.diff(tile_N[order])) + 1):
        row0 = max(int(pixel_row_N[points].min()) - 1, 0)
        col0 = max(int(pixel_col_N[points].min()) - 1, 0)
        row1 = min(int(pixel_row_N[points].max()) + 2, layer.frame.height)
        col1 = min(int(pixel_col_N[points].max()) + 2, layer.frame.width)
        pixels_YX = layer.read(Window(row=row0, col=col0, height=row1 - row0, width=col1 - col0))
        between = bilinear(pixels_YX, row_N[points] - row0, col_N[points] - col0)
        inner = pixels_YX[pixel_row_N[points] - row0, pixel_col_N[points] - col0]
        values_N[points] = np.where(np.isnan(between), inner, between)
    return values_N


def _pixel(position_N: Floats, size: int) -> NDArray[np.intp]:
    """Index of the pixel that holds a position; -1 outside."""
    inside_N = (position_N >= -0.5) & (position_N <= size - 0.5)
    index_N = np.floor(np.where(inside_N, position_N, 0.0) + 0.5).astype(np.intp)
    return np.where(inside_N, np.minimum(index_N, size - 1), -1)
