"""The hot path reads the same as GDAL: every codec, layout and validity, in any window."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from quakestream.domain import Grid, Window
from quakestream.raster.cog import CogOpener
from quakestream.raster.cog.block_plan import Rect
from quakestream.raster.cog.blocks import BlockReader
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.source import CogSource
from quakestream.raster.cog.workers import Team
from quakestream.raster.tiles.placement import extent_on
from quakestream.storage.fetchers import open_fetcher
from tests.helpers.cog_case import OTHER_PLACES, RecordingFetcher, assert_near, hot
from tests.helpers.tiles_case import (
    GRID,
    HEIGHT,
    LOCAL,
    TRANSFORM,
    WIDTH,
    assert_same,
    gdal,
    luma_apart,
    scene_of,
    slant,
    texture,
    windows,
    write_cog,
    write_tiff,
)

EXACT: dict[str, dict[str, Any]] = {
    "plain": {},
    "deflate": {"compress": "deflate"},
    "deflate, predictor": {"compress": "deflate", "predictor": 2},
    "LZW": {"compress": "lzw"},
    "LZW, predictor": {"compress": "lzw", "predictor": 2},
    "zstd, predictor": {"compress": "zstd", "predictor": 2},
    "PackBits": {"compress": "packbits"},
    "LZMA": {"compress": "lzma"},
    "LERC": {"compress": "lerc"},
    "LERC in deflate": {"compress": "lerc_deflate"},
    "LERC in zstd": {"compress": "lerc_zstd", "max_z_error": 3},
    "WebP": {"compress": "webp"},
    "WebP, lossless": {"compress": "webp", "webp_lossless": True},
    "WebP, alpha": {"compress": "webp", "webp_lossless": True, "bands": 4, "alpha": "yes"},
    "BigTIFF": {"compress": "deflate", "bigtiff": "yes"},
    "bands apart": {"compress": "deflate", "interleave": "band"},
    "bands apart, predictor": {"compress": "lzw", "predictor": 2, "interleave": "band"},
    "bands apart, alpha": {"compress": "zstd", "interleave": "band", "bands": 4, "alpha": "yes"},
    "bands apart, nodata": {"compress": "zstd", "interleave": "band", "nodata": 255},
    "whole strips": {"compress": "deflate", "tiled": False, "blockysize": 70},
    "part strip": {"compress": "deflate", "tiled": False, "blockysize": 64},
    "one strip": {"compress": "lzw", "predictor": 2, "tiled": False, "blockysize": HEIGHT},
    "strips, bands apart": {"tiled": False, "blockysize": 9, "interleave": "band"},
    "narrow tiles": {"compress": "zstd", "predictor": 2, "blockxsize": 64, "blockysize": 192},
    "alpha": {"compress": "deflate", "bands": 4, "alpha": "yes"},
    "alpha, predictor": {"compress": "zstd", "predictor": 2, "bands": 4, "alpha": "yes"},
    "five bands": {"compress": "deflate", "predictor": 2, "bands": 5},
    "nodata 0": {"compress": "deflate", "nodata": 0},
    "nodata 255": {"compress": "lzw", "predictor": 2, "nodata": 255},
    "nodata, four bands": {"compress": "lzw", "bands": 4, "nodata": 0, "alpha": "unspecified"},
    "mask": {"compress": "deflate", "masked": True},
    "mask, predictor": {"compress": "zstd", "predictor": 2, "masked": True},
    "mask, strips": {"compress": "lzw", "masked": True, "tiled": False, "blockysize": 50},
    "mask, bands apart": {"compress": "lzw", "masked": True, "interleave": "band"},
}


@pytest.mark.parametrize("options", EXACT.values(), ids=EXACT)
def test_exact_codecs_read_as_gdal_reads_them(options: dict[str, Any], tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", **options))
    held = extent_on(scene, GRID)
    with CogOpener(threads=2) as opener, hot(scene, opener, GRID) as source, gdal(scene) as oracle:
        assert source.aligned
        for window in windows(held):
            assert_same(source.read(window), oracle.read(window))
        # the test looks at validity too
        assert "four" in str(options) or not oracle.read(held).valid_YX.all()


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "ycbcr"},
        {"photometric": "ycbcr", "jpeg_quality": 95, "tiled": False, "blockysize": 96},
        {"photometric": "rgb"},
        {"photometric": "ycbcr", "masked": True},
        {"photometric": "rgb", "bands": 4, "alpha": "yes"},
        {"photometric": "rgb", "interleave": "band"},
    ],
    ids=["chroma", "strips", "RGB", "mask", "alpha", "bands apart"],
)
def test_jpeg_differs_in_chroma_only(options: dict[str, Any], tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="jpeg", **options))
    held = extent_on(scene, GRID)
    with CogOpener() as opener, hot(scene, opener, GRID) as source, gdal(scene) as oracle:
        for window in windows(held):
            found, expected = source.read(window), oracle.read(window)
            if options["photometric"] == "rgb":
                assert_same(found, expected)
                continue
            apart_BYX = np.abs(found.counts_BYX.astype(int) - expected.counts_BYX)
            assert luma_apart(found, expected) < 0.3
            assert apart_BYX.mean() < 1.0
            assert apart_BYX.max() <= 40
            if options.get("masked"):  # the mask is its own image, and not JPEG
                np.testing.assert_array_equal(found.valid_YX, expected.valid_YX)


@pytest.mark.parametrize("validity", [{}, {"nodata": 7}, {"masked": True}], ids=str)
def test_blocks_that_are_not_in_the_file(validity: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    masked = validity.get("masked", False)
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 3, "dtype": "uint8"}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True}
    where = {"crs": "EPSG:32637", "transform": TRANSFORM, "compress": "deflate"}
    nodata = {} if masked else validity
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile, **blocks, **where, **nodata) as made,
    ):
        window = rasterio.windows.Window(256, 256, 256, 256)
        made.write(texture()[:, 256:512, 256:512], window=window)
        if masked:
            made.write_mask(slant()[256:512, 256:512], window=window)
    scene = scene_of(path)
    assert (make_layout(scene.href, LOCAL).levels[0].bytes_N == 0).sum() == 11
    with CogOpener() as opener, hot(scene, opener, GRID) as source, gdal(scene) as oracle:
        for window in windows(extent_on(scene, GRID)):
            assert_same(source.read(window), oracle.read(window))


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("uint16", {"compress": "deflate", "predictor": 2}),
        ("uint16", {"compress": "zstd", "predictor": 2, "interleave": "band"}),
        ("uint16", {"compress": "lzw", "predictor": 2, "endianness": "big"}),
        ("uint16", {"endianness": "big"}),
        ("uint16", {"compress": "lerc"}),
        ("int16", {"compress": "deflate", "predictor": 2}),
        ("uint32", {"compress": "zstd", "predictor": 2}),
        ("float32", {"compress": "deflate", "predictor": 3}),
        ("float32", {"compress": "lzw", "predictor": 3, "endianness": "big"}),
    ],
    ids=str,
)
def test_other_counts_than_eight_bits(dtype: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Samples of every dtype as they are stored."""
    path = tmp_path / "scene.tif"
    rng = np.random.default_rng(1)
    values_BYX = (texture() * 191.7 + rng.normal(0, 9, (3, HEIGHT, WIDTH))).clip(0, 32000)
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 3, "dtype": dtype}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 128}
    with rasterio.open(path, "w", **profile, **blocks, crs="EPSG:32637", **options) as made:
        made.write(values_BYX.astype(dtype))
    with rasterio.open(path) as dataset:
        layout = make_layout(str(path), LOCAL)
        reader = BlockReader(layout, open_fetcher(str(path), LOCAL), name="", team=Team())
        for rect in (
            Rect(top=0, left=0, height=HEIGHT, width=WIDTH),
            Rect(top=130, left=300, height=260, width=599),
        ):
            window = rasterio.windows.Window(rect.left, rect.top, rect.width, rect.height)
            found_SYX = reader.samples(0, rect)
            assert found_SYX.dtype == dtype
            np.testing.assert_array_equal(found_SYX, dataset.read(window=window))


