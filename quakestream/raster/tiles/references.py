"""Virtual tiles: kerchunk references into a scene's own blocks. No pixel is copied.

References say in Zarr's words what the scene's block index says. A scene that they cannot express
is refused with a reason. Corners and centre are read back and compared with GDAL before a scene
is accepted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import rasterio

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import SceneError
from quakestream.raster.cog.agreement import disagreement
from quakestream.raster.cog.codec_table import TRAITS
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.layout import CogLayout, Colour, Level, NotCoveredError
from quakestream.raster.messages import counted, reason_of
from quakestream.raster.source import Pixels, RasterioSource
from quakestream.raster.tiles.entries import BlockLayout, GridTiles, TileEntry
from quakestream.raster.tiles.extras import tiles_extra
from quakestream.raster.tiles.placement import Raster, has_whole_pixels, own_window
from quakestream.raster.tiles.source import TileSource, VirtualTiles
from quakestream.raster.tiles.zarr_arrays import array_references
from quakestream.storage import StorageOptions, protocol_of
from quakestream.storage.filesystems import filesystem

PROBE_PX = 256
"""Side of the windows that are read back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """A virtual scene: its entry, and the references to store beside it."""

    entry: TileEntry
    layout: BlockLayout
    content: dict[str, Any]
    """Kerchunk references, version 1, of an array `counts` and, with an internal mask, `mask`."""


def make_references(scene: Scene, grids: Iterable[Grid], options: StorageOptions) -> References:
    """References to the blocks of a scene's full resolution.

    Args:
        grids: the grids on which a run reads the scene. References serve those whose pixels are
            the scene's, moved by a whole number.

    Raises:
        SceneError: if the scene cannot be virtual.
        StorageError: if it cannot be reached.
        MissingExtraError: if zarr or another package of the extra `tiles` is missing.
    """
    with tiles_extra():
        import zarr  # noqa: F401

    if scene.stretch is not None:
        raise _not_virtual(scene, "its counts have 16 bits, and references do not stretch them")
    try:
        layout = make_layout(scene.href, options, scene.etag, scene.bands)
    except NotCoveredError as error:
        raise _not_virtual(scene, reason_of(error)) from error
    tiles = _grid_tiles(scene, layout, tuple(grids))
    if layout.colour is None:
        raise _not_virtual(scene, layout.why_not)
    level = layout.levels[0]
    _check(scene, level, layout.colour)
    for name, image in zip(("image", "mask"), (level, *layout.masks[:1]), strict=False):
        _check_blocks(scene, name, image)
    blocks = BlockLayout(axes="SYX" if level.planar else "YXS", colour=layout.colour)
    references = References(
        entry=TileEntry.describing(scene, "virtual", tiles, blocks),
        layout=blocks,
        content={
            "version": 1,
            "templates": {"u": _uri(scene.href, options)},
            "refs": {
                ".zgroup": '{"zarr_format": 2}',
                **array_references("counts", level, layout, layout.fill),
                **(array_references("mask", layout.masks[0], layout, 0) if layout.masks else {}),
            },
        },
    )
    _compare(scene, references, options)
    return references


def _not_virtual(scene: Scene, reason: str, remedy: str = "") -> SceneError:
    where = f"{scene.href} (scene {scene.id})"
    return SceneError(f"scene cannot be virtual: {reason}", where, remedy=remedy)


def _uri(href: str, options: StorageOptions) -> str:
    """The URI by which fsspec opens a scene."""
    if protocol_of(href) != "file":
        return href
    fs, path = filesystem(href, options)
    return str(fs.unstrip_protocol(path))


def _grid_tiles(scene: Scene, layout: CogLayout, grids: tuple[Grid, ...]) -> list[GridTiles]:
    """The scene's place on each grid that has its pixels."""
    if not layout.crs_wkt:
        raise _not_virtual(scene, "image has no CRS", "add it with gdal_edit -a_srs EPSG:...")
    level, crs = layout.levels[0], rasterio.CRS.from_wkt(layout.crs_wkt)
    raster = Raster(layout.transform, level.height, level.width, crs)
    exact = level.coding.exact
    tiles = [
        GridTiles(grid=grid, window=own_window(raster, grid), exact=exact)
        for grid in grids
        if has_whole_pixels(raster, grid)
    ]
    if not tiles:
        names = ", ".join(f"EPSG:{g.epsg} at {g.gsd_m:g} m" for g in grids)
        raise _not_virtual(scene, f"its pixels are not those of {names}")
    return tiles


def _check(scene: Scene, level: Level, colour: Colour) -> None:
    """Refuses blocks that Zarr cannot read, or reads otherwise than GDAL.

    Raises:
        SceneError: with the reason.
    """
    coding = level.coding
    if TRAITS[coding.codec].zarr_id is None:
        raise _not_virtual(scene, f"compression {coding.codec} has no Zarr codec")
    if coding.dtype != "|u1" or coding.bits != 8:
        raise _not_virtual(scene, f"expected uint8, got {coding.dtype} of {coding.bits} bits")
    if not coding.exact and colour.validity in ("nodata", "alpha"):
        raise _not_virtual(scene, f"its {colour.validity} is not exact, as it went through JPEG")


def _check_blocks(scene: Scene, name: str, level: Level) -> None:
    """Refuses an array whose blocks are not all in the file, or not all of one size."""
    absent = int((level.bytes_N == 0).sum())
    if absent:
        total = counted(len(level.bytes_N), "block")
        raise _not_virtual(scene, f"{absent:,} of {total} of its {name} are not in the file")
    if level.strips and level.height % level.block_height:
        rows = counted(level.block_height, "row")
        raise _not_virtual(
            scene, f"its {name} has strips of {rows}, and the last is shorter", "tile the image"
        )


def _compare(scene: Scene, references: References, options: StorageOptions) -> None:
    """Reads corners and centre through the references and through GDAL.

    Raises:
        SceneError: if they differ: at all for exact codecs, beyond the bounds for JPEG.
    """
    tiles = references.entry.grids[0]
    virtual = VirtualTiles(references.layout, references.content, options)
    with (
        RasterioSource(scene, tiles.grid, options) as gdal,
        TileSource(scene, tiles, virtual) as source,
    ):
        for window in _probes(tiles.window):
            if difference := _difference(source.read(window), gdal.read(window), tiles.exact):
                reason = f"blocks decode to other pixels than in GDAL: {difference}"
                raise _not_virtual(scene, reason)


def _probes(window: Window) -> list[Window]:
    """Windows at the corners, reaching over the edge, and at the centre."""
    half = PROBE_PX // 2
    middle = (window.row + window.height // 2, window.col + window.width // 2)
    points = [(r, c) for r in (window.row, window.row_end) for c in (window.col, window.col_end)]
    return [
        Window(row=r - half, col=c - half, height=PROBE_PX, width=PROBE_PX)
        for r, c in [*points, middle]
    ]


def _difference(ours: Pixels, theirs: Pixels, exact: bool) -> str:
    """Describes how pixels differ; empty where they agree."""
    if difference := disagreement(ours.counts_BYX, theirs.counts_BYX, exact=exact):
        return difference
    invalid = int((ours.valid_YX != theirs.valid_YX).sum())
    return f"validity of {counted(invalid, 'pixel')}" if exact and invalid else ""
