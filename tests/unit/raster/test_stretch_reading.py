"""Both readers read scenes of 16 bits alike: by one table, with validity of the stored counts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from quakestream.domain import Grid, Window
from quakestream.raster.cog import CogOpener, places
from quakestream.raster.source import Pixels
from quakestream.raster.tiles.placement import extent_on, own_window, raster_of
from tests.helpers.cog_case import OTHER_PLACES, assert_near, hot
from tests.helpers.stretched_case import write_wide
from tests.helpers.tiles_case import (
    GRID,
    HEIGHT,
    WIDTH,
    assert_same,
    gdal,
    scene_of,
    slant,
    windows,
)

EXACT: dict[str, dict[str, Any]] = {
    "plain": {},
    "big-endian": {"endianness": "big"},
    "deflate": {"compress": "deflate"},
    "deflate, predictor": {"compress": "deflate", "predictor": 2},
    "deflate, predictor, big-endian": {
        "compress": "deflate",
        "predictor": 2,
        "endianness": "big",
        "nodata": 0,
    },
    "LZW": {"compress": "lzw"},
    "LZW, predictor": {"compress": "lzw", "predictor": 2},
    "zstd, predictor": {"compress": "zstd", "predictor": 2},
    "LERC": {"compress": "lerc"},
    "LERC in zstd": {"compress": "lerc_zstd", "max_z_error": 9},
    "bands apart": {"compress": "deflate", "interleave": "band"},
    "bands apart, predictor": {"compress": "zstd", "predictor": 2, "interleave": "band"},
    "bands apart, alpha": {"compress": "zstd", "interleave": "band", "bands": 4, "alpha": "yes"},
    "bands apart, nodata": {"interleave": "band", "nodata": 0, "fill": 65535},
    "bands apart, mask": {"compress": "lzw", "masked": True, "interleave": "band"},
    "part strip": {"compress": "deflate", "tiled": False, "blockysize": 64},
    "nodata 0": {"compress": "deflate", "nodata": 0},
    "nodata 65535": {"compress": "lzw", "predictor": 2, "nodata": 0, "fill": 65535},
    "nodata within the counts": {"compress": "zstd", "nodata": 0, "fill": 1201},
    "four bands, nodata": {"compress": "lzw", "bands": 4, "nodata": 0, "alpha": "unspecified"},
    "alpha": {"compress": "deflate", "predictor": 2, "bands": 4, "alpha": "yes"},
    "mask": {"compress": "deflate", "masked": True},
    "mask, overviews": {"compress": "zstd", "predictor": 2, "masked": True, "overviews": (2, 4)},
    "five bands": {"compress": "deflate", "predictor": 2, "bands": 5},
}
RESAMPLED: dict[str, dict[str, Any]] = {
    "black": {},
    "nodata": {"nodata": 0, "fill": 65535},
    "mask": {"masked": True},
    "alpha": {"bands": 4, "alpha": "yes"},
    "mask, overviews": {"masked": True, "overviews": (2, 4)},
    "mask, bands apart": {"masked": True, "interleave": "band"},
}


@pytest.mark.parametrize("options", EXACT.values(), ids=EXACT)
def test_whole_pixels_read_as_gdal_reads_them(options: dict[str, Any], tmp_path: Path) -> None:
    scene = scene_of(write_wide(tmp_path / "scene.tif", **options))
    held = extent_on(scene, GRID)
    with CogOpener(threads=2) as opener, hot(scene, opener, GRID) as source, gdal(scene) as oracle:
        assert source.aligned
        for window in windows(held):
            assert_same(source.read(window), oracle.read(window))


@pytest.mark.parametrize("name", ["deflate", "nodata 65535", "alpha", "mask", "bands apart, mask"])
def test_whole_pixels_are_the_files_own_by_the_table(name: str, tmp_path: Path) -> None:
    """The oracle is numpy on the file's counts, so that the readers cannot share a mistake."""
    path = write_wide(tmp_path / "scene.tif", **EXACT[name])
    scene = scene_of(path)
    assert scene.stretch is not None
    with rasterio.open(path) as dataset:
        stored_BYX = dataset.read([1, 2, 3]).astype(np.int64)
        valid_YX = dataset.dataset_mask() > 0
    if name == "deflate":
        valid_YX = stored_BYX.any(axis=0)
    low_B = np.array(scene.stretch.low_B)[:, None, None]
    line_BYX = np.floor(32 + (stored_BYX - low_B) * 200 / scene.stretch.span + 0.5).clip(1, 254)
    window = own_window(raster_of(scene), GRID)
    with CogOpener() as opener, hot(scene, opener, GRID) as source:
        found = source.read(window)
    np.testing.assert_array_equal(found.valid_YX, valid_YX)
    assert 0.5 < valid_YX.mean() < 1
    np.testing.assert_array_equal(found.counts_BYX[:, valid_YX], line_BYX[:, valid_YX])
    assert found.counts_BYX[:, valid_YX].min() >= 1
    if name != "alpha" and "mask" not in name:
        assert not found.counts_BYX[:, ~valid_YX].any()