def test_many_windows_at_once_and_a_small_cache_change_nothing(tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="zstd", predictor=2))
    held = extent_on(scene, GRID)
    several = windows(held) * 3
    with gdal(scene) as oracle:
        expected = [oracle.read(window) for window in several]
    for threads, cache_bytes in ((1, 0), (3, 400_000), (2, 64 << 20)):
        with (
            CogOpener(threads=threads, cache_bytes=cache_bytes) as opener,
            hot(scene, opener, GRID) as source,
            ThreadPoolExecutor(4) as pool,
        ):
            for found, wanted in zip(pool.map(source.read, several), expected, strict=True):
                assert_same(found, wanted)
            assert opener.held_bytes <= cache_bytes


@pytest.mark.parametrize("place", OTHER_PLACES.values(), ids=OTHER_PLACES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nodata": 0},
        {"masked": True},
        {"bands": 4, "alpha": "yes"},
        {"masked": True, "interleave": "band"},
    ],
    ids=["black", "nodata", "mask", "alpha", "mask, bands apart"],
)
def test_a_resampled_scene_is_near_what_gdal_makes_of_it(
    options: dict[str, Any], place: Grid, tmp_path: Path
) -> None:
    """On a hard texture, counts are within 2 on average, and validity differs at edges only."""
    path = tmp_path / "scene.tif"
    scene = scene_of(write_tiff(path, compress="deflate", **options))
    held = extent_on(scene, place)
    with CogOpener() as opener, hot(scene, opener, place) as source, gdal(scene, place) as oracle:
        assert not source.aligned
        found, expected = source.read(held), oracle.read(held)
    assert_near(found, expected)


