"""Who reads blocks of a scene, one way each, for `benchmarks.read`.

Every reader is opened outside the clock, as a worker opens a scene once, and afresh for
every round, so that no block of the last round is left in a cache.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import rasterio
from rasterio.windows import Window as DatasetWindow

from benchmarks.stores import Served
from quakestream.domain import Grid, Scene, Window
from quakestream.raster.cog.decode import decode
from quakestream.raster.cog.layout import CogLayout
from quakestream.raster.cog.scratch import offset_empty
from quakestream.raster.cog.source import CogSource
from quakestream.raster.datasets import gdal_session
from quakestream.storage import gdal_path, protocol_of

AHEAD = 4
"""Windows per thread whose bytes `hot` asks for beforehand, half of them at once: as a run does."""
Scan = Callable[[], None]
"""Reads all windows of a case once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """What is to be read, and with how many threads."""

    scene: Scene
    grid: Grid
    layout: CogLayout
    served: Served
    windows: tuple[Window, ...]
    """Pixels of the scene, on its blocks, in the order they are read."""
    threads: int

    @property
    def mb(self) -> float:
        """Pixels of all windows, three bytes each."""
        return sum(w.height * w.width for w in self.windows) * 3 / 1e6

    def on_grid(self, window: Window) -> Window:
        row, col = _origin(self)
        return Window(
            row=window.row + row, col=window.col + col, height=window.height, width=window.width
        )


class NotHereError(Exception):
    """A reader that cannot be tried here; the message says why."""


@contextmanager
def hot(case: Case) -> Iterator[Scan]:
    """This project's: a window in each thread, and the bytes of the next on their way."""
    wanted = [case.on_grid(window) for window in case.windows]
    step = AHEAD * case.threads // 2
    with CogSource(case.scene, case.grid, case.layout, case.served.options) as source:

        def one(n: int) -> None:
            if n % step == 0:
                source.prefetch(*wanted[n + 1 : n + 1 + 2 * step])
            source.read(wanted[n])

        with _pool(case.threads) as each:
            yield lambda: each(one, range(len(wanted)))


@contextmanager
def decoder(case: Case) -> Iterator[Scan]:
    """The limit: tifffile and imagecodecs on bytes in memory, nothing placed anywhere."""
    import tifffile

    blocks = _blocks(case)
    with tifffile.TiffFile(case.layout.href) as tiff:
        page = tiff.pages.first
        copies = page.compression == 1  # else nothing at all would be done

        def one(n: int) -> None:
            made, *_ = page.decode(blocks[n], n, jpegtables=page.jpegtables)
            if copies and made is not None:
                made.copy()

        with _pool(case.threads) as each:
            yield lambda: each(one, range(len(blocks)))


@contextmanager
def decoder_own(case: Case) -> Iterator[Scan]:
    """The same with the hot path's own decoding, which takes libtiff where that is faster."""
    level, blocks = case.layout.levels[0], _blocks(case)
    shape, dtype = level.packed_shape(0), level.coding.dtype

    def one(block: bytes) -> None:
        made = decode(level, block, offset_empty(shape, dtype))
        if level.coding.codec == "none":
            made.copy()

    with _pool(case.threads) as each:
        yield lambda: each(one, blocks)


def _blocks(case: Case) -> list[bytes]:
    """The encoded blocks of a local file."""
    if protocol_of(case.served.uri) != "file":
        raise NotHereError("bytes are in memory: it has no source")
    level = case.layout.levels[0]
    with open(case.layout.href, "rb") as file:
        data = file.read()
    places = zip(level.offset_N.tolist(), level.bytes_N.tolist(), strict=True)
    return [data[start : start + size] for start, size in places]


@contextmanager
def rasterio_windows(case: Case) -> Iterator[Scan]:
    """What a user of rasterio writes: `dataset.read(window=)`, one dataset per thread."""
    options = case.served.options
    parts = [case.windows[n :: case.threads] for n in range(case.threads)]
    with ExitStack() as stack, _pool(case.threads) as each:
        with gdal_session(options):
            path = gdal_path(case.scene.href)
            opened = [stack.enter_context(rasterio.open(path, sharing=False)) for _ in parts]

        def one(n: int) -> None:
            with gdal_session(options):
                for w in parts[n]:
                    opened[n].read(window=DatasetWindow(w.col, w.row, w.width, w.height))

        yield lambda: each(one, range(case.threads))


@contextmanager
def rioxarray_dask(case: Case) -> Iterator[Scan]:
    """rioxarray with dask chunks of a window's size, threaded scheduler."""
    import dask as _dask
    import rioxarray

    dask: Any = _dask  # it does not declare what it exports

    side = case.windows[0].height
    with gdal_session(case.served.options):
        chunks = {"band": -1, "x": side, "y": side}
        opened: Any = rioxarray.open_rasterio(gdal_path(case.scene.href), chunks=chunks, lock=False)
        blocks = opened.data.to_delayed().ravel()

        def scan() -> None:
            # one chunk after the other is let go, as a stream would
            with dask.config.set(scheduler="threads", num_workers=case.threads):
                dask.compute([dask.delayed(_touched)(block) for block in blocks])

        yield scan
        opened.close()


def _touched(block: Any) -> int:
    return int(block[0, 0, 0])


@contextmanager
def async_geotiff(case: Case) -> Iterator[Scan]:
    """async-geotiff over obstore; as many windows at once as threads, decoded by its own pool."""
    try:
        from async_geotiff import GeoTIFF
        from async_geotiff import Window as TheirWindow
    except ImportError as error:
        raise NotHereError(f"it is not installed ({error})") from error
    from obstore.store import LocalStore

    from quakestream.storage.object_stores import object_store

    href = case.scene.href
    found: tuple[Any, str] | None
    if protocol_of(case.served.uri) == "file":
        found = LocalStore(os.path.dirname(href)), os.path.basename(href)
    else:
        found = object_store(href, case.served.options)
    if found is None:
        raise NotHereError("obstore does not know the place")

    async def scan() -> None:
        tiff = await GeoTIFF.open(found[1], store=found[0])
        free = asyncio.Semaphore(case.threads)

        async def one(w: Window) -> None:
            async with free:
                await tiff.read(
                    window=TheirWindow(col_off=w.col, row_off=w.row, width=w.width, height=w.height)
                )

        await asyncio.gather(*(one(w) for w in case.windows))

    yield lambda: asyncio.run(scan())


READERS: dict[str, Any] = {
    "decoder": decoder,
    "decoder_own": decoder_own,
    "hot": hot,
    "rasterio": rasterio_windows,
    "rioxarray_dask": rioxarray_dask,
    "async_geotiff": async_geotiff,
}


@contextmanager
def _pool(threads: int) -> Iterator[Callable[[Callable[[Any], Any], Any], None]]:
    """Does something to each item, in so many threads; results are let go."""

    def alone(do: Callable[[Any], Any], items: Any) -> None:
        for item in items:
            do(item)

    if threads == 1:
        yield alone
        return
    with ThreadPoolExecutor(threads) as pool:

        def together(do: Callable[[Any], Any], items: Any) -> None:
            for answer in [pool.submit(_done, do, item) for item in items]:
                answer.result()

        yield together


def _done(do: Callable[[Any], Any], item: Any) -> None:
    do(item)


def _origin(case: Case) -> tuple[int, int]:
    col, row = ~case.grid.transform @ (case.layout.transform.c, case.layout.transform.f)
    return round(row), round(col)
