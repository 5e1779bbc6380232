"""Each kind keeps the contract of kinds."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from quakestream.pipeline.work.tasks import UnitTask, WorkerSpec
from quakestream.testing import KindContract, make_world
from tests.helpers.cropping import crop_world
from tests.helpers.mapping import edit, planned
from tests.helpers.sliding import sliding_world

Planned = tuple[WorkerSpec, list[UnitTask]]


def units(run_file: Path, job: int) -> Planned:
    spec, cells = planned(run_file)
    parts = [part for cell in cells for part in cell.parts if part.job == job]
    return spec, sorted(parts, key=lambda part: -len(part.window_W2))


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    world = make_world(tmp_path_factory.mktemp("windows"), seed=3, execution={"cell_windows": 2})
    return units(world.run_file, 0)


@pytest.fixture(scope="module")
def rasters(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    world = make_world(tmp_path_factory.mktemp("rasters"), seed=3, execution={"cell_windows": 2})
    edit(world.run_file, lambda content: content.update(outputs=["scores"]))
    return units(world.run_file, 1)


@pytest.fixture(scope="module")
def landslides(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    folder = tmp_path_factory.mktemp("landslides")
    world = sliding_world(folder, execution={"cell_windows": 2})
    return units(world.run_file, 1)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    return units(crop_world(tmp_path_factory.mktemp("crops")).run_file, 0)


class TestWindows(KindContract):
    @pytest.fixture(autouse=True)
    def _run(self, windows: Planned) -> None:
        self.run = windows

    def spec(self) -> WorkerSpec:
        return self.run[0]

    def tasks(self) -> Sequence[UnitTask]:
        return self.run[1]


class TestRasters(TestWindows):
    @pytest.fixture(autouse=True)
    def _run(self, rasters: Planned) -> None:
        self.run = rasters


class TestLandslides(TestWindows):
    @pytest.fixture(autouse=True)
    def _run(self, landslides: Planned) -> None:
        self.run = landslides


class TestCrops(TestWindows):
    @pytest.fixture(autouse=True)
    def _run(self, crops: Planned) -> None:
        self.run = crops
