"""How fast pixels come: the hot path against its decoder alone, rasterio and others.

    python -m benchmarks.read [--quick] [--json] [--save]

One real scene repeated to a square, once per codec, in blocks of 512 × 512; read in windows
of 2 × 2 blocks in random order from a file, over HTTP (nginx) and from S3 (Ceph radosgw).
MB/s are of pixels (three bytes each). Readers take turns, round by round; a row is the
median of the rounds, a ratio the median of the rounds' own ratios, which a noisy machine
moves less. Only `hot` tells valid pixels from others, too.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform_bounds
from shapely.geometry import box

from benchmarks.common import data_dir, main
from benchmarks.readers import AHEAD, READERS, Case, NotHereError
from benchmarks.stores import Served, UnavailableError, bucket, web
from quakestream.domain import Grid, Scene, Window
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.layout import CogLayout
from quakestream.raster.cog.positions import POSITION_BOUND_PX, Positions
from quakestream.raster.cog.source import CogSource
from quakestream.raster.cog.workers import Team
from quakestream.raster.source import RasterioSource
from quakestream.storage import StorageOptions
from quakestream.storage.fetchers import open_fetcher
from quakestream.storage.ranges import Buffer, Fetcher

CODECS: dict[str, dict[str, Any]] = {
    "jpeg": {"compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 90},
    "deflate": {"compress": "deflate", "predictor": 2},
    "zstd": {"compress": "zstd", "predictor": 2},
    "lzw": {"compress": "lzw", "predictor": 2},
    "webp": {"compress": "webp", "webp_level": 90},
    "lerc": {"compress": "lerc"},
    "none": {},
}
SOURCES: dict[str, Callable[[Path], Any]] = {"http": web, "s3": bucket}
SCENE = "turkiye-2023-scenes/imagery/adiyaman3_post_20230212_50cm.tif"
GRID = Grid(epsg=32637, gsd_m=0.5)
TRANSFORM = Affine(0.5, 0, 433_845.0, 0, -0.5, 4_180_077.5)
BLOCK_PX, WINDOW_PX, HALO_PX = 512, 1024, 32
CACHE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is read, and how often."""

    side_px: int
    rounds: int
    """From files."""
    rounds_remote: int
    """Over HTTP and from S3, and of what is warped."""
    codecs: tuple[str, ...]


FULL = Size(side_px=5120, rounds=5, rounds_remote=3, codecs=tuple(CODECS))
QUICK = Size(side_px=2048, rounds=2, rounds_remote=2, codecs=tuple(CODECS))


