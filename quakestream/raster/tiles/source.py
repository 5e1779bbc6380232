"""Tiles read as any scene is: windows of counts and validity on a run's grid."""

from collections.abc import Callable
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import ReadError
from quakestream.raster.source import Pixels, RasterioSource, RasterSource
from quakestream.raster.tiles.entries import REFERENCES, GridTiles, TileEntry, read_entry
from quakestream.raster.tiles.extras import tiles_extra
from quakestream.storage import StorageOptions, Store, open_store


class Blocks(Protocol):
    """Arrays of one scene on one grid."""

    def open(self) -> None:
        """Opens the arrays, on the worker that reads them."""
        ...

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Counts (3, y, x) and validity (y, x) of a part of the arrays."""
        ...


class StoredTiles:
    """Tiles that were written on the run's grid."""

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
    """A scene's own blocks, by reference."""

    def __init__(
        self, entry: TileEntry, references: dict[str, Any], options: StorageOptions
    ) -> None:
        assert entry.layout is not None
        self._layout, self._references, self._options = entry.layout, references, options

    def open(self) -> None:
        with tiles_extra():
            from quakestream.raster.tiles.arrays import open_referenced

        self._blocks = open_referenced(self._references, "counts", self._options)
        if self._layout.validity == "mask":
            self._mask = open_referenced(self._references, "mask", self._options)

    def read(self, rows: slice, cols: slice) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        layout = self._layout
        if layout.axes == "YXS":
            all_BYX = np.asarray(self._blocks[rows, cols]).transpose(2, 0, 1)
        else:
            all_BYX = np.asarray(self._blocks[:, rows, cols])
        counts_BYX = np.ascontiguousarray(all_BYX[list(layout.bands)])
        valid_YX: NDArray[np.bool_]
        if layout.validity == "mask":
            valid_YX = np.asarray(self._mask[rows, cols], np.bool_)
        elif layout.validity == "alpha":
            valid_YX = np.asarray(all_BYX[layout.alpha], np.bool_)
        elif layout.validity == "nodata":  # GDAL: valid where any band says so, seen or not
            valid_YX = np.logical_or.reduce(all_BYX != layout.nodata, axis=0)
        else:
            valid_YX = np.logical_or.reduce(counts_BYX, axis=0)
        return counts_BYX, valid_YX


_stored: type[Blocks] = StoredTiles
_virtual: type[Blocks] = VirtualTiles


class TileSource:
    """Reads one scene from a tile store. Any part of a window reads the same alone."""

    seamless = True

    def __init__(self, scene: Scene, tiles: GridTiles, blocks: Blocks) -> None:
        self._scene, self._tiles, self._blocks = scene, tiles, blocks

    def __enter__(self) -> Self:
        with self._as_read_error("opening its tiles"):
            self._blocks.open()
        return self

    def __exit__(self, *_: object) -> None:
        pass  # connections belong to fsspec, one a process

    def read(self, window: Window) -> Pixels:
        """Counts and validity; zeros and invalid outside what the arrays hold.

        Raises:
            ReadError: if a chunk is missing, cut off, or cannot be fetched or decoded.
        """
        counts_BYX = np.zeros((3, *window.shape), np.uint8)
        valid_YX = np.zeros(window.shape, np.bool_)
        inside = window.shared(self._tiles.window)
        if inside.height > 0 and inside.width > 0:
            rows, cols = inside.slices_in(window)
            where = (
                f"rows {inside.row}..{inside.row_end}, cols {inside.col}..{inside.col_end} "
                f"of grid {self._tiles.name}"
            )
            with self._as_read_error(where):
                block = self._blocks.read(*inside.slices_in(self._tiles.window))
            counts_BYX[:, rows, cols], valid_YX[rows, cols] = block
        return Pixels(counts_BYX=counts_BYX, valid_YX=valid_YX)

    def _as_read_error(self, where: str) -> "_AsReadError":
        return _AsReadError(f"cannot read the tiles of scene {self._scene.id} ({where})")


class _AsReadError:
    """Turns whatever zarr, a codec or a store raises into ReadError.

    They share no base but Exception.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, ImportError):
            cause = error if error.__cause__ is None else error.__cause__
            told = str(cause) or type(cause).__name__
            raise ReadError(f"{self._what}: {told}; make them again with `quakestream tile`") from (
                error
            )


_source: type[RasterSource] = TileSource


def tile_source_factory(
    store_uri: str,
    options: StorageOptions | None = None,
    others: Callable[[Scene, Grid], RasterSource] | None = None,
) -> Callable[[Scene, Grid], RasterSource]:
    """What a reader opens scenes with when a run has a tile store.

    A scene the store lacks, has of another version, or has not on that grid is
    read itself; `survey_tiles` is what says so to the user. A store that does
    not answer is an error, never a reason to read something else.

    Args:
        others: opens scenes that are read themselves; through GDAL where it is not given.
    """
    chosen = options or StorageOptions()
    store = open_store(store_uri, chosen)

    def open_source(scene: Scene, grid: Grid) -> RasterSource:
        entry = read_entry(store, scene.id)
        tiles = entry.on(grid) if entry and entry.refusal(scene) is None else None
        if entry is None or tiles is None:
            return others(scene, grid) if others else RasterioSource(scene, grid, chosen)
        return TileSource(scene, tiles, _blocks(store, entry, tiles))

    return open_source


def _blocks(store: Store, entry: TileEntry, tiles: GridTiles) -> Blocks:
    if entry.kind == "stored":
        return StoredTiles(store.uri, entry.group, tiles, store.options)
    with tiles_extra():
        from quakestream.raster.tiles.arrays import parse_references
    content = parse_references(store.get(f"{entry.group}/{REFERENCES}"))
    return VirtualTiles(entry, content, store.options)
