"""Virtual tiles: kerchunk references into a scene's own blocks. No pixel is copied.

What references cannot express is refused with its reason, and what they do
express is read back and compared with GDAL before the scene is accepted.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import QuakestreamError, SceneError
from quakestream.raster.source import Pixels, RasterioSource, open_dataset, visible_bands
from quakestream.raster.tiles.entries import Axes, BlockLayout, GridTiles, TileEntry, Validity
from quakestream.raster.tiles.extras import tiles_extra
from quakestream.raster.tiles.placement import has_whole_pixels, own_window
from quakestream.raster.tiles.source import TileSource, VirtualTiles
from quakestream.storage import StorageOptions, protocol_of
from quakestream.storage.filesystems import filesystem

EXACT_CODECS = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits"} | {
    34925: "LZMA",
    50000: "zstd",
}
"""TIFF compressions whose blocks decode to the same pixels everywhere."""
JPEG = 7
LUMA_R, LUMA_G, LUMA_B = 0.299, 0.587, 0.114
JPEG_LUMA_COUNTS, JPEG_MEAN_COUNTS = 0.5, 4.0
"""How far imagecodecs and GDAL may differ on JPEG, on average: in brightness, and per band.

They bring halved chroma back to full size differently; brightness is left to rounding.
Measured on 16 scenes of half a metre: brightness 0.11 to 0.20, bands 0.4 to 1.9 (at most 79).
"""
_RGB, _YCBCR, _BLACK_IS_ZERO = 2, 6, 1
_MASK_PAGE, _REDUCED_PAGE = 4, 1
_NUMCODECS = {1: None, 5: "imagecodecs_lzw", 8: "zlib", 32946: "zlib"} | {
    32773: "imagecodecs_packbits",
    50000: "imagecodecs_zstd",
}
PROBE_PX = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """A virtual scene: its entry, and the references to store beside it."""

    entry: TileEntry
    content: dict[str, Any]
    """Kerchunk references, version 1, arrays `counts` and, with an internal mask, `mask`."""


def make_references(scene: Scene, grids: Iterable[Grid], options: StorageOptions) -> References:
    """References to the blocks of a scene's full resolution.

    Args:
        grids: where a run needs the scene. References serve those whose pixels are the
            scene's, moved by a whole number.

    Raises:
        SceneError: if the scene cannot be virtual; the message says why.
        StorageError: if it cannot be reached.
        MissingExtraError: if kerchunk, tifffile or imagecodecs is missing.
    """
    with tiles_extra():
        import kerchunk.tiff  # noqa: F401
        import tifffile  # noqa: F401

    if scene.stretch is not None:
        raise _refused(scene, "its counts have 16 bits, and references give them as they are")
    with open_dataset(scene.href, options) as dataset:
        wanted = tuple(grids)
        aligned = [g for g in wanted if has_whole_pixels(dataset, g)]
        if not aligned:
            raise _refused(scene, f"its pixels are not those of {_names(wanted)}, and no warp")
        windows = {g: own_window(dataset, g) for g in aligned}
        layout = _declared(dataset, scene)
    try:
        content, page = _referenced(scene, layout, options)
    except QuakestreamError:
        raise
    except Exception as error:  # tifffile and kerchunk raise whatever a bad header trips over
        raise _refused(scene, f"{type(error).__name__}: {error}") from error
    exact = page.compression in EXACT_CODECS
    tiles = [GridTiles(grid=g, window=w, exact=exact) for g, w in windows.items()]
    axes: Axes = "SYX" if page.planarconfig == 2 else "YXS"
    entry = TileEntry.describing(scene, "virtual", tiles)
    made = References(entry=replace(entry, layout=replace(layout, axes=axes)), content=content)
    _compare(scene, made, options)
    return made


def _refused(scene: Scene, reason: str) -> SceneError:
    return SceneError(f"{scene.href} (scene {scene.id}) cannot be virtual: {reason}")


def _names(grids: tuple[Grid, ...]) -> str:
    return ", ".join(f"EPSG:{g.epsg} at {g.gsd_m:g} m" for g in grids)


def _declared(dataset: Any, scene: Scene) -> BlockLayout:
    """Bands and validity as GDAL understands the header."""
    bands = visible_bands(dataset)
    flags = set(dataset.mask_flag_enums[bands[0] - 1])
    validity: Validity
    nodata = alpha = None
    if flags == {MaskFlags.all_valid}:
        validity = "black"
    elif flags == {MaskFlags.nodata}:
        validity, values = "nodata", set(dataset.nodatavals)
        nodata = int(dataset.nodata)
        if values != {float(nodata)} or not 0 <= nodata <= 255:
            raise _refused(scene, f"nodata values {sorted(values)} are not one count")
    elif flags == {MaskFlags.per_dataset, MaskFlags.alpha}:
        validity, alpha = "alpha", list(dataset.colorinterp).index(ColorInterp.alpha)
    elif flags == {MaskFlags.per_dataset}:
        validity = "mask"
    else:
        raise _refused(scene, f"its mask is {sorted(f.name for f in flags)}")
    return BlockLayout(
        axes="YXS",
        bands=tuple(b - 1 for b in bands),
        validity=validity,
        nodata=nodata,
        alpha=alpha,
    )


def _referenced(
    scene: Scene, layout: BlockLayout, options: StorageOptions
) -> tuple[dict[str, Any], Any]:
    """The references, and tifffile's view of the page they are of."""
    import tifffile
    from kerchunk.tiff import tiff_to_zarr

    fs, path = filesystem(scene.href, options)
    uri = fs.unstrip_protocol(path) if protocol_of(scene.href) == "file" else scene.href
    with fs.open(path) as opened, tifffile.TiffFile(opened, name="scene") as tiff:
        page = tiff.pages.first
        _check(page, tiff, layout, scene)
        mask = _mask_references(tiff, scene) if layout.validity == "mask" else {}
    made = tiff_to_zarr(uri, remote_options=dict(fs.storage_options))
    level = "0/" if "0/.zarray" in made else ""
    counts = {k[len(level) :]: v for k, v in made.items() if k.startswith(level)}
    refs: dict[str, Any] = {".zgroup": '{"zarr_format": 2}', **mask}
    blocks = 0
    for key, value in counts.items():
        if isinstance(value, list):
            refs[f"counts/{key}"] = ["{{u}}", *value[1:]]
            blocks += 1
        elif key in (".zarray", ".zattrs"):
            refs[f"counts/{key}"] = value
    expected = int(np.prod(page.chunked))
    if blocks != expected:
        raise _refused(scene, f"{expected - blocks} of its {expected} blocks are not in the file")
    return {"version": 1, "templates": {"u": uri}, "refs": refs}, page


