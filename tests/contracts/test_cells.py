"""What reads cells on a worker, held against contracts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from quakestream.domain import Grid, Scene, Window
from quakestream.pipeline.backends.joined import Reads, ThreadReaders
from quakestream.pipeline.crops import Scenes
from quakestream.pipeline.scenes import OpenScenes
from quakestream.pipeline.tasks import UnitTask
from quakestream.raster.source import RasterioSource
from quakestream.testing import ReadsContract, ScenesContract, make_world
from quakestream.testing.worlds import NORTH_M, WEST_M, write_scene
from tests.helpers.cropping import crop_world
from tests.helpers.mapping import planned
from tests.helpers.noise import GRID, noise, scene_at


class TestOpenScenes(ScenesContract):
    @pytest.fixture(autouse=True)
    def _scene(self, tmp_path: Path) -> None:
        self.scene = scene_at(tmp_path / "scene.tif")
        write_scene(tmp_path / "scene.tif", noise())
        (tmp_path / "broken.tif").write_bytes(b"no raster")

    def scenes(self) -> Scenes:
        return OpenScenes(RasterioSource)

    def scene_and_grid(self) -> tuple[Scene, Grid]:
        return self.scene, GRID

    def inside(self) -> Window:
        outer = GRID.window(WEST_M, NORTH_M - 60, WEST_M + 60, NORTH_M)
        return Window(row=outer.row + 20, col=outer.col + 20, height=80, width=80)

    def broken(self) -> tuple[Scene, Grid]:
        return replace(self.scene, href=self.scene.href.replace("scene", "broken")), GRID


class TestThreadReaders(ReadsContract):
    @pytest.fixture(autouse=True)
    def _world(self, tmp_path: Path) -> None:
        world = make_world(tmp_path, seed=3, execution={"cell_windows": 2})
        self.spec, self.units = planned(world.run_file)

    def reads(self) -> Reads:
        return ThreadReaders(self.spec)

    def tasks(self) -> Sequence[UnitTask]:
        return self.units[:4]


class TestThreadReadersOfCrops(TestThreadReaders):
    @pytest.fixture(autouse=True)
    def _world(self, tmp_path: Path) -> None:
        self.spec, self.units = planned(crop_world(tmp_path).run_file)
