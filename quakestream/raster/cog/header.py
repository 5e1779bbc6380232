"""Makes the block index of a scene: tifffile says where its blocks lie, GDAL what they mean.

GDAL is asked because sidecars (.msk, .aux.xml) and its own tags change what is valid.
What decodes otherwise than GDAL would show it is refused with its reason, and a block of
the middle is read both ways before the index is accepted.
"""

import itertools
import math
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as DatasetWindow

from quakestream.errors import ReadError, SceneError, StorageError
from quakestream.raster.cog.blocks import BlockReader, Rect
from quakestream.raster.cog.layout import (
    Codec,
    Coding,
    CogLayout,
    Colour,
    Level,
    refused,
)
from quakestream.raster.cog.workers import Team
from quakestream.raster.source import open_dataset, visible_bands
from quakestream.storage import StorageOptions, fingerprint
from quakestream.storage.fetchers import open_fetcher
from quakestream.storage.range_file import RangeFile
from quakestream.storage.ranges import Fetcher

CODECS: dict[int, Codec] = {
    1: "none",
    5: "lzw",
    7: "jpeg",
    8: "deflate",
    32773: "packbits",
    32946: "deflate",
    34887: "lerc",
    34925: "lzma",
    50000: "zstd",
    50001: "webp",
}
LERC_INSIDE: dict[int, Codec] = {0: "none", 1: "deflate", 2: "zstd"}
LARGEST_BLOCK_BYTES = 64 << 20
"""Decoded: a scene that is one strip would be decoded whole for every window."""
MOST_IMAGES = 64
JPEG_LUMA_COUNTS, JPEG_BIAS_COUNTS = 0.6, 1.5
"""How far imagecodecs and GDAL may differ on JPEG: on average in brightness, and each band's mean.

They bring halved chroma back to full size differently; brightness is left to rounding.
Measured on 16 scenes of half a metre: brightness 0.11 to 0.20, bands 0.4 to 1.9 (at most 79).
"""
_LUMA = (0.299, 0.587, 0.114)
_PLAIN, _RGB, _YCBCR = (0, 1, 3), 2, 6
_REDUCED, _MASK = 1, 4
_LERC_PARAMETERS = 50674
_REFUSALS = {"PermissionDeniedError", "UnauthenticatedError", "NotSupportedError"}
"""What obstore calls them."""


def make_layout(href: str, options: StorageOptions, etag: str = "") -> CogLayout:
    """The block index of a scene.

    Args:
        etag: of the version that is meant, as `Scene.etag`; asked for where empty.

    Raises:
        NotCoveredError: if the hot path cannot read it; the message says why.
        SceneError: if GDAL cannot open it.
        StorageError: if it does not answer: another time it may.
        MissingExtraError: if the package for the protocol is not installed.
    """
    import tifffile  # not at every command's start

    etag = etag or fingerprint(href, options)
    fetcher = open_fetcher(href, options)
    try:
        with open_dataset(href, options) as dataset:
            try:
                opened: Any = RangeFile(fetcher)
                with tifffile.TiffFile(opened, name="scene") as tiff:
                    layout = _described(href, etag, dataset, tiff, options)
            except (SceneError, StorageError):
                raise
            except Exception as error:  # tifffile raises whatever a bad header trips over
                raise refused(href, f"{type(error).__name__}: {error}") from error
            _compare(layout, dataset, fetcher)
    except StorageError as error:
        if _not_allowed(error):  # GDAL was: it asks in another way, or has other credentials
            raise refused(href, str(error)) from error
        raise
    finally:
        fetcher.close()
    return layout


def _not_allowed(error: StorageError) -> bool:
    """True if a store refuses what it is asked, and would again."""
    told = error.__cause__
    status = getattr(told, "status", 0)
    known = isinstance(told, PermissionError | NotImplementedError) or status in (401, 403, 405)
    return known or type(told).__name__ in _REFUSALS