def test_a_finer_scene_is_averaged(tmp_path: Path) -> None:
    fine_BYX = np.zeros((3, HEIGHT, WIDTH), np.uint8)
    fine_BYX[:, ::2, ::2], fine_BYX[:, 1::2, 1::2] = 100, 60
    fine_BYX[:, ::2, 1::2], fine_BYX[:, 1::2, ::2] = 20, 20
    path = tmp_path / "fine.tif"
    transform = Affine(0.25, 0, 316504.0, 0, -0.25, 4161356.5)
    write_tiff(path, transform=transform)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(fine_BYX)
    scene = scene_of(path)
    window = Window(
        row=GRID.window(316510, 0, 316511, 4161350).row, col=633020, height=60, width=80
    )
    with CogOpener() as opener, hot(scene, opener, GRID) as source:
        assert (source.read(window).counts_BYX == 50).all()


def test_overviews_are_read_where_the_grid_is_coarser(tmp_path: Path) -> None:
    scene = scene_of(write_cog(tmp_path / "scene.tif", COMPRESS="DEFLATE", masked=True))
    layout = make_layout(scene.href, LOCAL)
    assert [level.width for level in layout.levels] == [900, 450, 225]
    assert [mask.width for mask in layout.masks] == [900, 450, 225]
    fetched = []
    for gsd_m in (0.5, 1.0, 2.0):
        grid = Grid(epsg=32637, gsd_m=gsd_m)
        held = extent_on(scene, grid)
        recording = RecordingFetcher(open_fetcher(scene.href, LOCAL))
        source = CogSource(scene, grid, layout, opens=lambda *_, recording=recording: recording)
        with source as opened, gdal(scene, grid) as oracle:
            found, expected = opened.read(held), oracle.read(held)
        fetched.append(recording.requests)
        apart_BYX = np.abs(found.counts_BYX.astype(int) - expected.counts_BYX)
        assert apart_BYX[:, found.valid_YX & expected.valid_YX].mean() < 1.5
    assert fetched[0] > fetched[1] > fetched[2]


def test_a_scene_far_finer_than_the_grid_without_overviews_is_gdals(tmp_path: Path) -> None:
    scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate"))
    with CogOpener() as opener:
        source = opener(scene, Grid(epsg=32637, gsd_m=4.0))
        assert not isinstance(source, CogSource)
        assert "8.0 times finer than the grid" in opener.refusals[scene.href]
