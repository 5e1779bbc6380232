"""Zarr arrays as rasters of one band, with what xarray, rioxarray and GDAL say of their place.

An array lies in its group, beside arrays of coordinates. The place of its pixels is read from
`transform` and `crs_wkt`, from the array that `grid_mapping` names, from GDAL's `_CRS`, or from
coordinates at equal distances. Coordinates named as longitude and latitude are degrees.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window as Pixels

from quakestream.errors import HazardError, MissingExtraError, StorageError
from quakestream.hazard.interpolation import Floats
from quakestream.storage import StorageOptions

SUFFIX = ".zarr"
_DEGREES = {"lon", "longitude", "lat", "latitude"}
_EVEN = 1e-3
"""Largest change of the distance between coordinates, as a share of it."""
_NAMED = 6
"""Arrays that one message names."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZarrRaster:
    """An open array, with the part of a rasterio dataset that layers need."""

    array: Any
    crs: CRS | None
    transform: Affine
    nodata: float | None
    scales: tuple[float]
    offsets: tuple[float]
    units: tuple[str]
    colorinterp: tuple[ColorInterp] = (ColorInterp.gray,)
    count: int = 1

    @property
    def height(self) -> int:
        return int(self.array.shape[-2])

    @property
    def width(self) -> int:
        return int(self.array.shape[-1])

    @property
    def dtypes(self) -> tuple[str]:
        return (str(self.array.dtype),)

    def read(self, band: int, window: Pixels) -> NDArray[Any]:
        """Stored values of a window that lies in the array."""
        rows = slice(window.row_off, window.row_off + window.height)
        cols = slice(window.col_off, window.col_off + window.width)
        first = (0,) * (self.array.ndim - 2)
        return np.asarray(self.array[(*first, rows, cols)])

    def read_masks(self, band: int, window: Pixels) -> NDArray[np.uint8]:
        """255 where there is a value, as GDAL has it."""
        values_YX = self.read(band, window)
        known_YX = np.isfinite(values_YX)
        if self.nodata is not None:
            known_YX &= values_YX != self.nodata
        return np.where(known_YX, 255, 0).astype(np.uint8)


def is_zarr(uri: str) -> bool:
    """True for a Zarr group, and for an array in one: `dem.zarr`, `dem.zarr/elevation`."""
    return any(part.endswith(SUFFIX) for part in uri.rstrip("/").split("/"))


@contextmanager
def zarr_raster(uri: str, name: str | None, options: StorageOptions) -> Iterator[ZarrRaster]:
    """Opens an array of a Zarr group (version 2 or 3) as a raster.

    Args:
        uri: the group, or the array in it.
        name: the array of the group; None: the only one that is no coordinate.
        options: endpoints of the store that holds it.

    Raises:
        HazardError: if there is no such array, or nothing says where its pixels lie.
        MissingExtraError: if zarr is not installed.
    """
    group_uri, inner = _split(uri)
    try:
        import zarr  # of the extra `tiles`

        from quakestream.raster.tiles.arrays import zarr_store
    except ImportError as error:
        remedy = "pip install 'quakestream[tiles]'"
        raise MissingExtraError("Zarr needs the package zarr", uri, remedy=remedy) from error
    try:
        group = zarr.open_group(zarr_store(group_uri, options, read_only=True), mode="r")
        arrays = dict(group.arrays()) or _by_name(group, inner or name)
    except (StorageError, MissingExtraError):
        raise
    except Exception as error:  # zarr's errors have no common base
        got = f"{type(error).__name__}: {error}"
        raise HazardError("cannot be read as Zarr", uri, got=got, remedy="check it") from error
    yield _raster(arrays, inner or name, uri)


def _by_name(group: Any, name: str | None) -> dict[str, Any]:
    """An array and those of its coordinates, in stores that cannot be listed, such as HTTP."""
    if name is None or name not in group:
        return {}
    array = group[name]
    mapping = str(array.attrs.get("grid_mapping", "spatial_ref"))
    beside = [n for n in (*_axes(array, dict(array.attrs)), mapping) if n and n in group]
    return {name: array, **{n: group[n] for n in beside}}


def group_of(uri: str) -> str:
    """The group of a Zarr array; other places as they are."""
    return _split(uri)[0] if is_zarr(uri) else uri


def _split(uri: str) -> tuple[str, str]:
    """The group, and the array in it where the place names one."""
    parts = uri.rstrip("/").split("/")
    last = max(n for n, part in enumerate(parts) if part.endswith(SUFFIX))
    return "/".join(parts[: last + 1]), "/".join(parts[last + 1 :])