def _described(href: str, etag: str, dataset: Any, tiff: Any, options: StorageOptions) -> CogLayout:
    if dataset.driver not in ("GTiff", "COG"):
        raise refused(href, f"GDAL reads it as {dataset.driver}")
    pages = list(itertools.islice(tiff.pages, MOST_IMAGES))
    first = _level(href, pages[0], tiff.byteorder)
    _agree(href, first, dataset)
    levels = [first, *_overviews(href, pages, tiff.byteorder, first)]
    colour, why_not = _colour(dataset)
    masks: list[Level] = []
    if colour is not None and colour.validity == "mask":
        pairs = _with_masks(href, levels, pages, tiff.byteorder)
        levels, masks = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if not pairs or levels[0] is not first or _exists(f"{href}.msk", options):
            colour, why_not = None, "its mask is not inside the file (a .msk beside it?)"
            levels, masks = [first], []
    return CogLayout(
        href=href,
        etag=etag,
        crs_wkt=dataset.crs.to_wkt() if dataset.crs else "",
        transform=Affine(*list(dataset.transform)[:6]),
        levels=tuple(levels),
        masks=tuple(masks),
        fill=_fill(dataset),
        colour=colour,
        why_not=why_not,
    )


def _exists(href: str, options: StorageOptions) -> bool:
    # not `dataset.files`: GDAL looks for thirty other companions to answer that
    try:
        fingerprint(href, options)
    except StorageError:
        return False
    return True


def _agree(href: str, level: Level, dataset: Any) -> None:
    """What tifffile and GDAL say of the full resolution must be the same."""
    ours = (
        level.height,
        level.width,
        level.samples,
        np.dtype(level.coding.dtype).newbyteorder("="),
    )
    kind = dataset.dtypes[0]
    theirs = (dataset.height, dataset.width, dataset.count, kind)
    if ours[:3] != theirs[:3] or ours[3].name != kind or len(set(dataset.dtypes)) != 1:
        raise refused(href, f"its header says {ours}, GDAL {theirs}")


def _level(href: str, page: Any, byteorder: str) -> Level:
    """One image of the file.

    Raises:
        NotCoveredError: if its blocks are of a kind the hot path does not decode.
    """
    samples, planar = int(page.samplesperpixel), page.planarconfig == 2
    height, width = int(page.imagelength), int(page.imagewidth)
    if not (height > 0 and width > 0 and page.imagedepth == 1 and samples > 0):
        raise refused(href, f"an image of it is {page.shape}")
    tiled = bool(page.is_tiled)
    block = (page.tilelength, page.tilewidth) if tiled else (min(page.rowsperstrip, height), width)
    coding = _coding(href, page, byteorder)
    if not all(side > 0 for side in block):
        raise refused(href, f"its blocks are {block}")
    held = block[0] * block[1] * np.dtype(coding.dtype).itemsize * (1 if planar else samples)
    if held > LARGEST_BLOCK_BYTES:
        raise refused(href, f"a block of it is {held / 1e6:.0f} MB; tile it")
    return Level(
        height=height,
        width=width,
        block_height=int(block[0]),
        block_width=int(block[1]),
        samples=samples,
        planar=planar and samples > 1,
        strips=not tiled,
        coding=coding,
        offset_N=np.asarray(page.dataoffsets, np.int64),
        bytes_N=np.asarray(page.databytecounts, np.int64),
    )


