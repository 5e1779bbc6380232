"""The hot path meets the contract of readers on scenes of every placement and kind."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
from affine import Affine

from quakestream.domain import Grid, Scene, Window
from quakestream.raster.cog.layouts import LayoutCache
from quakestream.raster.cog.source import CogSource
from quakestream.raster.source import RasterSource
from quakestream.storage import StorageOptions
from quakestream.testing import PrefetchContract
from quakestream.testing.worlds import GSD_M, NORTH_M, WEST_M, write_scene
from tests.helpers.noise import GRID, SIDE, noise, scene_at
from tests.helpers.servers import web_server


def open_cog(scene: Scene, grid: Grid) -> RasterSource:
    """The hot path and nothing else: a scene it does not cover is an error here."""
    return CogSource(scene, grid, LayoutCache().layout(scene, StorageOptions()))


class TestCogAligned(PrefetchContract):
    transform = Affine(GSD_M, 0, WEST_M, 0, -GSD_M, NORTH_M)
    creation: ClassVar[dict[str, Any]] = {"compress": "deflate", "predictor": 2}

    @pytest.fixture(autouse=True)
    def _scene(self, tmp_path: Path) -> None:
        self.path = tmp_path / "scene.tif"
        write_scene(self.path, noise(), transform=self.transform, **self.creation)

    def scene_and_grid(self) -> tuple[Scene, Grid]:
        return scene_at(self.path, abs(self.transform.a)), GRID

    def opens(self) -> Callable[[Scene, Grid], RasterSource]:
        return open_cog

    def inside(self) -> Window:
        outer = GRID.window(WEST_M, NORTH_M - 60, WEST_M + 60, NORTH_M)
        return Window(row=outer.row + 20, col=outer.col + 20, height=80, width=80)


class TestCogHalfAPixelOff(TestCogAligned):
    transform = Affine(GSD_M, 0, WEST_M + 0.2, 0, -GSD_M, NORTH_M - 0.2)


class TestCogFiner(TestCogAligned):
    transform = Affine(0.3, 0, WEST_M, 0, -0.3, NORTH_M)


class TestCogMuchFiner(TestCogAligned):
    transform = Affine(0.125, 0, WEST_M, 0, -0.125, NORTH_M)

    def inside(self) -> Window:
        outer = GRID.window(WEST_M, NORTH_M - 40, WEST_M + 40, NORTH_M)
        return Window(row=outer.row + 5, col=outer.col + 5, height=70, width=70)


class TestCogCoarser(TestCogAligned):
    transform = Affine(0.8, 0, WEST_M, 0, -0.8, NORTH_M)


class TestCogSouthUp(TestCogAligned):
    transform = Affine(GSD_M, 0, WEST_M, 0, GSD_M, NORTH_M - SIDE * GSD_M)


class TestCogRotated(TestCogAligned):
    transform = (
        Affine.translation(WEST_M - 10, NORTH_M + 20)
        @ Affine.rotation(-11)
        @ Affine.scale(GSD_M, -GSD_M)
    )


class TestCogJpeg(TestCogAligned):
    creation: ClassVar[dict[str, Any]] = {"compress": "jpeg", "photometric": "ycbcr"}


class TestCogStrips(TestCogAligned):
    creation: ClassVar[dict[str, Any]] = {
        "compress": "lzw",
        "predictor": 2,
        "tiled": False,
        "blockysize": 7,
    }


class TestCogBandsApart(TestCogAligned):
    creation: ClassVar[dict[str, Any]] = {"compress": "zstd", "interleave": "band"}


class TestCogBandsApartFiner(TestCogBandsApart):
    transform = Affine(0.3, 0, WEST_M, 0, -0.3, NORTH_M)


class TestCogOtherZone(TestCogAligned):
    epsg = "EPSG:32636"
    pixel = 0.5

    @pytest.fixture(autouse=True)
    def _scene(self, tmp_path: Path) -> None:
        west, _, east, north = rasterio.warp.transform_bounds(
            "EPSG:32637", self.epsg, WEST_M, NORTH_M - 100, WEST_M + 100, NORTH_M
        )
        self.path = tmp_path / "scene.tif"
        step = self.pixel * (east - west) / 100 if self.epsg == "EPSG:4326" else self.pixel
        margin = 60 * step
        self.transform = Affine(step, 0, west - margin, 0, -step, north + margin)
        write_scene(self.path, noise(), transform=self.transform, crs=self.epsg, compress="deflate")

    def scene_and_grid(self) -> tuple[Scene, Grid]:
        return scene_at(self.path), GRID


class TestCogOtherZoneFiner(TestCogOtherZone):
    pixel = 0.3


class TestCogWebMercator(TestCogOtherZone):
    epsg = "EPSG:3857"


class TestCogDegrees(TestCogOtherZone):
    epsg = "EPSG:4326"


class TestCogOverHttp(TestCogAligned):
    """Blocks that are requested before they are read.

    The index comes from the file: GDAL, which probes a scene, would keep the server's thread
    from answering.
    """

    @pytest.fixture(autouse=True)
    def _scene(self, tmp_path: Path) -> Iterator[None]:
        self.path = tmp_path / "scene.tif"
        write_scene(self.path, noise(), transform=self.transform, **self.creation)
        with web_server(tmp_path) as server:
            self.url = f"{server.url}/scene.tif"
            yield

    def opens(self) -> Callable[[Scene, Grid], RasterSource]:
        layout = replace(LayoutCache().layout(scene_at(self.path), StorageOptions()), href=self.url)
        return lambda scene, grid: CogSource(replace(scene, href=self.url), grid, layout)
