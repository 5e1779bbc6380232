"""Makes the block index of a scene: tifffile tells where its blocks lie, GDAL what they mean.

GDAL is needed because sidecars (.msk, .aux.xml) and its own tags change what is valid. A file
that would decode to other pixels than in GDAL is refused with a reason. A block in the middle is
read both ways before the index is accepted.
"""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as DatasetWindow

from quakestream.domain import Bands
from quakestream.errors import ReadError, SceneError, StorageError
from quakestream.raster.bands import bands_in
from quakestream.raster.cog.agreement import disagreement
from quakestream.raster.cog.block_plan import Rect
from quakestream.raster.cog.blocks import BlockReader
from quakestream.raster.cog.codec_table import CODEC_OF_NUMBER, LERC_INNER, TRAITS, Codec
from quakestream.raster.cog.layout import Coding, CogLayout, Colour, Level, NotCoveredError
from quakestream.raster.cog.workers import Team
from quakestream.raster.datasets import open_dataset
from quakestream.raster.messages import counted, reason_of
from quakestream.storage import StorageOptions, fingerprint
from quakestream.storage.fetchers import open_fetcher
from quakestream.storage.limits import BLOCK_BYTES
from quakestream.storage.range_file import RangeFile
from quakestream.storage.ranges import Fetcher

MAX_IMAGES = 64
_PLAIN, _RGB, _YCBCR = (0, 1, 3), 2, 6
_REDUCED, _MASK = 1, 4
_LERC_PARAMETERS = 50674
_OBSTORE_REFUSALS = {"PermissionDeniedError", "UnauthenticatedError", "NotSupportedError"}
"""Names of obstore's errors for requests that a store will always refuse."""


def make_layout(
    href: str, options: StorageOptions, etag: str = "", bands: Bands | None = None
) -> CogLayout:
    """The block index of a scene.

    Args:
        etag: the version of the scene, as `Scene.etag`; looked up if empty.
        bands: the bands of a probed scene; None: those that the file tells.

    Raises:
        NotCoveredError: if the hot path cannot read the scene.
        SceneError: if GDAL cannot open it.
        StorageError: if its store does not answer now.
        MissingExtraError: if the package for the protocol is not installed.
    """
    import tifffile  # not at every command's start

    etag = etag or fingerprint(href, options)
    fetcher = open_fetcher(href, options)
    try:
        with open_dataset(href, options) as dataset:
            try:
                file: Any = RangeFile(fetcher)
                with tifffile.TiffFile(file, name="scene") as tiff:
                    layout = _layout(href, dataset, tiff, options, bands)
            except (SceneError, StorageError):
                raise
            except Exception as error:  # tifffile raises anything on a bad header
                raise NotCoveredError(f"{type(error).__name__}: {error}", href) from error
            layout = replace(layout, etag=etag)
            _compare(layout, dataset, fetcher)
    except StorageError as error:
        if _is_refusal(error):  # GDAL got in: with other requests or other credentials
            raise NotCoveredError(error.what, href, remedy=error.remedy) from error
        raise
    finally:
        fetcher.close()
    return layout


def _is_refusal(error: StorageError) -> bool:
    """True if a store refuses a request and would refuse it again."""
    cause = error.__cause__
    status = getattr(cause, "status", 0)
    known = isinstance(cause, PermissionError | NotImplementedError) or status in (401, 403, 405)
    return known or type(cause).__name__ in _OBSTORE_REFUSALS


def _layout(
    href: str, dataset: Any, tiff: Any, options: StorageOptions, bands: Bands | None
) -> CogLayout:
    if dataset.driver not in ("GTiff", "COG"):
        raise NotCoveredError("file is not a TIFF", href, got=dataset.driver)
    pages = list(itertools.islice(tiff.pages, MAX_IMAGES))
    first = _level(href, pages[0], tiff.byteorder)
    _check_header(href, first, dataset)
    levels = [first, *_overviews(href, pages, tiff.byteorder, first)]
    colour, why_not = _colour(dataset, bands)
    masks: list[Level] = []
    if colour is not None and colour.validity == "mask":
        pairs = _with_masks(href, levels, pages, tiff.byteorder)
        levels, masks = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if not pairs or levels[0] is not first or _exists(f"{href}.msk", options):
            colour, why_not = None, "mask is not inside the file: is there a .msk beside it?"
            levels, masks = [first], []
    return CogLayout(
        href=href,
        etag="",
        crs_wkt=dataset.crs.to_wkt() if dataset.crs else "",
        transform=Affine(*list(dataset.transform)[:6]),
        levels=tuple(levels),
        masks=tuple(masks),
        fill=_fill(dataset),
        colour=colour,
        why_not=why_not,
        bands="" if bands is None else bands.token,
    )