def _coding(href: str, page: Any, byteorder: str) -> Coding:
    number, bits = int(page.compression), page.bitspersample
    codec = CODECS.get(number)
    if codec is None:
        raise refused(href, f"its compression {page.compression!r} is not covered")
    if page.dtype is None or page.fillorder != 1:
        raise refused(href, f"its samples have {bits} bits in order {page.fillorder}")
    dtype = np.dtype(page.dtype).newbyteorder(byteorder)
    if dtype.kind not in "uifb" or bits not in (8 * dtype.itemsize, 1):
        raise refused(href, f"its samples are {bits}-bit {page.dtype}")
    if (bits == 1) != (dtype.kind == "b") or (bits == 1 and page.samplesperpixel != 1):
        raise refused(href, f"its samples are {bits}-bit {page.dtype}")
    predictor = int(page.predictor)
    if predictor not in (1, 2, 3) or (predictor != 1 and codec in ("jpeg", "webp", "lerc")):
        raise refused(href, f"its predictor is {predictor}")
    _check_colours(href, page, codec)
    inside: Codec = "none"
    if codec == "lerc":
        parameters = page.tags.valueof(_LERC_PARAMETERS, (0, 0))
        inside = LERC_INSIDE[int(parameters[1])]
    return Coding(
        codec=codec,
        dtype="|u1" if bits == 1 else dtype.str,
        bits=int(bits),
        predictor=predictor,
        ycbcr=codec == "jpeg" and page.photometric == _YCBCR,
        jpeg_tables=bytes(page.jpegtables or b"") if codec == "jpeg" else b"",
        lerc_inside=inside,
    )


def _check_colours(href: str, page: Any, codec: Codec) -> None:
    photometric, samples = int(page.photometric), int(page.samplesperpixel)
    if codec == "jpeg":
        planar = page.planarconfig == 2 and samples > 1
        plain = photometric in (*_PLAIN, _RGB) and (planar or samples in (1, 3, 4))
        known = plain or (photometric == _YCBCR and samples == 3 and not planar)
    else:
        known = photometric in (*_PLAIN, _RGB, _MASK)
    if codec == "webp":
        known = known and samples in (3, 4) and page.planarconfig == 1
    if codec == "lerc":
        known = known and samples <= 3
    if not known:
        raise refused(href, f"its {samples} samples are {page.photometric!r} in {codec}")


def _overviews(href: str, pages: list[Any], byteorder: str, first: Level) -> list[Level]:
    """Reduced images of the first, finest first; those that are something else are left out."""
    found = []
    for page in pages[1:]:
        kind = int(page.subfiletype)
        if not kind & _REDUCED or kind & _MASK:
            continue
        try:
            level = _level(href, page, byteorder)
        except SceneError:
            continue
        same_kind = (level.samples, level.coding.dtype) == (first.samples, first.coding.dtype)
        ratios = first.height / level.height, first.width / level.width
        # sides are rounded up: both ratios are within a pixel of one factor
        apart = abs(ratios[0] - ratios[1]) / max(ratios) * min(level.height, level.width)
        if same_kind and min(ratios) > 1.0 and apart <= 2.0:
            found.append(level)
    return sorted(found, key=lambda level: -level.width)


def _with_masks(
    href: str, levels: list[Level], pages: list[Any], byteorder: str
) -> list[tuple[Level, Level]]:
    """Levels with their internal masks; a level without one is left out."""
    masks = {}
    for page in pages:
        if int(page.subfiletype) & _MASK and page.samplesperpixel == 1:
            mask = _level(href, page, byteorder)
            masks[mask.height, mask.width] = mask
    shapes = [(level.height, level.width) for level in levels]
    return [(lv, masks[s]) for lv, s in zip(levels, shapes, strict=True) if s in masks]


def _colour(dataset: Any) -> tuple[Colour | None, str]:
    """Bands and validity as GDAL understands the header; None and why, where it is no colour."""
    try:
        bands = visible_bands(dataset)
    except SceneError as error:
        return None, str(error)
    ours = tuple(b - 1 for b in bands)
    flags = set(dataset.mask_flag_enums[bands[0] - 1])
    if flags == {MaskFlags.all_valid}:
        return Colour(bands=ours, validity="black"), ""
    if flags == {MaskFlags.per_dataset, MaskFlags.alpha}:
        alpha = list(dataset.colorinterp).index(ColorInterp.alpha)
        return Colour(bands=ours, validity="alpha", alpha=alpha), ""
    if flags == {MaskFlags.per_dataset}:
        return Colour(bands=ours, validity="mask"), ""
    if flags != {MaskFlags.nodata}:
        return None, f"its mask is {flags}"
    return _by_nodata(dataset, ours)


