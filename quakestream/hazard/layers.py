"""Opens rasters of one band of values and reads windows of them, NaN where there is no value."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from pyproj import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window as Pixels

from quakestream.domain import Window
from quakestream.errors import HazardError, SceneError
from quakestream.hazard.frames import PixelFrame
from quakestream.hazard.interpolation import Floats
from quakestream.hazard.zarr_rasters import is_zarr, zarr_raster
from quakestream.raster.datasets import GRID_DRIVERS, dataset_of, gdal_session
from quakestream.raster.messages import root_cause
from quakestream.storage import StorageOptions, local_copy, protocol_of

LARGEST_VALUE = 1e30
"""Larger values are fills: netCDF's 9.96921e36 and the largest float32 often carry no tag."""
_WGS84 = CRS.from_epsg(4326)


class _Neighbour(Protocol):
    """A layer that may lend its georeference."""

    @property
    def uri(self) -> str: ...

    @property
    def frame(self) -> PixelFrame: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RasterLayer:
    """An open raster of one band of values, for use in one thread."""

    uri: str
    dataset: Any
    """The rasterio dataset, or an open Zarr array."""
    frame: PixelFrame
    """Where its pixels lie."""
    note: str = ""
    """An assumption that was made; empty without one."""
    options: StorageOptions = field(default_factory=StorageOptions)
    """Endpoints, with which GDAL is configured for each read: other files may be read between."""

    def read(self, window: Window) -> Floats:
        """Values of a window of pixels, with scale and offset applied; NaN without a value.

        A window may reach beyond the raster. Around the Earth, columns go on from the last to
        the first.

        Raises:
            HazardError: if the file is damaged there.
        """
        values_YX = np.full(window.shape, np.nan)
        size = self.frame
        turn = size.turn_px
        first = window.col // turn * turn if turn else 0
        while True:
            inside = Window(row=0, col=first, height=size.height, width=size.width).shared(window)
            if inside.height and inside.width:
                values_YX[inside.slices_in(window)] = self._pixels(inside, first)
            first += turn
            if not turn or first >= window.col_end:
                return values_YX

    def _pixels(self, window: Window, first: int) -> Floats:
        part = Pixels(window.col - first, window.row, window.width, window.height)
        try:
            with gdal_session(self.options):
                pixels_YX = self.dataset.read(1, window=part).astype(np.float64)
                valid_YX = self.dataset.read_masks(1, window=part) != 0
        except RasterioError as error:
            cause = root_cause(error)
            raise HazardError(
                "cannot be read as a raster", self.uri, got=cause, remedy="check the file"
            ) from error
        valid_YX &= np.abs(pixels_YX) < LARGEST_VALUE  # false for NaN, too
        scaled: Floats = pixels_YX * self.dataset.scales[0] + self.dataset.offsets[0]
        return np.where(valid_YX, scaled, np.nan)


@contextmanager
def open_layer(
    uri: str,
    options: StorageOptions | None = None,
    like: _Neighbour | None = None,
    array: str | None = None,
) -> Iterator[RasterLayer]:
    """A raster of one band of values, in any format of grids, or an array of a Zarr group.

    A file without CRS whose bounds can be degrees is taken as EPSG:4326, with a note. A file
    without georeference takes that of `like` where both have one shape, with a note.

    Args:
        uri: the raster.
        options: endpoints of the store that holds it.
        like: a neighbour of the file, which may lend it its georeference.
        array: the array of a Zarr group; None: the only one of rows and columns.

    Raises:
        HazardError: if it is not a georeferenced raster of one band, or cannot be opened.
        StorageError: if it cannot be fetched.
    """
    chosen = options or StorageOptions()
    opened = zarr_raster(uri, array, chosen) if is_zarr(uri) else _opened(uri, chosen)
    with opened as raster:
        _check_band(raster, uri)
        if raster.transform.is_identity or raster.transform.determinant == 0 or _counts(raster):
            yield _like(raster, uri, like, chosen)
            return
        crs, note = _crs(raster, uri)
        frame = _frame(raster, crs)
        yield RasterLayer(uri=uri, dataset=raster, frame=frame, note=note, options=chosen)


@contextmanager
def _opened(uri: str, options: StorageOptions) -> Iterator[Any]:
    with ExitStack() as stack:
        # GDAL does not see fsspec's memory file system.
        in_memory = protocol_of(uri) == "memory"
        name = str(stack.enter_context(local_copy(uri, options))) if in_memory else uri
        try:
            with gdal_session(options):
                dataset = stack.enter_context(dataset_of(name, options, drivers=GRID_DRIVERS))
        except SceneError as error:
            if not error.got:  # what failed, and what to do, are said
                raise HazardError.of(replace(error.problem, where=uri)) from error
            raise HazardError(
                "cannot be read as a raster", uri, got=error.got, remedy="check the file"
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


def _counts(raster: Any) -> bool:
    """True where coordinates are counts of pixels: GDAL's words for no georeference in a grid."""
    turns = raster.transform
    return bool(
        raster.crs is None
        and (turns.a, abs(turns.e), turns.b, turns.d) == (1, 1, 0, 0)
        and turns.c == 0
        and turns.f in (0, raster.height)
    )


def _like(raster: Any, uri: str, like: _Neighbour | None, options: StorageOptions) -> RasterLayer:
    if like is None or (raster.height, raster.width) != (like.frame.height, like.frame.width):
        beside = f", and {like.uri} has another shape" if like else ""
        raise HazardError(
            "raster has no georeference",
            uri,
            expected="a transform",
            got=f"{raster.width} × {raster.height} pixels without one{beside}",
            remedy="add one with gdal_translate -a_ullr",
        )
    note = f"raster has no georeference; read with that of {like.uri}, which has the same shape"
    return RasterLayer(uri=uri, dataset=raster, frame=like.frame, note=note, options=options)


def _frame(raster: Any, crs: CRS) -> PixelFrame:
    return PixelFrame(
        crs=crs, transform=raster.transform, height=int(raster.height), width=int(raster.width)
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
    return _WGS84, note


def _extent(raster: Any) -> tuple[float, float, float, float]:
    """West, south, east, north of a raster, which may be south-up or rotated."""
    corners = [raster.transform @ (c, r) for c in (0, raster.width) for r in (0, raster.height)]
    x, y = zip(*corners, strict=True)
    return min(x), min(y), max(x), max(y)
