"""Stored tiles: a scene's pixels, written on a run's grid shard by shard.

dask runs the tasks. A task reads its square through the same source as `map` and writes it to
the store itself. No pixel travels between workers, and a worker holds one shard at a time for a
scene of any size.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import Problem, QuakestreamError, ReadError
from quakestream.raster.cog import CogOpener, LayoutCache
from quakestream.raster.messages import counted
from quakestream.raster.tiles.entries import GridTiles, TileEntry, group_name
from quakestream.raster.tiles.extras import tiles_extra
from quakestream.raster.tiles.placement import (
    CHUNK_PX,
    SHARD_PX,
    extent_on,
    has_whole_pixels,
    on_lattice,
    raster_of,
    squares,
)
from quakestream.storage import StorageOptions, Store
from quakestream.storage.filesystems import storage_errors

Scheduler = str | Callable[..., Any]
"""A scheduler for `dask.compute`: `threads`, or the function of a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileShard:
    """One square to read and write. It holds nothing open."""

    scene: Scene
    tiles: GridTiles
    window: Window
    store_uri: str
    options: StorageOptions


def stored_tiles(scene: Scene, grid: Grid) -> GridTiles:
    """The place of a scene's tiles on a grid: whole shards of the grid's own lattice."""
    window = on_lattice(extent_on(scene, grid), SHARD_PX)
    return GridTiles(grid=grid, window=window, exact=has_whole_pixels(raster_of(scene), grid))


def write_stored(
    scene: Scene,
    grids: Iterable[Grid],
    store: Store,
    *,
    scheduler: Scheduler = "threads",
    workers: int = 2,
) -> TileEntry:
    """Writes a scene's tiles on each grid.

    Returns:
        The entry, which puts the tiles into the store when it is written.

    Raises:
        SceneError: if the scene cannot be read or placed.
        StorageError: if the store cannot be written.
        MissingExtraError: if dask, xarray, zarr or odc-geo is missing.
    """
    with tiles_extra():
        from dask.base import compute
        from dask.delayed import delayed

    tasks = []
    placed = [stored_tiles(scene, grid) for grid in grids]
    for tiles in placed:
        make_arrays(scene, tiles, store)
        for window in squares(tiles.window, SHARD_PX):
            task = TileShard(
                scene=scene,
                tiles=tiles,
                window=window,
                store_uri=store.uri,
                options=store.options,
            )
            tasks.append(delayed(partial(write_shard, task), pure=False)())
    settings = {"num_workers": workers} if scheduler == "threads" else {}
    done = compute(*tasks, scheduler=scheduler, **settings)  # type: ignore[no-untyped-call]
    failures: list[Problem] = [problem for problem in done if problem is not None]
    if failures:
        first, total = failures[0], counted(len(tasks), "shard")
        what = f"{len(failures)} of {total} failed, the first: {first.what}"
        raise ReadError(what, first.where, first.expected, first.got, first.remedy)
    return TileEntry.describing(scene, "stored", placed)


def make_arrays(scene: Scene, tiles: GridTiles, store: Store) -> None:
    """Writes metadata and coordinates of a scene's arrays on one grid, with xarray.

    Raises:
        StorageError: if they cannot be written.
    """
    with tiles_extra():
        import dask.array as da
        import xarray as xr
        from odc.geo.geobox import GeoBox
        from odc.geo.xr import xr_coords
        from zarr.codecs import BloscCodec, Crc32cCodec

        from quakestream.raster.tiles.arrays import zarr_store

    height, width = tiles.window.shape
    transform = tiles.grid.window_transform(tiles.window)
    geobox = GeoBox((height, width), transform, f"EPSG:{tiles.grid.epsg}")
    coordinates = xr_coords(geobox, dims=("y", "x"))
    lazy_BYX = da.zeros((3, height, width), dtype="u1", chunks=(3, SHARD_PX, SHARD_PX))
    dataset = xr.Dataset(
        {"counts": (("band", "y", "x"), lazy_BYX), "valid": (("y", "x"), lazy_BYX[0])},
        coords={**coordinates, "band": [1, 2, 3]},
        attrs={"scene": scene.id},
    )
    # Imagery hardly shrinks (zstd: by 6 % at half the speed). LZ4 shrinks empty chunks, and the
    # checksum finds damaged ones.
    lz4 = BloscCodec(cname="lz4", clevel=1, shuffle="noshuffle", typesize=1)
    codec = {"compressors": (lz4, Crc32cCodec()), "fill_value": 0}
    chunks, shards = (CHUNK_PX, CHUNK_PX), (SHARD_PX, SHARD_PX)
    encoding = {
        "counts": {"chunks": (3, *chunks), "shards": (3, *shards), **codec},
        "valid": {"chunks": chunks, "shards": shards, **codec},
    }
    for name in encoding:
        dataset[name].attrs["grid_mapping"] = "spatial_ref"
    with storage_errors("write", store.uri):
        dataset.to_zarr(
            zarr_store(store.uri, store.options, read_only=False),
            group=f"{group_name(scene.id)}/{tiles.name}",
            mode="w",
            compute=False,
            zarr_format=3,
            consolidated=False,
            encoding=encoding,
        )


@lru_cache(maxsize=1)
def _layouts() -> LayoutCache:
    """Block indices of the scenes whose tiles this process writes."""
    return LayoutCache()


def write_shard(task: TileShard) -> Problem | None:
    """Reads one square and writes it.

    Returns:
        Why the square could not be read; None if it was written.

    Raises:
        StorageError: if it cannot be written.
    """
    path = f"{group_name(task.scene.id)}/{task.tiles.name}"
    rows, cols = task.window.slices_in(task.tiles.window)
    try:
        opens = CogOpener(task.options, cache_bytes=0, layouts=_layouts())
        with opens, opens(task.scene, task.tiles.grid) as source:
            pixels = source.read(task.window)
    except QuakestreamError as error:
        return error.problem
    except OSError as error:
        return Problem(str(error), task.scene.href)
    _write(task, f"{path}/counts", (slice(None), rows, cols), pixels.counts_BYX)
    _write(task, f"{path}/valid", (rows, cols), pixels.valid_YX.astype("u1"))
    return None


def _write(task: TileShard, path: str, place: tuple[slice, ...], values: NDArray[np.uint8]) -> None:
    """Writes a shard, also one without a count, which Zarr would leave out.

    A shard that is missing is one that was lost.

    Raises:
        StorageError: if it cannot be written.
    """
    from quakestream.raster.tiles.arrays import empty_shard, open_written

    if not values.any():
        numbers = [(part.start or 0) // SHARD_PX for part in place]
        key = "/".join(map(str, (path, "c", *numbers)))
        store = Store(uri=task.store_uri, options=task.options)
        store.put(key, empty_shard((SHARD_PX // CHUNK_PX) ** 2))
        return
    with storage_errors("write", task.store_uri):
        open_written(task.store_uri, task.options, path, read_only=False)[place] = values
