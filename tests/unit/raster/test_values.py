"""Bands of physical values: the hot path against rasterio, for other pixel sizes and zones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds

from quakestream.domain import Grid, LayerFile, SceneLayer, Window
from quakestream.raster.cog import CogOpener
from quakestream.raster.cog.values import Corners, ParallelAxes, interpolated, neighbours
from quakestream.raster.layer_probe import probe_layers
from quakestream.raster.values import GdalValues
from tests.helpers.bands import (
    OFFSET,
    OPTIONS,
    SCALE,
    SIDE_M,
    band_file,
    layer_of,
    opened,
    window_at,
)
from tests.helpers.noise import scene_at
from tests.helpers.sentinel import EPSG, NORTH_M, WEST_M, counts_of, write_raster


def warped(
    path: Path, gsd_m: float, window: Window, how: Resampling, *, epsg: int = EPSG
) -> NDArray[np.float64]:
    """What rasterio makes of a window, as stored."""
    grid = Grid(epsg=epsg, gsd_m=gsd_m)
    with (
        rasterio.open(path) as dataset,
        WarpedVRT(
            dataset,
            crs=f"EPSG:{epsg}",
            transform=grid.window_transform(window),
            width=window.width,
            height=window.height,
            resampling=how,
            tolerance=0.01,
            dtype="float64",
        ) as vrt,
    ):
        counts_YX: NDArray[np.float64] = vrt.read(1)
        return counts_YX


def test_pixels_of_the_grids_size_are_the_files_own(tmp_path: Path) -> None:
    path, counts_YX = band_file(tmp_path, 10)
    with opened([layer_of(path)], 10.0) as reader:
        values = reader.read(window_at(10.0))
    expected_YX = (counts_YX[60:204, 12:156] * SCALE + OFFSET).astype(np.float32)
    assert np.array_equal(values.value_BYX[0], expected_YX)
    assert values.valid_BYX.all()


@pytest.mark.parametrize("gsd_m", [20, 60])
def test_coarser_bands_are_interpolated_as_rasterio_does(tmp_path: Path, gsd_m: int) -> None:
    path, _ = band_file(tmp_path, gsd_m)
    window = window_at(10.0)
    with opened([layer_of(path)], 10.0) as reader:
        values = reader.read(window)
    expected_YX = warped(path, 10.0, window, Resampling.bilinear) * SCALE + OFFSET
    # counts differ by up to 1,400 from pixel to pixel; positions are rounded to 1/256 pixel
    assert np.abs(values.value_BYX[0] - expected_YX).max() < 0.0007
    assert np.abs(values.value_BYX[0] - expected_YX).mean() < 0.0001


@pytest.mark.parametrize(("gsd_m", "by"), [(20.0, 2), (40.0, 4)])
def test_finer_bands_are_averaged(tmp_path: Path, gsd_m: float, by: int) -> None:
    path, counts_YX = band_file(tmp_path, 10)
    window = window_at(gsd_m, west_m=120, south_m=600)
    with opened([layer_of(path)], gsd_m) as reader:
        values = reader.read(window)
    cut_YX = counts_YX[60:204, 12:156].astype(np.float64)
    mean_YX = cut_YX.reshape(144 // by, by, 144 // by, by).mean(axis=(1, 3))
    assert values.value_BYX[0] == pytest.approx(mean_YX * SCALE + OFFSET, abs=1e-6)


def test_a_tile_of_the_next_zone_is_warped_as_rasterio_does(tmp_path: Path) -> None:
    west, _, _, north = transform_bounds(
        f"EPSG:{EPSG}", "EPSG:32636", WEST_M, NORTH_M - SIDE_M, WEST_M + SIDE_M, NORTH_M
    )
    counts_YX = counts_of(3, 4800, 20)
    smooth_YX = np.round(counts_YX * 0.02 + np.add.outer(np.arange(240), np.arange(240)) * 9)
    path = write_raster(
        tmp_path / "zone.tif",
        smooth_YX.astype(np.uint16)[None],
        20,
        epsg=32636,
        corner=(west - 900, north + 900),
        nodata=0,
    )
    window = window_at(10.0)
    with opened([layer_of(path)], 10.0) as reader:
        values = reader.read(window)
    expected_YX = warped(path, 10.0, window, Resampling.bilinear) * SCALE + OFFSET
    assert np.abs(values.value_BYX[0] - expected_YX).max() < 0.0003
    assert values.valid_BYX.all()


def test_missing_ground_takes_no_part(tmp_path: Path) -> None:
    counts_YX = counts_of(1, SIDE_M, 20)
    counts_YX[40:50, 30:44] = 0
    path = write_raster(tmp_path / "holes.tif", counts_YX[None], 20, nodata=0)
    window = window_at(10.0, west_m=400, south_m=600, side_m=960)
    with opened([layer_of(path)], 10.0) as reader:
        values = reader.read(window)
    missing_YX = (counts_YX == 0).repeat(2, 0).repeat(2, 1)[60:156, 40:136]
    assert np.array_equal(~values.valid_BYX[0], missing_YX)
    assert not values.value_BYX[0][missing_YX].any()
    # 0 as a count is reflectance -0.1: one that took part would pull its neighbours below this
    assert values.value_BYX[0][~missing_YX].min() >= counts_YX[counts_YX > 0].min() * SCALE + OFFSET


@pytest.mark.parametrize("marks", [-9999.0, float("nan"), -3.4028234663852886e38])
def test_missing_floats_are_0_and_no_neighbour_takes_them(tmp_path: Path, marks: float) -> None:
    value_YX = np.random.default_rng(0).random((120, 120), np.float32)
    value_YX[30:40, 50:60] = marks
    if np.isfinite(marks):
        value_YX[70, 70] = np.nan
    path = write_raster(tmp_path / "float.tif", value_YX[None], 20, nodata=marks)
    layer = layer_of(path, scale=None, offset=None)
    assert (layer.scale, layer.offset) == (1.0, 0.0)
    for gsd_m, window in (
        (20.0, window_at(20.0, west_m=0, south_m=0, side_m=2400)),
        (10.0, window_at(10.0)),
    ):
        with opened([layer], gsd_m) as reader:
            values = reader.read(window)
        assert np.isfinite(values.value_BYX).all()
        assert 0 <= values.value_BYX.min() <= values.value_BYX.max() <= 1
        assert not values.value_BYX[~values.valid_BYX].any()
    with opened([layer], 20.0) as reader:
        values = reader.read(window_at(20.0, west_m=0, south_m=0, side_m=2400))
    there_YX = np.isfinite(value_YX) & (value_YX >= 0)
    assert np.array_equal(values.valid_BYX[0], there_YX)
    assert np.array_equal(values.value_BYX[0][there_YX], value_YX[there_YX])


def test_scale_and_offset_of_the_file_count_where_the_item_states_none(tmp_path: Path) -> None:
    counts_YX = counts_of(1, SIDE_M, 10)
    path = write_raster(tmp_path / "s.tif", counts_YX[None], 10, scales=(0.0002,), offsets=(-0.05,))
    with opened([layer_of(path, scale=None, offset=None)], 10.0) as reader:
        by_file = reader.read(window_at(10.0)).value_BYX[0]
    with opened([layer_of(path)], 10.0) as reader:
        by_item = reader.read(window_at(10.0)).value_BYX[0]
    cut_YX = counts_YX[60:204, 12:156].astype(np.float64)
    assert np.array_equal(by_file, (cut_YX * 0.0002 - 0.05).astype(np.float32))
    assert np.array_equal(by_item, (cut_YX * SCALE + OFFSET).astype(np.float32))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bands_of_one_file_are_read_together_in_any_order(tmp_path: Path, interleave: str) -> None:
    counts_BYX = np.stack([counts_of(n, SIDE_M, 10) for n in range(6)])
    path = write_raster(tmp_path / "stack.tif", counts_BYX, 10, interleave=interleave, nodata=0)
    layers = [layer_of(path, band) for band in (5, 2, 6)]
    with opened(layers, 10.0) as reader:
        values = reader.read(window_at(10.0))
    expected_BYX = (counts_BYX[[4, 1, 5], 60:204, 12:156] * SCALE + OFFSET).astype(np.float32)
    assert np.array_equal(values.value_BYX, expected_BYX)


def test_classes_take_the_nearest_pixel(tmp_path: Path) -> None:
    class_YX = np.random.default_rng(0).integers(0, 12, (120, 120)).astype(np.uint8)
    path = write_raster(tmp_path / "scl.tif", class_YX[None], 20)
    layer = layer_of(path, name="scl", scale=1.0, offset=0.0)
    with opened([layer], 10.0, nearest=True) as reader:
        fine = reader.read(window_at(10.0))
    assert np.array_equal(fine.value_BYX[0], class_YX.repeat(2, 0).repeat(2, 1)[60:204, 12:156])


def test_jpeg_2000_is_read_through_gdal(tmp_path: Path) -> None:
    path, counts_YX = band_file(tmp_path, 20)
    jp2 = tmp_path / "band.jp2"
    rasterio.shutil.copy(path, jp2, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    layer = layer_of(jp2, nodata=(0.0,))
    opener = CogOpener(OPTIONS)
    reader = opener.values(scene_at(jp2), [layer], Grid(epsg=EPSG, gsd_m=20.0))
    assert isinstance(reader, GdalValues)
    with reader:
        values = reader.read(window_at(20.0))
    expected_YX = (counts_YX[30:102, 6:78] * SCALE + OFFSET).astype(np.float32)
    assert np.array_equal(values.value_BYX[0], expected_YX)
    assert "not a TIFF" in opener.refusals[str(jp2)]


def test_the_place_of_the_tile_is_that_of_the_finest_band(tmp_path: Path) -> None:
    fine, coarse = (band_file(tmp_path, gsd)[0] for gsd in (10, 60))
    layers = tuple(
        SceneLayer(name=name, file=LayerFile(href=str(path)), scale=SCALE, offset=OFFSET)
        for name, path in (("coastal", coarse), ("red", fine))
    )
    scene = probe_layers(replace(scene_at(fine), layers=layers), OPTIONS)
    assert scene.gsd_m == 10.0
    assert scene.transform == Affine(10, 0, WEST_M, 0, -10, NORTH_M)
    assert [layer.file.gsd_m for layer in scene.layers] == [60.0, 10.0]


def test_parallel_axes_and_scattered_positions_give_the_same() -> None:
    rng = np.random.default_rng(0)
    count_YX = rng.integers(0, 10_000, (30, 40)).astype(np.uint16)
    valid_YX = rng.random((30, 40)) > 0.2
    col_X = (np.arange(-40, 300) / 7 * 256).round().astype(np.float32) / 256
    row_Y = (np.arange(-20, 200) / 6 * 256).round().astype(np.float32) / 256
    maps = np.meshgrid(col_X, row_Y)
    parallel, corners = (
        neighbours((maps[0], maps[1]), (30, 40)),
        Corners.of((maps[0], maps[1]), (30, 40)),
    )
    assert isinstance(parallel, ParallelAxes)
    for valid in (valid_YX, np.ones_like(valid_YX)):
        assert np.array_equal(
            interpolated(parallel, count_YX, valid), interpolated(corners, count_YX, valid)
        )
        assert np.array_equal(parallel.ground(valid), corners.ground(valid))
