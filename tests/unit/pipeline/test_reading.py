"""How a worker reads its cells: one opener a process, what is needed and no more, bytes ahead."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from quakestream.config import open_run
from quakestream.domain import Grid, Scene, Window
from quakestream.outputs.layout import INDICES
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.kinds.crop_reading import CellCrops
from quakestream.pipeline.kinds.windows import CellWindows
from quakestream.pipeline.run import map_run
from quakestream.pipeline.work import scenes as scenes_module
from quakestream.pipeline.work.read import Reader
from quakestream.pipeline.work.scenes import OpenScenes, opener
from quakestream.pipeline.work.tasks import CellTask, WorkerSpec
from quakestream.raster.cog import CogOpener
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.source import CogSource
from quakestream.raster.cog.workers import Team
from quakestream.raster.source import Pixels, RasterioSource, RasterSource
from quakestream.testing import make_world
from tests.helpers.cog_case import RemoteFetcher, finish_requests
from tests.helpers.cropping import crop_world
from tests.helpers.mapping import planned
from tests.helpers.tiles_case import LOCAL


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[WorkerSpec, list[CellTask]]:
    folder = tmp_path_factory.mktemp("world")
    return planned(make_world(folder, seed=3, execution={"cell_windows": 2}).run_file)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> tuple[WorkerSpec, list[CellTask]]:
    return planned(crop_world(tmp_path_factory.mktemp("crops")).run_file)


def same_cells(ones: tuple[Any, ...], others: tuple[Any, ...]) -> None:
    (one,), (other,) = ones, others
    if isinstance(one, CellWindows):
        assert isinstance(other, CellWindows)
        batches = [one.batch.images, other.batch.images]
    else:
        assert isinstance(other, CellCrops)
        batches = [cell.batch(0, len(cell)).images for cell in (one, other)]
    assert batches[0].keys() == batches[1].keys()
    for epoch in batches[0]:
        np.testing.assert_array_equal(batches[0][epoch], batches[1][epoch])
    np.testing.assert_array_equal(one.sums.pixels_FQ, other.sums.pixels_FQ)
    assert one.failures == other.failures


@pytest.mark.parametrize("kind", ["world", "crops"])
def test_cells_are_read_as_gdal_reads_them(kind: str, request: pytest.FixtureRequest) -> None:
    spec, units = request.getfixturevalue(kind)
    with Reader(spec) as ours, Reader(spec, RasterioSource) as theirs:
        for unit in units:
            found = ours.read(unit)
            assert not found[0].failures
            same_cells(found, theirs.read(unit))


def test_readers_of_a_process_share_one_opener_a_run(
    world: tuple[WorkerSpec, list[CellTask]],
) -> None:
    spec, units = world
    with Reader(spec) as one, Reader(spec):
        shared = opener(spec)
        assert isinstance(shared, CogOpener)
        assert shared is opener(replace(spec))
        assert shared is not opener(replace(spec, ledger_uri=f"{spec.ledger_uri}/other"))
        one.read(units[0])
        assert shared.held_bytes > 0
        assert shared.refusals == {}
    del one, shared
    gc.collect()
    assert len(scenes_module._openers) == 0, "an opener outlives its readers"


def test_indices_lie_beside_the_ledger_and_serve_the_next_worker(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=3)
    spec, units = planned(world.run_file)
    with Reader(spec) as reader:
        first = reader.read(units[0])
    made = sorted((tmp_path / "out" / INDICES).glob("*.parquet"))
    assert len(made) == 2
    written = [path.stat().st_mtime_ns for path in made]
    gc.collect()
    with Reader(spec) as reader:
        same_cells(reader.read(units[0]), first)
    assert [path.stat().st_mtime_ns for path in made] == written


def test_a_scene_that_gdal_reads_is_named_in_run_json(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=3)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(world.post, "r+") as dataset,
    ):
        dataset.write_mask(np.full(dataset.shape, 255, np.uint8))
    assert world.post.with_name(f"{world.post.name}.msk").is_file()
    made = map_run(open_run(world.run_file), backend=LocalBackend())
    notes = [note for note in made.run["notes"] if "read through GDAL" in note]
    assert len(notes) == 1
    assert "1 scene (post_20230210) read through GDAL: mask is not inside" in notes[0]
    assert made.run["counts"]["assessed"] > 0


class Noted:
    """An opener of distant scenes that notes which windows are read."""

    def __init__(self, team: Team) -> None:
        self._team = team
        self.windows: list[Window] = []
        self.fetchers: dict[str, RemoteFetcher] = {}

    def __call__(self, scene: Scene, grid: Grid) -> RasterSource:
        layout = make_layout(scene.href, LOCAL)
        noted, fetcher = self.windows, self.fetchers.setdefault(scene.id, RemoteFetcher(scene.href))

        class Source(CogSource):
            def read(self, window: Window) -> Pixels:
                noted.append(window)
                return super().read(window)

        return Source(scene, grid, layout, team=self._team, opens=lambda *_: fetcher)

    @property
    def requests(self) -> int:
        return sum(fetcher.requests for fetcher in self.fetchers.values())


@pytest.mark.parametrize("kind", ["world", "crops"])
def test_a_cell_that_was_asked_for_needs_no_further_request(
    kind: str, request: pytest.FixtureRequest
) -> None:
    spec, units = request.getfixturevalue(kind)
    with Team(requests=1, cache_bytes=64 << 20) as team:
        noted = Noted(team)
        with Reader(spec, noted) as reader, Reader(spec, RasterioSource) as theirs:
            reader.prefetch(units[0])  # its scenes are not open yet: nothing happens
            assert noted.requests == 0
            for unit, coming in zip(units, [*units[1:], units[-1]], strict=True):
                same_cells(reader.read(unit), theirs.read(unit))
                reader.prefetch(coming)
                finish_requests(team)
                asked = noted.requests
                reader.read(coming)
                assert noted.requests == asked
            fetched = sum(fetcher.bytes for fetcher in noted.fetchers.values())
            held = sum(
                int(make_layout(s.scene.href, spec.options).levels[0].bytes_N.sum())
                for s in units[0].parts[0].scenes.values()
            )
            assert fetched <= 1.1 * held
            assert team.prefetches.held_bytes == 0


def test_of_a_cell_with_few_buildings_only_their_windows_are_read(
    world: tuple[WorkerSpec, list[CellTask]],
) -> None:
    spec, units = world
    cell = max(units, key=lambda cell: len(cell.parts[0].window_W2))
    unit = cell.parts[0]
    assert len(unit.window_W2) == 4
    lattice = spec.jobs[0].lattice(unit.cell)
    corners = replace(
        unit, window_W2=unit.window_W2[[0, 3]], shifts=(unit.shifts[0], unit.shifts[3])
    )
    with Team(cache_bytes=64 << 20) as team:
        noted = Noted(team)
        with Reader(spec, noted) as reader:
            reader.read(cell)
            assert len(noted.windows) <= 2 * 2  # whole, but where shifts of pre lie apart
            noted.windows.clear()
            two = reader.read(CellTask(parts=(corners,), km2=0.0))
    asked = [lattice.window(int(r), int(c)) for r, c in corners.window_W2]
    moved = [w.moved(s) for w, s in zip(asked, corners.shifts, strict=True)]
    assert noted.windows == [*asked, *moved]
    with Reader(spec, RasterioSource) as theirs:
        same_cells(two, theirs.read(CellTask(parts=(corners,), km2=0.0)))


def test_a_scene_that_stalls_is_not_asked_ahead(
    world: tuple[WorkerSpec, list[CellTask]],
) -> None:
    _, units = world
    unit = units[0].parts[0]
    scene, grid = unit.post.scene, unit.cell.grid
    with Team() as team:
        noted = Noted(team)
        scenes = OpenScenes(noted)
        window = Window(row=0, col=0, height=8, width=8)
        scenes.read(scene, grid, window)
        around = grid.window(*_inside(scene, grid))
        scenes._stalled[scene.href] = TimeoutError()
        scenes.prefetch(scene, grid, around)
        assert team.prefetches.held_bytes == 0
        scenes._stalled.clear()
        scenes.prefetch(scene, grid, around)
        assert team.prefetches.held_bytes > 0
        scenes.close()


def _inside(scene: Scene, grid: Grid) -> tuple[float, float, float, float]:
    assert scene.transform is not None
    west, north = scene.transform.c, scene.transform.f
    return west, north - 60, west + 60, north
