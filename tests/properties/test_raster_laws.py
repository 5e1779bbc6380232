"""Laws of score rasters: they hold what the model says of each pixel, however cells are cut."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from numpy.typing import NDArray
from scipy.special import expit

from quakestream.config import open_run
from quakestream.domain import Grid, Scene, Window
from quakestream.errors import ConfigError
from quakestream.outputs.rasters import NODATA, STEPS
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.planning.plan import make_plan
from quakestream.pipeline.run import map_run
from quakestream.pipeline.work.read import Reader
from quakestream.raster.cog import CogOpener
from quakestream.raster.source import Pixels, RasterSource
from quakestream.testing import World, make_world
from tests.helpers.cropping import crop_world
from tests.helpers.mapping import edit, mapped, same

SIDE_PX = 420


def scored_world(folder: Path, **world: Any) -> World:
    made = make_world(folder, seed=3, side_px=SIDE_PX, **world)
    edit(made.run_file, lambda content: content.update(outputs=["scores"]))
    return made


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "scores").iterdir())}


def expected(world: World) -> NDArray[np.float64]:
    """What the threshold engine says of each pixel of the scenes; NaN where either is saturated."""
    counts = []
    for path in (world.post, world.pre):
        with rasterio.open(path) as dataset:
            counts.append(dataset.read().astype(np.float64))
    grey = [c.mean(axis=0) for c in counts]
    p_YX = expit((np.abs(grey[0] - grey[1]) - 40) / 10)
    full_YX = np.any([(c == 255).all(axis=0) for c in counts], axis=0)
    return np.where(full_YX, np.nan, p_YX)


def test_each_pixel_holds_the_probability_of_the_model(tmp_path: Path) -> None:
    world = scored_world(tmp_path)
    mapped(tmp_path, "out")
    (path,) = (tmp_path / "out" / "scores").glob("destroyed-*.tif")
    with rasterio.open(path) as raster, rasterio.open(world.post) as scene:
        assert raster.crs == scene.crs
        assert raster.nodata == NODATA
        assert raster.scales == (1 / STEPS,)
        assert raster.overviews(1) or max(raster.shape) <= 512
        west, north = scene.transform.c, scene.transform.f
        window = rasterio.windows.from_bounds(
            west, north - SIDE_PX / 2, west + SIDE_PX / 2, north, raster.transform
        )
        step_YX = raster.read(1, window=window)
        whole_YX = raster.read(1)
    p_YX = expected(world)
    known_YX = step_YX != NODATA
    assert known_YX.mean() > 0.99
    gap_YX = np.abs(step_YX / STEPS - p_YX)[known_YX & np.isfinite(p_YX)]
    assert gap_YX.max() <= 0.5 / STEPS + 1e-6
    assert (whole_YX != NODATA).sum() == known_YX.sum(), "ground beyond the scenes has no score"
    with rasterio.open(path.with_name(path.name.replace("destroyed", "intact"))) as other:
        intact_YX = other.read(1, window=window)
    assert np.abs(intact_YX[known_YX].astype(int) + step_YX[known_YX] - STEPS).max() <= 1


def test_the_cell_size_changes_no_byte(tmp_path: Path) -> None:
    scored_world(tmp_path)
    maps = [mapped(tmp_path, f"out{k}", cell_windows=k, group_cells=g) for k, g in ((1, 3), (4, 1))]
    one, other = (files(tmp_path / f"out{k}") for k in (1, 4))
    assert len(one) == 2
    assert one == other
    same(*(m.buildings for m in maps))
    assert maps[0].run["jobs"] == [
        {"kind": "rasters", "bundle": "no-network", "engine": "threshold"}
    ]


def test_over_a_zone_border_each_zone_has_its_own_files(tmp_path: Path) -> None:
    from quakestream.testing.worlds import BORDER_M

    scored_world(tmp_path, west_m=BORDER_M - 105)
    mapped(tmp_path, "out")
    zones = {name.split("-")[1] for name in files(tmp_path / "out")}
    assert zones == {"32636", "32637"}


def test_rasters_do_not_change_the_table(tmp_path: Path) -> None:
    world = scored_world(tmp_path)
    with_scores = mapped(tmp_path, "with")
    edit(world.run_file, lambda content: content.pop("outputs"))
    without = mapped(tmp_path, "without")
    same(with_scores.buildings.drop(columns="run_id"), without.buildings.drop(columns="run_id"))
    assert not (tmp_path / "without" / "scores").exists()
    assert "jobs" not in without.run


def test_lost_commits_are_made_again_and_nothing_else(tmp_path: Path) -> None:
    scored_world(tmp_path, execution={"cell_windows": 1, "group_cells": 2})
    whole = mapped(tmp_path, "out")
    before = files(tmp_path / "out")
    commits = sorted((tmp_path / "out" / "_ledger" / "rasters").iterdir())
    for path in commits[::3]:
        path.unlink()
    again = mapped(tmp_path, "out")
    assert 0 < again.run["counts"]["cells_scored"] < whole.run["counts"]["cells"] / 2
    assert files(tmp_path / "out") == before
    assert again.run["snapshot"] == whole.run["snapshot"]


def test_a_map_without_rasters_takes_those_of_an_earlier_one_away(tmp_path: Path) -> None:
    world = scored_world(tmp_path)
    first = mapped(tmp_path, "out")
    edit(world.run_file, lambda content: content.pop("outputs"))
    mapped(tmp_path, "out")
    assert not list((tmp_path / "out" / "scores").glob("*.tif"))
    kept = tmp_path / "out" / "snapshots" / first.run["snapshot"] / "scores"
    assert len(list(kept.glob("*.tif"))) == 2


def test_where_the_best_view_shows_nothing_the_next_one_does(tmp_path: Path) -> None:
    world = scored_world(tmp_path)
    with rasterio.open(world.post) as dataset:
        counts, profile = dataset.read(), dict(dataset.profile)
    second = tmp_path / "post_20230215.tif"
    with rasterio.open(second, "w", **profile) as dataset:
        dataset.write(counts)
    with rasterio.open(world.post, "r+") as dataset:
        half = counts.copy()
        half[:, :, : SIDE_PX // 2] = 0
        dataset.write(half)
    edit(world.run_file, lambda content: content["imagery"]["catalog"].append(str(second)))
    maps = {k: mapped(tmp_path, f"out{k}", cell_windows=k) for k in (1, 3)}
    assert len(maps[1].run["inputs"]["scenes"]) == 3
    assert files(tmp_path / "out1") == files(tmp_path / "out3")


class CountingSource:
    """A source that notes every window that is read of it."""

    def __init__(self, source: RasterSource, windows: list[Window]) -> None:
        self._source, self._windows = source, windows

    @property
    def seamless(self) -> bool:
        return False  # windows are then read one by one

    def __enter__(self) -> RasterSource:
        self._source.__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        self._source.__exit__(*about)

    def read(self, window: Window) -> Pixels:
        self._windows.append(window)
        return self._source.read(window)


class Counting(LocalBackend):
    """The local loop, which notes what each cell reads."""

    def run(self, spec: Any, groups: Any) -> Iterator[Any]:
        groups = list(groups)
        opens, self.windows = CogOpener(), list[list[Window]]()
        for cell in (cell for group in groups for cell in group.cells):
            read: list[Window] = []

            def counted(scene: Scene, grid: Grid, read: list[Window] = read) -> RasterSource:
                return CountingSource(opens(scene, grid), read)

            with Reader(spec, counted) as reader:
                reader.read(cell)
            self.windows.append(read)
        return super().run(spec, groups)


def test_two_jobs_read_a_window_once(tmp_path: Path) -> None:
    scored_world(tmp_path)
    backend = Counting()
    map_run(open_run(tmp_path / "run.yaml"), backend=backend)
    assert sum(map(len, backend.windows)) > 20
    for read in backend.windows:  # two scenes, and no pair is moved
        assert all(read.count(window) <= 2 for window in read)


def test_a_plan_counts_ground_that_two_jobs_score_once(tmp_path: Path) -> None:
    world = scored_world(tmp_path)
    both = make_plan(open_run(world.run_file))
    content = yaml.safe_load(world.run_file.read_text())
    del content["outputs"]
    world.run_file.write_text(yaml.safe_dump(content))
    alone = make_plan(open_run(world.run_file))
    assert len(both.jobs) == 2
    windows = len({(u.cell.epsg, *w) for u in both.units for w in u.window_W2.tolist()})
    assert both.km2 == pytest.approx(windows * (64 * 0.5) ** 2 / 1e6)
    assert both.windows > alone.windows
    assert both.memory().peak_mb > alone.memory().peak_mb


def test_a_bundle_that_scores_crops_has_no_rasters(tmp_path: Path) -> None:
    world = crop_world(tmp_path)
    edit(world.run_file, lambda content: content.update(outputs=["scores"]))
    with pytest.raises(ConfigError, match="outputs: scores cannot be made with bundle"):
        make_plan(open_run(world.run_file))