@pytest.mark.parametrize("place", OTHER_PLACES.values(), ids=OTHER_PLACES)
@pytest.mark.parametrize("options", RESAMPLED.values(), ids=RESAMPLED)
def test_a_resampled_scene_is_near_what_gdal_makes_of_it(
    options: dict[str, Any], place: Grid, tmp_path: Path
) -> None:
    """The bounds of 8-bit scenes hold, although GDAL stretches after resampling."""
    path = tmp_path / "scene.tif"
    scene = scene_of(write_wide(path, compress="deflate", **options))
    held = extent_on(scene, place)
    with CogOpener() as opener, hot(scene, opener, place) as source, gdal(scene, place) as oracle:
        assert not source.aligned
        found, expected = source.read(held), oracle.read(held)
        _same_in_parts(source.read, held, found)
    assert_near(found, expected)


def _same_in_parts(read: Any, held: Window, whole: Pixels) -> None:
    """A pixel is the same in any window."""
    for top, left in ((-3, 5), (40, 61), (97, 120)):
        part = Window(row=held.row + top, col=held.col + left, height=77, width=131)
        found, inside = read(part), part.shared(held)
        rows, cols = inside.slices_in(part)
        there = inside.slices_in(held)
        np.testing.assert_array_equal(
            found.counts_BYX[:, rows, cols], whole.counts_BYX[:, there[0], there[1]]
        )
        np.testing.assert_array_equal(found.valid_YX[rows, cols], whole.valid_YX[there])


@pytest.mark.parametrize(("validity", "fill"), [("nodata", 65535), ("nodata", 3), ("mask", 0)])
def test_blocks_that_are_not_in_the_file(validity: str, fill: int, tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 3, "dtype": "uint16"}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "sparse_ok": True}
    where = {"crs": "EPSG:32637", "transform": rasterio.Affine(0.5, 0, 316504, 0, -0.5, 4161356)}
    nodata = {"nodata": fill} if validity == "nodata" else {}
    rng = np.random.default_rng(3)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile, **blocks, **where, **nodata) as made,
    ):
        window = rasterio.windows.Window(256, 256, 256, 256)
        made.write(rng.integers(100, 4000, (3, 256, 256)).astype(np.uint16), window=window)
        if validity == "mask":
            made.write_mask(slant()[256:512, 256:512], window=window)
    scene = scene_of(path)
    with CogOpener() as opener, hot(scene, opener, GRID) as source, gdal(scene) as oracle:
        for window in windows(extent_on(scene, GRID)):
            assert_same(source.read(window), oracle.read(window))


def test_packed_counts_are_read_by_gdal_and_the_same(tmp_path: Path) -> None:
    """The hot path leaves samples of twelve bits to GDAL, which unpacks them."""
    plain = scene_of(write_wide(tmp_path / "plain.tif", masked=True))
    packed = scene_of(write_wide(tmp_path / "packed.tif", masked=True, nbits=12))
    assert packed.stretch == plain.stretch
    window = extent_on(plain, GRID)
    with CogOpener() as opener, hot(plain, opener, GRID) as source:
        expected = source.read(window)
        with opener(packed, GRID) as other:
            assert_same(other.read(window), expected)
        assert "12-bit" in opener.refusals[packed.href]


@pytest.mark.parametrize("samples", [1, 3, 4, 6])
@pytest.mark.parametrize("opencv", [True, False])
def test_both_ways_of_looking_up_agree(
    samples: int, opencv: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV before version 5 cannot look up counts of 16 bits."""
    monkeypatch.setattr(places, "HAS_16_BIT_LUT", opencv and places.HAS_16_BIT_LUT)
    rng = np.random.default_rng(samples)
    block_YXS = rng.integers(0, 65536, (300, 257, samples)).astype(np.uint16)
    tables_VS = rng.integers(0, 256, (65536, samples)).astype(np.uint8)
    for part_YXS in (block_YXS, block_YXS[7:201, 3:90], block_YXS.astype(">u2")):
        expected_YXS = np.stack(
            [tables_VS[:, s][part_YXS[..., s]] for s in range(samples)], axis=-1
        )
        found_YXS = places.look_up(part_YXS, tables_VS)
        np.testing.assert_array_equal(found_YXS, expected_YXS)
