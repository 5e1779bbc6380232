"""Samples rasters at points: VS30, SAR, damage proxies, any format of GDAL."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from quakestream.errors import HazardError, QuakestreamError, SceneError
from quakestream.hazard.interpolation import Floats, bilinear, positions_on_axis
from quakestream.raster.datasets import GRID_DRIVERS, open_dataset
from quakestream.raster.messages import reason_of
from quakestream.storage import StorageOptions, local_copy, protocol_of

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
    options = options or StorageOptions()
    try:
        with _opened(uri, options) as raster:
            _check_band(raster, uri)
            crs, note = _crs(raster, uri)
            row_N, col_N = _pixel_positions(raster, crs, lon_N, lat_N)
            return RasterSample(values_N=_values(raster, row_N, col_N), note=note)
    except QuakestreamError:
        raise
    except Exception as error:  # rasterio lets bare GDAL, PROJ and numpy errors through
        cause = f"{type(error).__name__}: {error}"
        raise HazardError(
            "cannot be read as a raster", uri, got=cause, remedy="check the file"
        ) from error


@contextmanager
def _opened(uri: str, options: StorageOptions) -> Iterator[Any]:
    with ExitStack() as stack:
        # GDAL does not see fsspec's memory file system.
        in_memory = protocol_of(uri) == "memory"
        name = str(stack.enter_context(local_copy(uri, options))) if in_memory else uri
        try:
            dataset = stack.enter_context(open_dataset(name, options, drivers=GRID_DRIVERS))
        except SceneError as error:
            raise HazardError(
                "cannot be read as a raster", uri, got=reason_of(error), remedy="check the file"
            ) from error
        yield dataset


def _check_band(raster: Any, uri: str) -> None:
    bands = [c for c in raster.colorinterp if c is not ColorInterp.alpha]
    if len(bands) != 1 or raster.colorinterp[0] is ColorInterp.alpha:
        raise HazardError(
            "wrong number of bands",
            uri,
            expected="one band of values",
            got=str(raster.count),
            remedy="write the right band to a file of its own with gdal_translate -b",
        )
    if str(raster.dtypes[0]).startswith("complex"):
        raise HazardError(
            "values are complex", uri, "real values", str(raster.dtypes[0]), "write the amplitudes"
        )
    if raster.transform.is_identity or raster.transform.determinant == 0:
        raise HazardError(
            "raster has no georeference",
            uri,
            expected="a transform",
            remedy="add one with gdal_translate -a_ullr",
        )


def _crs(raster: Any, uri: str) -> tuple[CRS, str]:
    if raster.crs:
        return CRS.from_wkt(raster.crs.to_wkt()), ""
    west, south, east, north = _extent(raster)
    if not (-181 <= west < east <= 361 and -91 <= south < north <= 91):
        raise HazardError(
            "raster has no CRS",
            uri,
            got=f"bounds {west:g}, {south:g}, {east:g}, {north:g}, which are not degrees",
            remedy="add the CRS with gdal_translate -a_srs",
        )
    note = (
        f"raster has no CRS; read as EPSG:4326, since its bounds {west:g}, {south:g}, {east:g}, "
        f"{north:g} can be degrees"
    )
    return CRS.from_epsg(4326), note


def _extent(raster: Any) -> tuple[float, float, float, float]:
    """West, south, east, north of a raster, which may be south-up or rotated."""
    corners = [raster.transform @ (c, r) for c in (0, raster.width) for r in (0, raster.height)]
    x, y = zip(*corners, strict=True)
    return min(x), min(y), max(x), max(y)


def _pixel_positions(raster: Any, crs: CRS, lon_N: Floats, lat_N: Floats) -> tuple[Floats, Floats]:
    """Rows and columns from the centre of the first pixel; NaN outside the CRS."""
    if crs == CRS.from_epsg(4326) or (crs.is_geographic and crs.equals(CRS.from_epsg(4326))):
        x_N, y_N = lon_N, lat_N
    else:
        to_raster = Transformer.from_crs(4326, crs, always_xy=True)
        x_N, y_N = (np.asarray(v, np.float64) for v in to_raster.transform(lon_N, lat_N))
    if crs.is_geographic:  # some files use longitudes of 0 to 360
        middle, _ = raster.transform @ (raster.width / 2, raster.height / 2)
        x_N = x_N - 360.0 * np.round((x_N - middle) / 360.0)
    finite_N = np.isfinite(x_N) & np.isfinite(y_N)
    inverse = ~raster.transform
    x_N, y_N = np.where(finite_N, x_N, 0.0), np.where(finite_N, y_N, 0.0)
    col_N = inverse.a * x_N + inverse.b * y_N + inverse.c
    row_N = inverse.d * x_N + inverse.e * y_N + inverse.f
    row_N = np.where(finite_N, positions_on_axis(row_N, 0.5, 1.0), np.nan)
    return row_N, np.where(finite_N, positions_on_axis(col_N, 0.5, 1.0), np.nan)


def _values(raster: Any, row_N: Floats, col_N: Floats) -> Floats:
    values_N = np.full(row_N.shape, np.nan)
    # The pixel that holds a point; the south and east edges belong to the last pixel.
    pixel_row_N, pixel_col_N = _pixel(row_N, raster.height), _pixel(col_N, raster.width)
    inside_N = (pixel_row_N >= 0) & (pixel_col_N >= 0)
    across = -(-raster.width // _TILE_PX)
    tile_N = (pixel_row_N // _TILE_PX) * across + pixel_col_N // _TILE_PX
    order = np.flatnonzero(inside_N)
    order = order[np.argsort(tile_N[order], kind="stable")]
    if not len(order):
        return values_N
    for points in np.split(order, np.flatnonzero(np.diff(tile_N[order])) + 1):
        row0 = max(int(pixel_row_N[points].min()) - 1, 0)
        col0 = max(int(pixel_col_N[points].min()) - 1, 0)
        row1 = min(int(pixel_row_N[points].max()) + 2, raster.height)
        col1 = min(int(pixel_col_N[points].max()) + 2, raster.width)
        pixels_YX = _read(raster, Window(col0, row0, col1 - col0, row1 - row0))
        between = bilinear(pixels_YX, row_N[points] - row0, col_N[points] - col0)
        inner = pixels_YX[pixel_row_N[points] - row0, pixel_col_N[points] - col0]
        values_N[points] = np.where(np.isnan(between), inner, between)
    return values_N


def _pixel(position_N: Floats, size: int) -> NDArray[np.intp]:
    """Index of the pixel that holds a position; -1 outside."""
    inside_N = (position_N >= -0.5) & (position_N <= size - 0.5)
    index_N = np.floor(np.where(inside_N, position_N, 0.0) + 0.5).astype(np.intp)
    return np.where(inside_N, np.minimum(index_N, size - 1), -1)


def _read(raster: Any, window: Window) -> Floats:
    """Values of a window as float64; NaN where nodata, mask or alpha mark no value."""
    pixels = raster.read(1, window=window).astype(np.float64)
    valid = raster.read_masks(1, window=window) != 0
    scaled: Floats = pixels * raster.scales[0] + raster.offsets[0]
    return np.where(valid & np.isfinite(pixels), scaled, np.nan)
