"""Reads tiles as scenes are read: windows of counts and validity on a run's grid."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import ReadError
from quakestream.raster.cog.places import validity
from quakestream.raster.cog.scratch import Scratch
from quakestream.raster.source import Pixels, RasterioSource, RasterSource
from quakestream.raster.tiles.entries import (
    REFERENCES,
    BlockLayout,
    GridTiles,
    TileEntry,
    read_entry,
)
from quakestream.raster.tiles.extras import tiles_extra
from quakestream.storage import StorageOptions, Store, open_store


class TileArrays(Protocol):
    """Arrays of one scene on one grid."""

    def open(self) -> None:
        """Opens the arrays, on the worker that reads them."""
        ...

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Counts, shape (3, y, x), and validity, shape (y, x), of a part of the arrays."""
        ...


class StoredTiles:
    """Tiles written on the run's grid."""

    def __init__(self, uri: str, group: str, tiles: GridTiles, options: StorageOptions) -> None:
        self._uri, self._path, self._options = uri, f"{group}/{tiles.name}", options

    def open(self) -> None:
        with tiles_extra():
            from quakestream.raster.tiles.arrays import open_written

        self._counts, self._valid = (
            open_written(self._uri, self._options, f"{self._path}/{name}", read_only=True)
            for name in ("counts", "valid")
        )

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        counts_BYX = np.asarray(self._counts[:, rows, cols])
        return counts_BYX, np.asarray(self._valid[rows, cols]) > 0


class VirtualTiles:
    """A scene's own blocks, read through references."""

    def __init__(
        self, layout: BlockLayout, references: dict[str, Any], options: StorageOptions
    ) -> None:
        self._layout, self._references, self._options = layout, references, options
        self._scratch = Scratch()

    def open(self) -> None:
        with tiles_extra():
            from quakestream.raster.tiles.arrays import open_referenced

        self._blocks = open_referenced(self._references, "counts", self._options)
        if self._layout.colour.validity == "mask":
            self._mask = open_referenced(self._references, "mask", self._options)

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        colour = self._layout.colour
        if self._layout.axes == "YXS":
            samples_SYX = np.asarray(self._blocks[rows, cols]).transpose(2, 0, 1)
        else:
            samples_SYX = np.asarray(self._blocks[:, rows, cols])
        counts_BYX = np.ascontiguousarray(samples_SYX[list(colour.bands)])
        ground_YX = validity(colour, samples_SYX, self._scratch)
        if ground_YX is None:
            ground_YX = self._mask[rows, cols]
        return counts_BYX, np.asarray(ground_YX) != 0


_stored: type[TileArrays] = StoredTiles
_virtual: type[TileArrays] = VirtualTiles


class TileSource:
    """Reads one scene from a tile store."""

    seamless = True

    def __init__(self, scene: Scene, tiles: GridTiles, arrays: TileArrays) -> None:
        self._scene, self._tiles, self._arrays = scene, tiles, arrays

    def __enter__(self) -> Self:
        with _read_errors(f"tiles of scene {self._scene.id}"):
            self._arrays.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Does nothing: fsspec owns the connections, one per process."""

    def read(self, window: Window) -> Pixels:
        """Counts and validity; zeros and invalid outside the arrays.

        Raises:
            ReadError: if a chunk is missing or truncated, or cannot be fetched or decoded.
        """
        counts_BYX = np.zeros((3, *window.shape), np.uint8)
        valid_YX = np.zeros(window.shape, np.bool_)
        inside = window.shared(self._tiles.window)
        if inside.height > 0 and inside.width > 0:
            rows, cols = inside.slices_in(window)
            where = (
                f"tiles of scene {self._scene.id} (rows {inside.row}..{inside.row_end}, "
                f"cols {inside.col}..{inside.col_end} of grid {self._tiles.name})"
            )
            with _read_errors(where):
                part = self._arrays.read(*inside.slices_in(self._tiles.window))
            counts_BYX[:, rows, cols], valid_YX[rows, cols] = part
        return Pixels(counts_BYX=counts_BYX, valid_YX=valid_YX)


@contextmanager
def _read_errors(where: str) -> Iterator[None]:
    """Turns whatever zarr, a codec or a store raises into `ReadError`.

    Their errors share no base class but Exception.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        cause = error if error.__cause__ is None else error.__cause__
        what = f"cannot read tiles: {cause or type(cause).__name__}"
        remedy = "make them again with `quakestream tile`"
        raise ReadError(what, where, remedy=remedy) from error


_source: type[RasterSource] = TileSource


def tile_source_factory(
    store_uri: str,
    options: StorageOptions | None = None,
    others: Callable[[Scene, Grid], RasterSource] | None = None,
) -> Callable[[Scene, Grid], RasterSource]:
    """The function that opens scenes when a run has a tile store.

    A scene is read directly if the store lacks it, has another version of it, or lacks it on
    that grid; `survey_tiles` reports this to the user. A store that does not answer is an error
    and never a reason to read something else.

    Args:
        others: opens scenes that are read directly; by default through GDAL.
    """
    chosen = options or StorageOptions()
    store = open_store(store_uri, chosen)

    def open_source(scene: Scene, grid: Grid) -> RasterSource:
        entry = read_entry(store, scene.id)
        tiles = entry.on(grid) if entry and entry.refusal(scene) is None else None
        if entry is None or tiles is None:
            return others(scene, grid) if others else RasterioSource(scene, grid, chosen)
        return TileSource(scene, tiles, _arrays(store, scene, entry, tiles))

    return open_source


def _arrays(store: Store, scene: Scene, entry: TileEntry, tiles: GridTiles) -> TileArrays:
    if entry.layout is None:
        return StoredTiles(store.uri, entry.group, tiles, store.options)
    with tiles_extra():
        from quakestream.raster.tiles.arrays import parse_references
    content = parse_references(store.get(f"{entry.group}/{REFERENCES}"))
    if urlsplit(scene.href).query:  # its signature is not stored, and may be another one today
        content["templates"]["u"] = scene.href
    return VirtualTiles(entry.layout, content, store.options)
