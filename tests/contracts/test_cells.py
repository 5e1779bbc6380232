"""What reads cells on a worker, held against contracts."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from quakestream.pipeline.work.readahead import CellReader, ThreadReaders
from quakestream.pipeline.work.tasks import CellTask
from quakestream.testing import CellReaderContract, make_world
from tests.helpers.cropping import crop_world
from tests.helpers.mapping import edit, planned


class TestThreadReaders(CellReaderContract):
    @pytest.fixture(autouse=True)
    def _world(self, tmp_path: Path) -> None:
        world = make_world(tmp_path, seed=3, execution={"cell_windows": 2})
        self.spec, self.cells = planned(world.run_file)

    def reader(self) -> CellReader:
        return ThreadReaders(self.spec)

    def tasks(self) -> Sequence[CellTask]:
        return self.cells[:4]


class TestThreadReadersOfCrops(TestThreadReaders):
    @pytest.fixture(autouse=True)
    def _world(self, tmp_path: Path) -> None:
        self.spec, self.cells = planned(crop_world(tmp_path).run_file)


class TestThreadReadersOfTwoJobs(TestThreadReaders):
    @pytest.fixture(autouse=True)
    def _world(self, tmp_path: Path) -> None:
        world = make_world(tmp_path, seed=3, execution={"cell_windows": 2})
        edit(world.run_file, lambda content: content.update(outputs=["scores"]))
        self.spec, self.cells = planned(world.run_file)
        assert {len(cell.parts) for cell in self.cells} == {1, 2}
