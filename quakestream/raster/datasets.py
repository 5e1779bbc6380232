"""Opens rasters with GDAL: the one place that does, with a list of formats that are allowed.

GDAL tells formats by content, and some formats are programs: a VRT, a WMS description or a tile
index of a few lines of text names other files and URLs as its pixels, whatever its own name is.
A file from a stranger's catalogue could show any file of this machine that way. Formats that hold
their own pixels are allowed, and no others. Overviews and masks that lie in other files are held
to the same rule.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError

from quakestream.errors import QuakestreamError, SceneError, StorageError
from quakestream.raster.messages import restated, root_cause
from quakestream.storage import (
    StorageOptions,
    gdal_env,
    gdal_path,
    is_remote,
    is_web,
)
from quakestream.storage.fetchers import open_fetcher
from quakestream.storage.range_file import CachedFile, ChunkCache
from quakestream.storage.regular import regular_file

SCENE_DRIVERS = ("GTiff", "JP2OpenJPEG", "JPEG", "PNG", "HFA", "NITF")
"""Formats of scenes: GeoTIFF, JPEG 2000, JPEG, PNG, ERDAS Imagine, NITF."""
GRID_DRIVERS = (
    *SCENE_DRIVERS,
    *("netCDF", "AAIGrid", "GRASSASCIIGrid", "EHdr", "ENVI", "GSBG", "GS7BG", "GSAG", "GTX"),
    *("SAGA", "RST", "SRTMHGT", "USGSDEM", "GRIB", "XYZ", "PCRaster", "ERS"),
)
"""Formats of hazard layers: those of scenes, and grids."""
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MAGIC = {
    **dict.fromkeys(_TIFF_MAGIC, "GTiff"),
    b"\x00\x00\x00\x0cjP": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"EHFA_HEADER_TAG": "HFA",
    b"NITF": "NITF",
    b"NSIF": "NITF",
    b"CDF": "netCDF",
    b"\x89HDF": "netCDF",
    b"GRIB": "GRIB",
}
"""First bytes of the formats that are told by them."""
_PAGE = "a web page"
NO_OVERVIEWS = "NONE"
"""GDAL's word for a raster whose overviews are left alone."""
HEAD_BYTES = 64
_WRITE_CACHE_MB = 64
"""Blocks that GDAL holds while a raster is written, so that memory does not grow with it."""
_NAME = "scene"
"""What GDAL calls a file that it reads through us."""
_SIDECARS = (".ovr", ".msk", ".OVR", ".MSK")
_MOST_SIDECARS = 3
"""Depth of overviews of masks of overviews."""


def gdal_session(options: StorageOptions) -> Any:
    """GDAL configured by the run file, for this thread while it opens or reads."""
    return rasterio.Env(session=rasterio.session.DummySession(), **gdal_env(options))


@contextmanager
def open_dataset(
    href: str,
    options: StorageOptions,
    *,
    drivers: tuple[str, ...] = SCENE_DRIVERS,
    overview: int | str | None = None,
) -> Iterator[Any]:
    """A rasterio dataset, wherever it lies, for use in one thread.

    Args:
        drivers: GDAL's names of the formats that are allowed.
        overview: opens this overview instead of the full resolution; with NO_OVERVIEWS, the
            full resolution as if there were none.

    Raises:
        SceneError: if it cannot be opened, has another format, or names other files.
    """
    with (
        gdal_session(options),
        dataset_of(href, options, drivers=drivers, overview=overview) as dataset,
    ):
        yield dataset


def dataset_of(
    href: str,
    options: StorageOptions,
    *,
    drivers: tuple[str, ...] = SCENE_DRIVERS,
    overview: int | str | None = None,
) -> Any:
    """A rasterio dataset as `open_dataset` gives it, within a `gdal_session`; to be closed.

    Raises:
        SceneError: if it cannot be opened, has another format, or names other files.
    """
    given: dict[str, Any] = {} if overview is None else {"overview_level": overview}
    try:
        if is_web(href):
            dataset = _from_web(href, options, drivers, given)
        elif is_remote(href):
            with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
                dataset = _reader(gdal_path(href), drivers, given)
        else:
            dataset = _reader(_checked_file(href, options), drivers, given)
    except QuakestreamError as error:
        raise restated(SceneError, "cannot open", href, error) from error
    except (RasterioError, OSError) as error:
        got = _what_it_is(href, options, drivers)
        raise SceneError(f"cannot open: {root_cause(error)}", href, got=got) from error
    _refuse_references(dataset, href)
    return dataset


