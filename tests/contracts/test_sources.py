"""The reference reader meets the contract on scenes that are aligned, scaled and warped."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine

from quakestream.domain import Grid, Scene, Window
from quakestream.errors import ReadError
from quakestream.raster.probe import probe
from quakestream.raster.source import RasterioSource, RasterSource
from quakestream.storage import StorageOptions
from quakestream.testing import RasterSourceContract
from quakestream.testing.worlds import GSD_M, NORTH_M, WEST_M, write_scene
from tests.helpers.noise import GRID, SIDE, noise, scene_at


class TestAligned(RasterSourceContract):
    transform = Affine(GSD_M, 0, WEST_M, 0, -GSD_M, NORTH_M)
    crs = "EPSG:32637"

    @pytest.fixture(autouse=True)
    def _scene(self, tmp_path: Path) -> None:
        self.path = tmp_path / "scene.tif"
        write_scene(self.path, noise(), transform=self.transform, crs=self.crs)

    def scene_and_grid(self) -> tuple[Scene, Grid]:
        return scene_at(self.path, abs(self.transform.a)), GRID

    def opens(self) -> Callable[[Scene, Grid], RasterSource]:
        return RasterioSource

    def inside(self) -> Window:
        outer = GRID.window(WEST_M, NORTH_M - 60, WEST_M + 60, NORTH_M)
        return Window(row=outer.row + 20, col=outer.col + 20, height=80, width=80)


class TestHalfAPixelOff(TestAligned):
    transform = Affine(GSD_M, 0, WEST_M + 0.2, 0, -GSD_M, NORTH_M - 0.2)


class TestFiner(TestAligned):
    transform = Affine(0.3, 0, WEST_M, 0, -0.3, NORTH_M)


class TestCoarser(TestAligned):
    transform = Affine(0.8, 0, WEST_M, 0, -0.8, NORTH_M)


class TestOtherZone(TestAligned):
    crs = "EPSG:32636"
    transform = Affine(0.5, 0, 0, 0, -0.5, 0)

    @pytest.fixture(autouse=True)
    def _scene(self, tmp_path: Path) -> None:
        west, _, _, north = rasterio.warp.transform_bounds(
            "EPSG:32637", self.crs, WEST_M, NORTH_M - 100, WEST_M + 100, NORTH_M
        )
        self.path = tmp_path / "scene.tif"
        transform = Affine(0.5, 0, west - 30, 0, -0.5, north + 30)
        write_scene(self.path, noise(), transform=transform, crs=self.crs)


def test_an_aligned_window_is_the_files_own_pixels(tmp_path: Path) -> None:
    path, pixels = tmp_path / "scene.tif", noise(1)
    write_scene(path, pixels)
    with RasterioSource(scene_at(path), GRID) as source:
        origin = GRID.window(WEST_M, NORTH_M - SIDE * GSD_M, WEST_M + SIDE * GSD_M, NORTH_M)
        got = source.read(Window(row=origin.row + 7, col=origin.col + 11, height=50, width=60))
    assert np.array_equal(got.counts_BYX, pixels[:, 7:57, 11:71])
    assert got.valid_YX.all()


def test_nodata_alpha_mask_and_black_are_invalid(tmp_path: Path) -> None:
    pixels = noise(2)
    pixels[:, :40, :] = 0
    window = GRID.window(WEST_M, NORTH_M - 50, WEST_M + 50, NORTH_M)
    black, nodata, masked, alpha = (tmp_path / f"{n}.tif" for n in ("b", "n", "m", "a"))
    write_scene(black, pixels)
    write_scene(nodata, pixels, nodata=0)
    write_scene(masked, noise(2))
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(masked, "r+") as dataset,
    ):
        mask = np.full((SIDE, SIDE), 255, np.uint8)
        mask[:40] = 0
        dataset.write_mask(mask)
    with_alpha = np.concatenate([noise(2), np.full((1, SIDE, SIDE), 255, np.uint8)])
    with_alpha[3, :40] = 0
    write_scene(alpha, with_alpha, photometric="RGB", alpha="YES")
    for path in (black, nodata, masked, alpha):
        with RasterioSource(scene_at(path), GRID) as source:
            valid = source.read(window).valid_YX
        assert not valid[:40].any(), path
        assert valid[41:].all(), path


def test_a_cut_off_file_is_a_read_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "cut-off.tif"
    write_scene(path, noise(3), compress="none")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    window = GRID.window(WEST_M, NORTH_M - SIDE * GSD_M, WEST_M + SIDE * GSD_M, NORTH_M)
    with (
        RasterioSource(scene_at(path), GRID) as source,
        pytest.raises(ReadError, match="scene cut-off"),
    ):
        source.read(window)


def test_a_finer_scene_is_averaged(tmp_path: Path) -> None:
    fine = np.zeros((3, 2 * SIDE, 2 * SIDE), np.uint8)
    fine[:, ::2, ::2], fine[:, 1::2, 1::2] = 100, 60
    fine[:, ::2, 1::2], fine[:, 1::2, ::2] = 20, 20
    path = tmp_path / "fine.tif"
    write_scene(path, fine, transform=Affine(0.25, 0, WEST_M, 0, -0.25, NORTH_M))
    window = GRID.window(WEST_M + 10, NORTH_M - 30, WEST_M + 30, NORTH_M - 10)
    with RasterioSource(scene_at(path, 0.25), GRID) as source:
        counts = source.read(window).counts_BYX
    assert (counts == 50).all()


@pytest.mark.parametrize("kind", ["mask", "nodata", "alpha", "black"])
def test_masked_pixels_stay_masked_through_a_warp(tmp_path: Path, kind: str) -> None:
    """Half of a scene in the neighbouring zone is masked: half of its ground is invalid."""
    west, _, _, north = rasterio.warp.transform_bounds(
        "EPSG:32637", "EPSG:32636", WEST_M, NORTH_M - 100, WEST_M + 100, NORTH_M
    )
    path = tmp_path / "scene.tif"
    transform = Affine(0.5, 0, west - 30, 0, -0.5, north + 30)
    pixels = noise(4)
    options: dict[str, object] = {}
    if kind in ("nodata", "black"):
        pixels[:, :200] = 0
        options = {"nodata": 0} if kind == "nodata" else {}
    if kind == "alpha":
        cover = np.full((1, SIDE, SIDE), 255, np.uint8)
        cover[:, :200] = 0
        pixels = np.concatenate([pixels, cover])
        options = {"photometric": "RGB", "alpha": "YES"}
    write_scene(path, pixels, transform=transform, crs="EPSG:32636", **options)
    if kind == "mask":
        cover_YX = np.full((SIDE, SIDE), 255, np.uint8)
        cover_YX[:200] = 0
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "r+") as dataset,
        ):
            dataset.write_mask(cover_YX)
    window = GRID.window(WEST_M - 60, NORTH_M - 220, WEST_M + 200, NORTH_M + 60)
    with RasterioSource(scene_at(path), GRID) as source:
        valid = source.read(window).valid_YX
    assert abs(valid.sum() / (SIDE * SIDE / 2) - 1) < 0.03


@pytest.mark.parametrize(
    ("crs", "pixel", "expected"),
    [
        ("EPSG:32637", 0.5, 0.5),
        ("EPSG:32636", 0.3, 0.3),
        ("EPSG:3857", 0.5, 0.396),
        ("EPSG:4326", 5e-6, 0.555),
    ],
)
def test_the_gsd_is_that_on_the_ground(
    tmp_path: Path, crs: str, pixel: float, expected: float
) -> None:
    x, y = rasterio.warp.transform("EPSG:32637", crs, [WEST_M], [NORTH_M])
    path = tmp_path / "scene.tif"
    write_scene(path, noise(), transform=Affine(pixel, 0, x[0], 0, -pixel, y[0]), crs=crs)
    gsd_m = probe(scene_at(path), StorageOptions()).gsd_m
    assert gsd_m == pytest.approx(expected, rel=0.01)
    if crs.startswith("EPSG:326"):
        assert gsd_m == expected