def _exists(href: str, options: StorageOptions) -> bool:
    # not `dataset.files`: for it GDAL looks for thirty other companions
    try:
        fingerprint(href, options)
    except StorageError:
        return False
    return True


def _check_header(href: str, level: Level, dataset: Any) -> None:
    """Checks that tifffile and GDAL agree on the shape and dtype of the full resolution."""
    ours = (
        level.height,
        level.width,
        level.samples,
        np.dtype(level.coding.dtype).newbyteorder("="),
    )
    kind = dataset.dtypes[0]
    theirs = (dataset.height, dataset.width, dataset.count, kind)
    if ours[:3] != theirs[:3] or ours[3].name != kind or len(set(dataset.dtypes)) != 1:
        raise NotCoveredError(
            "tifffile and GDAL read another shape or dtype", href, str(theirs), str(ours)
        )


def _level(href: str, page: Any, byteorder: str) -> Level:
    """One image of the file.

    Raises:
        NotCoveredError: if its blocks are of a kind the hot path does not decode.
    """
    samples, planar = int(page.samplesperpixel), page.planarconfig == 2
    height, width = int(page.imagelength), int(page.imagewidth)
    if not (height > 0 and width > 0 and page.imagedepth == 1 and samples > 0):
        raise NotCoveredError("image has an unusual shape", href, got=str(page.shape))
    tiled = bool(page.is_tiled)
    block = (page.tilelength, page.tilewidth) if tiled else (min(page.rowsperstrip, height), width)
    coding = _coding(href, page, byteorder)
    if not all(side > 0 for side in block):
        raise NotCoveredError("blocks have no size", href, got=str(block))
    decoded = block[0] * block[1] * np.dtype(coding.dtype).itemsize * (1 if planar else samples)
    if decoded > BLOCK_BYTES:
        limit, size = f"at most {BLOCK_BYTES / 1e6:.0f} MB", f"{decoded / 1e6:.0f} MB"
        raise NotCoveredError("blocks are too large", href, limit, size, "tile the image")
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
    codec = CODEC_OF_NUMBER.get(number)
    if codec is None:
        raise NotCoveredError("compression is not supported", href, got=repr(page.compression))
    if page.dtype is None or page.fillorder != 1:
        got = f"{bits} bits in order {page.fillorder}"
        raise NotCoveredError("samples are not supported", href, got=got)
    dtype = np.dtype(page.dtype).newbyteorder(byteorder)
    usual = dtype.kind in "uifb" and bits in (8 * dtype.itemsize, 1)
    mask = bits == 1 and page.samplesperpixel == 1
    if not usual or (dtype.kind == "b") != (bits == 1) or mask != (bits == 1):
        raise NotCoveredError("samples are not supported", href, got=f"{bits}-bit {page.dtype}")
    predictor = int(page.predictor)
    if predictor not in (1, 2, 3) or (predictor != 1 and TRAITS[codec].gives_pixels):
        raise NotCoveredError("predictor is not supported", href, got=str(predictor))
    _check_colours(href, page, codec)
    inside: Codec = "none"
    if codec == "lerc":
        parameters = page.tags.valueof(_LERC_PARAMETERS, (0, 0))
        inside = LERC_INNER[int(parameters[1])]
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
        raise NotCoveredError(
            "colours are not supported",
            href,
            got=f"{page.photometric!r} of {counted(samples, 'sample')}, compression {codec}",
        )


def _overviews(href: str, pages: list[Any], byteorder: str, first: Level) -> list[Level]:
    """The overviews of the first image, finest first. Images of another kind are left out."""
    overviews = []
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
        # sides are rounded up, so both ratios are within a pixel of one factor
        apart = abs(ratios[0] - ratios[1]) / max(ratios) * min(level.height, level.width)
        if same_kind and min(ratios) > 1.0 and apart <= 2.0:
            overviews.append(level)
    return sorted(overviews, key=lambda level: -level.width)