@contextmanager
def new_cog(path: Path, profile: dict[str, Any], **cog: Any) -> Iterator[Any]:
    """A dataset that is written block by block, and becomes a COG at `path` at the end.

    Args:
        path: a local file.
        profile: size, type, georeference and nodata, as rasterio names them.
        cog: creation options of GDAL's COG driver.
    """
    with tempfile.TemporaryDirectory(prefix="quakestream-") as folder:
        blocks = Path(folder) / "blocks.tif"
        with rasterio.Env(GDAL_CACHEMAX=_WRITE_CACHE_MB):
            tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "BIGTIFF": "IF_SAFER"}
            with rasterio.open(blocks, "w", driver="GTiff", **profile, **tiles) as dataset:
                yield dataset
            rasterio.shutil.copy(blocks, path, driver="COG", **cog)


def source_crs(dataset: Any) -> Any:
    """The CRS to warp a raster from: its own, with longitudes that go on across 180°.

    PROJ gives longitudes within ±180°, so that GDAL would look for the far side of a raster in
    degrees at the other end of the Earth.
    """
    west, _, east, _ = dataset.bounds
    if dataset.crs is None or not dataset.crs.is_geographic or -180 <= west <= east <= 180:
        return dataset.crs
    middle = round((west + east) / 2, 6)
    return rasterio.CRS.from_string(f"{dataset.crs.to_proj4()} +lon_wrap={middle}")


def _reader(path: str, drivers: tuple[str, ...], given: dict[str, Any]) -> Any:
    return rasterio.DatasetReader(path, driver=list(drivers), sharing=False, **given)


def _from_web(
    href: str, options: StorageOptions, drivers: tuple[str, ...], given: dict[str, Any]
) -> Any:
    """Reads a URL with our own requests, so that its redirects and bounds are ours, too."""
    cache = ChunkCache(open_fetcher(href, options))
    head = cache.read(0, HEAD_BYTES)
    if cache.error is not None:
        raise cache.error
    driver = _driver_of(head)
    if driver not in drivers:
        got = _named(head)
        remedy = "its address may need a login, or have expired" if got == _PAGE else ""
        raise SceneError("not a raster of a supported format", got=got, remedy=remedy)

    def opener(path: str, mode: str = "rb") -> CachedFile:
        if path != _NAME:  # a sidecar, or GDAL's trial of the opener
            raise FileNotFoundError(path)
        return CachedFile(cache)

    try:
        return rasterio.open(_NAME, opener=opener, driver=driver, sharing=False, **given)
    except RasterioError as error:
        raise (cache.error or error) from None


def _checked_file(href: str, options: StorageOptions, depth: int = 0) -> str:
    """The path of a local raster whose sidecars hold their own pixels."""
    path = regular_file(href)
    for suffix in _SIDECARS:
        beside = path + suffix
        if not os.path.lexists(beside):
            continue
        if depth >= _MOST_SIDECARS:
            raise SceneError("too many files of overviews and masks beside it", got=beside)
        with open(regular_file(beside), "rb") as file:
            head = file.read(HEAD_BYTES)
        if not head.startswith((*_TIFF_MAGIC, b"EHFA_HEADER_TAG")):
            raise SceneError("a file beside it is not a TIFF", got=f"{beside}: {_named(head)}")
        with _reader(_checked_file(beside, options, depth + 1), ("GTiff", "HFA"), {}) as sidecar:
            _refuse_references(sidecar, beside)
    return path


def _refuse_references(dataset: Any, href: str) -> None:
    """Refuses a raster whose metadata names another file as its overviews."""
    named = dataset.tags(ns="OVERVIEWS").get("OVERVIEW_FILE")
    if named:
        dataset.close()
        raise SceneError(
            "file names another file as its overviews",
            href,
            got=named,
            remedy="write it anew with gdal_translate -of COG",
        )


def _what_it_is(href: str, options: StorageOptions, drivers: tuple[str, ...]) -> str:
    """The kind of a file that cannot be opened; empty for a right one, and one that is not told."""
    try:
        head = _head(href, options)
    except (StorageError, OSError):
        return ""
    return "" if _driver_of(head) in drivers else _named(head)


def is_raster(href: str, options: StorageOptions) -> bool:
    """True if an object begins like a raster: some servers answer any name with a page.

    Raises:
        StorageError: if it cannot be read.
    """
    return bool(_driver_of(_head(href, options)))


def _head(href: str, options: StorageOptions) -> bytes:
    """The first bytes of an object."""
    fetcher = open_fetcher(href, options)
    try:
        return bytes(fetcher.fetch(0, HEAD_BYTES))
    finally:
        fetcher.close()


def _driver_of(head: bytes) -> str:
    """GDAL's name of the format that a file begins like; empty for no known one."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def _named(head: bytes) -> str:
    """What a file is, judged by its first bytes."""
    if not head:
        return "an empty file"
    if name := _driver_of(head):
        return f"a file that begins like {name}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith((b"<VRT", b"<GDAL_WMS", b"<GDAL", b"<?xml")):
        return "XML, which may name other files as its pixels"
    if text.lower().startswith((b"<!doctype html", b"<html")):
        return _PAGE
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in text)
    return "text" if printable == len(text) else "another format"