def _by_nodata(dataset: Any, ours: tuple[int, ...]) -> tuple[Colour | None, str]:
    values = set(dataset.nodatavals)
    nodata = dataset.nodata
    limits = np.iinfo(dataset.dtypes[0]) if np.dtype(dataset.dtypes[0]).kind in "ui" else None
    if len(values) != 1 or nodata is None or limits is None or not math.isfinite(nodata):
        return None, f"its nodata values {values} are not one count"
    if not (limits.min <= nodata <= limits.max and float(nodata).is_integer()):
        return None, f"its nodata value {nodata} is no count of {dataset.dtypes[0]}"
    # rasterio's rule: of four bands that begin with red the last is the mask, else any band
    four = dataset.count == 4 and dataset.colorinterp[0] == ColorInterp.red
    compared = (3,) if four else tuple(range(dataset.count))
    return Colour(bands=ours, validity="nodata", nodata=int(nodata), nodata_bands=compared), ""


def _fill(dataset: Any) -> float:
    """What GDAL shows where a block is not in the file."""
    nodata, dtype = dataset.nodata, np.dtype(dataset.dtypes[0])
    if nodata is None or (dtype.kind != "f" and not math.isfinite(nodata)):
        return 0.0
    if dtype.kind == "f":
        return float(nodata) if abs(nodata) != math.inf else 0.0
    limits = np.iinfo(dtype)
    return float(min(max(round(nodata), limits.min), limits.max))


def _compare(layout: CogLayout, dataset: Any, fetcher: Fetcher) -> None:
    """Reads a block of the middle both ways.

    Raises:
        NotCoveredError: if they differ: at all for exact codecs, beyond bounds for JPEG.
    """
    level = layout.levels[0]
    rect = _middle(level)
    window = DatasetWindow(rect.left, rect.top, rect.width, rect.height)
    try:
        theirs_SYX = dataset.read(window=window)
    except (RasterioError, rasterio.errors.RasterioIOError):
        return  # the block is bad for everyone; it will be told when it is read
    with Team() as team:
        try:
            ours_SYX = BlockReader(layout, fetcher, name="", team=team).samples(0, rect)
        except ReadError as error:
            if isinstance(error.__cause__, StorageError):
                raise error.__cause__ from error
            raise refused(layout.href, f"GDAL reads what this cannot: {error}") from error
    if told := _difference(ours_SYX, theirs_SYX, exact=level.coding.exact):
        raise refused(layout.href, f"its blocks do not decode as GDAL's: {told}")


def _middle(level: Level) -> Rect:
    row, col = level.down // 2, level.across // 2
    top, left = row * level.block_height, col * level.block_width
    return Rect(
        top=top,
        left=left,
        height=min(level.block_height, level.height - top),
        width=min(level.block_width, level.width - left),
    )


def _difference(ours_SYX: NDArray[Any], theirs_SYX: NDArray[Any], *, exact: bool) -> str:
    """How samples differ; empty where they do not, or no more than JPEG decoders do."""
    if np.array_equal(ours_SYX, theirs_SYX, equal_nan=ours_SYX.dtype.kind == "f"):
        return ""
    apart_SYX = ours_SYX.astype(np.float64) - theirs_SYX
    luma_YX = np.tensordot(_LUMA, apart_SYX, axes=1) if len(apart_SYX) == 3 else apart_SYX
    luma, most = float(np.abs(luma_YX).mean()), float(np.abs(apart_SYX).max())
    bias = float(np.abs(apart_SYX.mean(axis=(1, 2))).max())
    if not exact and luma <= JPEG_LUMA_COUNTS and bias <= JPEG_BIAS_COUNTS:
        return ""
    return f"{luma:.2f} counts in brightness, {bias:.2f} in a band's mean, {most:g} at most"