def _check(page: Any, tiff: Any, layout: BlockLayout, scene: Scene) -> None:
    """Refuses what decodes otherwise than GDAL would show it.

    Raises:
        SceneError: with the reason.
    """
    codec = page.compression
    if codec != JPEG and codec not in EXACT_CODECS:
        raise _refused(scene, f"its compression {codec.name} is not one that was compared")
    if page.dtype != np.uint8 or page.bitspersample != 8:
        raise _refused(scene, f"it holds {page.bitspersample}-bit {page.dtype}, not uint8")
    colours = (_RGB, _YCBCR) if codec == JPEG else (_RGB, _BLACK_IS_ZERO)
    if page.photometric not in colours:
        raise _refused(scene, f"its colours are {page.photometric.name}")
    if codec == JPEG and layout.validity in ("nodata", "alpha"):
        raise _refused(scene, f"its {layout.validity} went through JPEG and is not exact")
    if len(tiff.series[0].pages) != 1:
        raise _refused(scene, f"it has {len(tiff.series[0].pages)} images of one size")
    if not page.is_tiled and page.imagelength % page.rowsperstrip:
        raise _refused(
            scene,
            f"it has strips of {page.rowsperstrip} rows, and the last is not whole; tile it",
        )


def _mask_references(tiff: Any, scene: Scene) -> dict[str, Any]:
    """References to the internal mask, one bit a pixel."""
    first = tiff.pages.first
    for page in tiff.pages:
        kind = int(page.subfiletype)
        if kind & _MASK_PAGE and not kind & _REDUCED_PAGE and page.shape == first.shape[:2]:
            return _bits(page, scene)
    raise _refused(scene, "its mask is not inside the file (a .msk beside it?)")