def _raster(arrays: Mapping[str, Any], name: str | None, uri: str) -> ZarrRaster:
    array = arrays[_chosen(arrays, name, uri)]
    attributes = dict(array.attrs)
    axes = _axes(array, attributes)
    mapping = arrays.get(str(attributes.get("grid_mapping", "spatial_ref")))
    said = attributes | (dict(mapping.attrs) if mapping is not None else {})
    return ZarrRaster(
        array=array,
        crs=_crs(said, axes),
        transform=_transform(said, arrays, axes, uri),
        nodata=_nodata(attributes, array.fill_value),
        scales=(float(attributes.get("scale_factor", 1.0)),),
        offsets=(float(attributes.get("add_offset", 0.0)),),
        units=(str(attributes.get("units", "")),),
    )


def _chosen(arrays: Mapping[str, Any], name: str | None, uri: str) -> str:
    """Name of the array: the one that is asked for, or the only one of rows and columns."""
    maps = [n for n, a in arrays.items() if _is_map(a)]
    if name is None and len(maps) == 1:
        return maps[0]
    if name in maps:
        return str(name)
    raise HazardError(
        "holds no single array of values" if name is None else f"holds no array {name!r} of values",
        uri,
        expected="an array of rows and columns",
        got=", ".join(sorted(maps)[:_NAMED]) or "none",
        remedy="name the array with terrain.asset",
    )


def _is_map(array: Any) -> bool:
    """True for arrays of rows and columns; axes before them have one place each."""
    return array.ndim >= 2 and all(size == 1 for size in array.shape[:-2])


def _axes(array: Any, attributes: Mapping[str, Any]) -> tuple[str, str]:
    """Names of the axes of rows and columns; empty where nothing says them."""
    names = attributes.get("_ARRAY_DIMENSIONS") or getattr(array.metadata, "dimension_names", None)
    row, col = tuple(names or ("", ""))[-2:]
    return str(row or ""), str(col or "")


def _crs(said: Mapping[str, Any], axes: tuple[str, str]) -> CRS | None:
    gdal = said.get("_CRS")
    stated = said.get("crs_wkt") or said.get("spatial_ref")
    if not stated and isinstance(gdal, Mapping):
        stated = gdal.get("wkt") or gdal.get("url")
    if not stated:
        stated = said.get("crs")
    if isinstance(stated, str) and stated:
        return CRS.from_user_input(stated.rsplit("/crs/", 1)[-1].replace("/0/", ":"))
    degrees = all(axis.lower() in _DEGREES for axis in axes)
    return CRS.from_epsg(4326) if degrees else None


def _transform(
    said: Mapping[str, Any], arrays: Mapping[str, Any], axes: tuple[str, str], uri: str
) -> Affine:
    if "transform" in said and len(said["transform"]) >= 6:
        return Affine(*(float(v) for v in list(said["transform"])[:6]))
    if "GeoTransform" in said:
        given = said["GeoTransform"]
        numbers = given.split() if isinstance(given, str) else given
        return Affine.from_gdal(*(float(v) for v in numbers))
    if not all(axis in arrays for axis in axes):
        raise HazardError(
            "array has no georeference",
            uri,
            expected="coordinates of its axes, or GeoTransform",
            got=", ".join(axis for axis in axes if axis) or "axes without names",
            remedy="write it with rioxarray, or as a GeoTIFF",
        )
    (top, down), (left, right) = (_steps(arrays[axis][:], axis, uri) for axis in axes)
    return Affine(right, 0, left - right / 2, 0, down, top - down / 2)


def _steps(values: Any, axis: str, uri: str) -> tuple[float, float]:
    """The first coordinate, and the distance between two."""
    at_N: Floats = np.asarray(values, np.float64)
    step_N = np.diff(at_N)
    if not len(step_N) or np.abs(step_N - step_N.mean()).max() > _EVEN * abs(step_N.mean()):
        raise HazardError(
            "coordinates are not at equal distances", uri, got=f"axis {axis}", remedy="resample it"
        )
    return float(at_N[0]), float(step_N.mean())


def _nodata(attributes: Mapping[str, Any], fill: Any) -> float | None:
    """The mark of missing values. An array's own fill is one unless it is 0, the sea level."""
    for name in ("_FillValue", "missing_value", "nodata"):
        value = attributes.get(name)
        if isinstance(value, int | float):
            return float(value)
    return float(fill) if fill else None