def _with_masks(
    href: str, levels: list[Level], pages: list[Any], byteorder: str
) -> list[tuple[Level, Level]]:
    """Levels with their internal masks. A level without a mask is left out."""
    masks = {}
    for page in pages:
        if int(page.subfiletype) & _MASK and page.samplesperpixel == 1:
            mask = _level(href, page, byteorder)
            masks[mask.height, mask.width] = mask
    shapes = [(level.height, level.width) for level in levels]
    return [(lv, masks[s]) for lv, s in zip(levels, shapes, strict=True) if s in masks]


def _colour(dataset: Any, known: Bands | None) -> tuple[Colour | None, str]:
    """Bands and validity as GDAL understands the header, or None and the reason."""
    try:
        bands = bands_in(dataset, known)
    except SceneError as error:
        return None, reason_of(error)
    red, green, blue = bands.rgb
    plain = Colour(bands=(red - 1, green - 1, blue - 1), validity="black", fills=bands.fills)
    flags = set(dataset.mask_flag_enums[red - 1])
    if bands.alpha and flags <= {MaskFlags.all_valid, MaskFlags.per_dataset, MaskFlags.alpha}:
        if flags != {MaskFlags.per_dataset}:
            return replace(plain, validity="alpha", alpha=bands.alpha - 1), ""
        return None, "mask beside a band of transparency"
    if flags == {MaskFlags.all_valid} or MaskFlags.alpha in flags:
        return replace(plain, validity="nodata" if bands.fills else "black"), ""
    if flags == {MaskFlags.per_dataset}:
        if bands.fills:
            return None, "nodata of the item beside a mask in the file"
        return replace(plain, validity="mask"), ""
    if flags != {MaskFlags.nodata}:
        return None, f"mask is not supported: got {sorted(flag.name for flag in flags)}"
    return _by_nodata(dataset, plain)


def _by_nodata(dataset: Any, plain: Colour) -> tuple[Colour | None, str]:
    values = set(dataset.nodatavals)
    nodata = dataset.nodata
    limits = np.iinfo(dataset.dtypes[0]) if np.dtype(dataset.dtypes[0]).kind in "ui" else None
    if len(values) != 1 or nodata is None or limits is None or not math.isfinite(nodata):
        return None, f"nodata is not one count: got {values}"
    if not (limits.min <= nodata <= limits.max and float(nodata).is_integer()):
        return None, f"nodata is no count of {dataset.dtypes[0]}: got {nodata}"
    # rasterio's rule: where the first of four bands is red, the last is the mask; else any band
    four = dataset.count == 4 and dataset.colorinterp[0] == ColorInterp.red
    compared = (3,) if four else tuple(range(dataset.count))
    return replace(plain, validity="nodata", nodata=int(nodata), nodata_bands=compared), ""


def _fill(dataset: Any) -> float:
    """The count that GDAL shows where a block is not in the file."""
    nodata, dtype = dataset.nodata, np.dtype(dataset.dtypes[0])
    if nodata is None or (dtype.kind != "f" and not math.isfinite(nodata)):
        return 0.0
    if dtype.kind == "f":
        return float(nodata) if abs(nodata) != math.inf else 0.0
    limits = np.iinfo(dtype)
    return float(min(max(round(nodata), limits.min), limits.max))


def _compare(layout: CogLayout, dataset: Any, fetcher: Fetcher) -> None:
    """Reads a block in the middle with the hot path and with GDAL.

    Raises:
        NotCoveredError: if they differ: at all for exact codecs, beyond the bounds for JPEG.
    """
    level = layout.levels[0]
    rect = _middle_block(level)
    window = DatasetWindow(rect.left, rect.top, rect.width, rect.height)
    try:
        theirs_SYX = dataset.read(window=window)
    except (RasterioError, rasterio.errors.RasterioIOError):
        return  # no reader can decode the block; the error is reported when it is read
    with Team() as team:
        try:
            ours_SYX = BlockReader(layout, fetcher, name="", team=team).samples(0, rect)
        except ReadError as error:
            if isinstance(error.__cause__, StorageError):
                raise error.__cause__ from error
            what = f"only GDAL can read a block: {reason_of(error)}"
            raise NotCoveredError(what, layout.href) from error
    if difference := disagreement(ours_SYX, theirs_SYX, exact=level.coding.exact):
        raise NotCoveredError(
            f"blocks decode to other pixels than in GDAL: {difference}", layout.href
        )


def _middle_block(level: Level) -> Rect:
    row, col = level.down // 2, level.across // 2
    top, left = row * level.block_height, col * level.block_width
    return Rect(
        top=top,
        left=left,
        height=min(level.block_height, level.height - top),
        width=min(level.block_width, level.width - left),
    )