def _bits(page: Any, scene: Scene) -> dict[str, Any]:
    plain = page.fillorder == 1 and page.predictor == 1 and page.bitspersample in (1, 8)
    if page.compression not in _NUMCODECS or not plain or not page.is_tiled:
        raise _refused(scene, f"its mask is {page.compression.name}, {page.bitspersample} bit")
    height, width = page.tilelength, page.tilewidth
    codec = _NUMCODECS[page.compression]
    unpack = {
        "id": "imagecodecs_packints",
        "dtype": "|u1",
        "bitspersample": 1,
        "bitorder": None,
        "runlen": width,
    }
    metadata = {
        "zarr_format": 2,
        "shape": list(page.shape),
        "chunks": [height, width],
        "dtype": "|u1",
        "fill_value": 0,
        "order": "C",
        "compressor": None if codec is None else {"id": codec},
        "filters": [unpack] if page.bitspersample == 1 else None,
    }
    across = -(-page.imagewidth // width)
    refs: dict[str, Any] = {"mask/.zarray": json.dumps(metadata), "mask/.zattrs": "{}"}
    for n, (start, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        if not length:
            raise _refused(scene, f"block {n // across},{n % across} of its mask is not there")
        refs[f"mask/{n // across}.{n % across}"] = ["{{u}}", start, length]
    return refs


def _compare(scene: Scene, made: References, options: StorageOptions) -> None:
    """Reads corners and centre through the references and through GDAL.

    Raises:
        SceneError: if they differ: exactly none for exact codecs, within bounds for JPEG.
    """
    tiles = made.entry.grids[0]
    virtual = VirtualTiles(made.entry, made.content, options)
    with (
        RasterioSource(scene, tiles.grid, options) as source,
        TileSource(scene, tiles, virtual) as references,
    ):
        for window in _probes(tiles.window):
            found, expected = references.read(window), source.read(window)
            if difference := _difference(found, expected, exact=tiles.exact):
                raise _refused(scene, f"its blocks do not decode as GDAL's: {difference}")


def _probes(window: Window) -> list[Window]:
    """Corners and centre; the corners reach over the edge."""
    half = PROBE_PX // 2
    middle = (window.row + window.height // 2, window.col + window.width // 2)
    points = [(r, c) for r in (window.row, window.row_end) for c in (window.col, window.col_end)]
    return [
        Window(row=r - half, col=c - half, height=PROBE_PX, width=PROBE_PX)
        for r, c in [*points, middle]
    ]


def _difference(found: Pixels, expected: Pixels, *, exact: bool) -> str:
    """How pixels differ; empty where they do not, or no more than JPEG decoders do."""
    apart_BYX = found.counts_BYX.astype(np.float32) - expected.counts_BYX
    invalid = int((found.valid_YX != expected.valid_YX).sum())
    mean, most = float(np.abs(apart_BYX).mean()), int(np.abs(apart_BYX).max(initial=0))
    luma_YX = np.tensordot((LUMA_R, LUMA_G, LUMA_B), apart_BYX, axes=1)
    luma = float(np.abs(luma_YX).mean())
    if not exact and luma <= JPEG_LUMA_COUNTS and mean <= JPEG_MEAN_COUNTS:
        return ""
    if exact and most == 0 and invalid == 0:
        return ""
    return (
        f"{mean:.2f} counts on average, {most} at most, {luma:.2f} in brightness, validity of "
        f"{invalid} pixels"
    )