def pixels(side_px: int) -> tuple[NDArray[np.uint8], str]:
    """A real scene repeated to a square, or a texture where there is none; and which it is."""
    path = data_dir() / SCENE
    if path.is_file():
        with rasterio.open(path) as dataset:
            tile_BYX = dataset.read()
        name = path.name
    else:
        row, col = np.mgrid[:2048, :2048]
        made = 120 + 60 * np.sin(row / 31) * np.cos(col / 47) + 40.0 * ((row // 40) % 2)
        noise = np.random.default_rng(0).normal(0, 6, (3, 2048, 2048))
        tile_BYX, name = (made + noise).clip(0, 255).astype(np.uint8), "texture"
    times = [-(-side_px // n) for n in tile_BYX.shape[1:]]
    return np.tile(tile_BYX, (1, *times))[:, :side_px, :side_px], name


def write_scene(
    path: Path, pixels_BYX: NDArray[np.uint8], creation: dict[str, Any], degrees: bool = False
) -> None:
    """A tiled GeoTIFF; with `degrees` in EPSG:4326 over about the same ground."""
    _, height, width = pixels_BYX.shape
    transform, crs = TRANSFORM, "EPSG:32637"
    if degrees:
        bounds = rasterio.transform.array_bounds(height, width, TRANSFORM)
        west, south, _, north = transform_bounds(crs, "EPSG:4326", *bounds)
        step = (north - south) / height
        transform, crs = Affine(step, 0, west, 0, -step, north), "EPSG:4326"
    profile = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8"}
    blocks = {"tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "photometric": "rgb"}
    options = {**profile, **blocks, "num_threads": "all_cpus", **creation}
    with rasterio.open(path, "w", crs=crs, transform=transform, **options) as made:
        made.write(pixels_BYX)


def scene_at(href: str) -> Scene:
    now = datetime.now(UTC)
    return Scene(id="bench", href=href, datetime=now, outline=box(0, 0, 1, 1), gsd_m=0.5)


def squares(side_px: int) -> tuple[Window, ...]:
    """Windows on the blocks, in random order."""
    starts = range(0, side_px, WINDOW_PX)
    made = [Window(row=r, col=c, height=WINDOW_PX, width=WINDOW_PX) for r in starts for c in starts]
    order = np.random.default_rng(7).permutation(len(made))
    return tuple(made[n] for n in order)


def measured(cases: dict[str, Case], rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """MB/s of each reader in each round, taking turns; and why some could not be tried."""
    rates: dict[str, list[float]] = {}
    absent: dict[str, str] = {}
    for n in range(rounds + 1):
        for name, case in cases.items():
            if name in absent:
                continue
            try:
                with READERS[name](case) as scan:
                    began = time.perf_counter()
                    scan()
                    took_s = time.perf_counter() - began
            except NotHereError as error:
                absent[name] = str(error)
                continue
            if n > 0:  # the first round loads libraries and fills the page cache
                rates.setdefault(name, []).append(case.mb / took_s)
    return rates, absent


def ratio(rates: dict[str, list[float]], one: str, other: str) -> float | None:
    """Median over the rounds of one reader's rate over another's in the same round."""
    if one not in rates or other not in rates:
        return None
    pairs = zip(rates[one], rates[other], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 3)


@contextmanager
def places(folder: Path) -> Iterator[tuple[dict[str, Served], dict[str, str]]]:
    """Where the scenes can be read from, and why not from elsewhere."""
    with ExitStack() as stack:
        found, absent = {"file": Served(uri=str(folder))}, {}
        for name, serve in SOURCES.items():
            try:
                found[name] = stack.enter_context(serve(folder))
            except UnavailableError as error:
                absent[name] = str(error)
        yield found, absent


def blocks_read(folder: Path, size: Size) -> dict[str, Any]:
    """Rows and ratios of every codec, source and number of threads."""
    rows: list[dict[str, Any]] = []
    ratios: list[dict[str, Any]] = []
    with places(folder) as (served, skipped):
        for codec in size.codecs:
            layout = make_layout(str(folder / f"{codec}.tif"), StorageOptions())
            for source, place in served.items():
                for threads in (1, 2):
                    case = _case(layout, f"{codec}.tif", place, threads, size)
                    rounds = size.rounds if source == "file" else size.rounds_remote
                    rates, absent = measured(dict.fromkeys(READERS, case), rounds)
                    about = {"codec": codec, "source": source, "threads": threads}
                    rows += [
                        {"reader": name, **about, "mb_per_s": round(statistics.median(found), 1)}
                        for name, found in rates.items()
                    ]
                    others = [name for name in READERS if name != "hot"]
                    named = {f"hot_over_{other}": ratio(rates, "hot", other) for other in others}
                    ratios.append(about | {k: v for k, v in named.items() if v is not None})
                    if source == "file":
                        skipped |= absent
    return {"rows": rows, "ratios": ratios, "skipped": skipped}


def _case(layout: CogLayout, name: str, place: Served, threads: int, size: Size) -> Case:
    href = f"{place.uri}/{name}"
    return Case(
        scene=scene_at(href),
        grid=GRID,
        layout=replace(layout, href=href),
        served=place,
        windows=squares(size.side_px),
        threads=threads,
    )


class Counting:
    """A fetcher that counts what is asked of another."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher, self.policy = fetcher, fetcher.policy
        self.bytes = self.requests = 0

    def fetch(self, start: int, length: int) -> Buffer:
        self.bytes += length
        self.requests += 1
        return self._fetcher.fetch(start, length)

    def size(self) -> int:
        return self._fetcher.size()

    def close(self) -> None:
        self._fetcher.close()


def cells_read(folder: Path, size: Size) -> dict[str, Any]:
    """As a run reads: cells with halos, off the blocks, in rows, through one cache of blocks.

    One thread; the next cells' bytes are asked for as a run does. GDAL keeps blocks, too.
    """
    found: dict[str, Any] = {}
    with places(folder) as (served, _):
        for codec in ("jpeg", "zstd"):
            layout = make_layout(str(folder / f"{codec}.tif"), StorageOptions())
            for source, place in served.items():
                remote = replace(layout, href=f"{place.uri}/{codec}.tif")
                rates = _cell_rates(remote, place, size)
                if source != "file":
                    found[f"{codec}_{source}"] = rates
                    continue
                web_place = served.get("http")
                counts = _cell_bytes(layout, f"{codec}.tif", web_place, size) if web_place else {}
                found[codec] = counts | rates
    return found


def _cell_bytes(layout: CogLayout, name: str, place: Served, size: Size) -> dict[str, Any]:
    """What is asked of a store for all cells, each by itself."""
    href = f"{place.uri}/{name}"
    counting = Counting(open_fetcher(href, place.options))
    remote = replace(layout, href=href)
    with (
        Team(cache_bytes=CACHE_BYTES) as team,
        CogSource(scene_at(href), GRID, remote, team=team, opens=lambda *_: counting) as source,
    ):
        for cell in _cells(size):
            source.read(cell)
    needed = int(layout.levels[0].bytes_N.sum())
    return {
        "fetched_over_needed": round(counting.bytes / needed, 4),
        "requests": counting.requests,
        "blocks": len(layout.levels[0].offset_N),
    }


def _cell_rates(layout: CogLayout, place: Served, size: Size) -> dict[str, Any]:
    scene, cells = scene_at(layout.href), _cells(size)
    mb = size.side_px**2 * 3 / 1e6  # halos not counted
    rates: dict[str, list[float]] = {"hot": [], "rasterio": []}
    for n in range(size.rounds + 1):
        with (
            Team(cache_bytes=CACHE_BYTES) as team,
            CogSource(scene, GRID, layout, place.options, team=team) as ours,
            RasterioSource(scene, GRID, place.options) as theirs,
        ):
            began = time.perf_counter()
            for at, cell in enumerate(cells):
                if at % (AHEAD // 2) == 0:
                    ours.prefetch(*cells[at + 1 : at + 1 + AHEAD])
                ours.read(cell)
            between = time.perf_counter()
            for cell in cells:
                theirs.read(cell)
            ended = time.perf_counter()
        if n > 0:  # the first round fills the page cache
            rates["hot"].append(mb / (between - began))
            rates["rasterio"].append(mb / (ended - between))
    return {
        "hot_mb_per_s": round(statistics.median(rates["hot"]), 1),
        "rasterio_mb_per_s": round(statistics.median(rates["rasterio"]), 1),
        "ratio": ratio(rates, "hot", "rasterio"),
    }


def _cells(size: Size) -> list[Window]:
    """Cells with halos that cover a scene, in rows."""
    col, row = (round(v) for v in ~GRID.transform @ (TRANSFORM.c, TRANSFORM.f))
    off = 100  # a lattice fixed to the grid does not know where a scene's blocks begin
    return [
        Window(row=top, col=left, height=WINDOW_PX, width=WINDOW_PX).grown(HALO_PX)
        for top in range(row - off, row + size.side_px, WINDOW_PX)
        for left in range(col - off, col + size.side_px, WINDOW_PX)
    ]


def warped(folder: Path, size: Size) -> dict[str, Any]:
    """A scene in degrees on a UTM grid: cv2 at positions of affine patches against WarpedVRT."""
    found: dict[str, Any] = {}
    for codec in ("jpeg", "deflate"):
        path = str(folder / "degrees" / f"{codec}.tif")
        layout = make_layout(path, StorageOptions())
        windows = _inner_windows(layout)
        for threads in (1, 2):
            rates: dict[str, list[float]] = {"hot": [], "rasterio": []}
            for n in range(size.rounds_remote + 1):
                for name in rates:
                    rate = _warp_rate(name, path, layout, windows, threads)
                    rates[name] += [rate] if n else []
            found[f"{codec}_{threads}"] = {
                "hot_mb_per_s": round(statistics.median(rates["hot"]), 1),
                "warpedvrt_mb_per_s": round(statistics.median(rates["rasterio"]), 1),
                "ratio": ratio(rates, "hot", "rasterio"),
            }
        found["position_error_px"] = round(_position_error_px(layout, windows), 4)
    return found | {"position_bound_px": POSITION_BOUND_PX}


def _inner_windows(layout: CogLayout) -> list[Window]:
    """Cells that lie inside a scene, whatever its CRS."""
    level = layout.levels[0]
    bounds = rasterio.transform.array_bounds(level.height, level.width, layout.transform)
    west, south, east, north = transform_bounds("EPSG:4326", f"EPSG:{GRID.epsg}", *bounds)
    margin_m = 0.06 * (east - west)
    area = GRID.window(west + margin_m, south + margin_m, east - margin_m, north - margin_m)
    side = min(WINDOW_PX, area.height, area.width)
    return [
        Window(row=row, col=col, height=side, width=side)
        for row in range(area.row, area.row_end - side + 1, side)
        for col in range(area.col, area.col_end - side + 1, side)
    ]


def _warp_rate(
    name: str, path: str, layout: CogLayout, windows: list[Window], threads: int
) -> float:
    """MB/s of one reader over all windows; each thread has a source of its own."""
    from concurrent.futures import ThreadPoolExecutor

    with (
        ExitStack() as stack,
        ThreadPoolExecutor(threads) as pool,
        Team(cache_bytes=CACHE_BYTES) as team,
    ):
        opens: dict[str, Callable[[], Any]] = {
            "hot": partial(CogSource, scene_at(path), GRID, layout, team=team),
            "rasterio": partial(RasterioSource, scene_at(path), GRID),
        }
        # neighbours to the same thread, as cells are handed out
        parts = np.array_split(np.arange(len(windows)), threads)
        sources = [stack.enter_context(opens[name]()) for _ in parts]

        def one(n: int) -> None:
            for at in parts[n]:
                sources[n].read(windows[at])

        began = time.perf_counter()
        list(pool.map(one, range(threads)))
        took_s = time.perf_counter() - began
    return sum(w.height * w.width for w in windows) * 3 / 1e6 / took_s


def _position_error_px(layout: CogLayout, windows: list[Window]) -> float:
    """The furthest any pixel is read from where PROJ says, grid pixels."""
    level = layout.levels[0]
    positions = Positions(GRID, layout.crs_wkt, layout.transform, (level.height, level.width))
    worst = 0.0
    for patch in positions.parts(windows[0]) + positions.parts(windows[-1]):
        part = patch.window
        top, left, *_ = positions.source_bounds(patch, (1.0, 1.0))
        u, v = np.empty(part.shape, np.float32), np.empty(part.shape, np.float32)
        positions.sample_positions(patch, (1.0, 1.0), 1, (top, left), (u, v))
        cols, rows = np.meshgrid(
            np.arange(part.col, part.col_end) + 0.5, np.arange(part.row, part.row_end) + 0.5
        )
        exact_u, exact_v = positions.scene_pixels(cols, rows)
        apart = np.hypot(u + (left + 0.5 - exact_u), v + (top + 0.5 - exact_v))
        worst = max(worst, float(apart.max()) / positions.ratio)
    return worst


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    import os

    import cv2

    size = QUICK if quick else FULL
    cv2.setNumThreads(1)  # threads are ours, or the ratios compare something else
    # GDAL would find the last round's bytes in memory
    os.environ["CPL_VSIL_CURL_NON_CACHED"] = "/vsicurl/http://127.0.0.1:/vsis3/bench"
    with tempfile.TemporaryDirectory(prefix="qs-read-") as place:
        folder = Path(place)
        (folder / "degrees").mkdir()
        folder.chmod(0o755)  # nginx's worker is another user
        pixels_BYX, scene = pixels(size.side_px)
        for codec in size.codecs:
            write_scene(folder / f"{codec}.tif", pixels_BYX, CODECS[codec])
        for codec in ("jpeg", "deflate"):
            write_scene(folder / "degrees" / f"{codec}.tif", pixels_BYX, CODECS[codec], True)
        metrics = blocks_read(folder, size)
        cells = cells_read(folder, size)
        metrics["cells"] = cells
        metrics["fetched_over_needed"] = max(
            (c["fetched_over_needed"] for c in cells.values() if "fetched_over_needed" in c),
            default=None,
        )
        metrics["warped"] = warped(folder, size)
    bundled = Path(rasterio.__file__).parent.parent.glob("rasterio.libs/libjpeg*")
    settings = {
        "scene": scene,
        # 62 and 8 are libjpeg-turbo's; 9 is libjpeg's own, without vector instructions
        "rasterio_libjpeg": [path.name for path in bundled] or "the system's",
        "side_px": size.side_px,
        "block_px": BLOCK_PX,
        "window_px": WINDOW_PX,
        "rounds": size.rounds,
        "rounds_remote": size.rounds_remote,
    }
    return settings, metrics


if __name__ == "__main__":
    main("read", run)
