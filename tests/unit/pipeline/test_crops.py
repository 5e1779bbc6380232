"""What becomes of crops that cannot be read or scored, and of plans that cannot work."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
import shapely
from numpy.typing import NDArray

from quakestream.bundles import load_bundle, write_manifest
from quakestream.config import open_run
from quakestream.domain import Grid, Scene, Window
from quakestream.engines import Batch, Engine, open_engine
from quakestream.errors import (
    BundleError,
    ConfigError,
    EngineError,
    NothingReadError,
    ReadError,
    RequestError,
)
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.kinds.crop_reading import BLOCK_PX, CellCrops
from quakestream.pipeline.planning.plan import make_plan
from quakestream.pipeline.work.read import Reader
from quakestream.pipeline.work.results import GroupReport
from quakestream.pipeline.work.scenes import OpenSource
from quakestream.pipeline.work.tasks import GroupTask, WorkerSpec
from quakestream.pipeline.work.worker import Worker, engine_key
from quakestream.raster.cog import CogOpener
from quakestream.raster.source import Pixels, RasterioSource, RasterSource
from quakestream.testing import write_building_bundle, write_hazard_bundle
from quakestream.testing.worlds import EPSG, GSD_M, NORTH_M, WEST_M
from quakestream.tiling import crop_windows, project
from tests.helpers.cropping import crop_world, resample
from tests.helpers.mapping import by_id, edit, mapped, same

GRID = Grid(epsg=EPSG, gsd_m=GSD_M)
BAD = GRID.window(WEST_M + 200, NORTH_M - 300, WEST_M + 264, NORTH_M - 236)
"""Ground that no scene after the event can be read for."""


class Faulty(LocalBackend):
    """The local loop, with scenes or an engine that fail."""

    def __init__(
        self,
        open_source: OpenSource | None = None,
        engine: Callable[[Engine], Engine] = lambda engine: engine,
    ) -> None:
        super().__init__(readers=1)
        self._open_source, self._engine = open_source, engine

    def run(self, spec: WorkerSpec, groups: Iterable[GroupTask]) -> Iterator[GroupReport]:
        engines = {
            engine_key(job.bundle, job.engine, spec.threads): self._engine(
                open_engine(job.bundle, runtime=job.engine.runtime, threads=spec.threads)
            )
            for job in spec.jobs
        }
        with Worker(spec, readers=1, engines=engines, open_source=self._open_source) as worker:
            yield from worker.reports(groups)


class BadBlock:
    """A scene of which one block cannot be read, whoever reads the others."""

    def __init__(self, scene: Scene, source: RasterSource) -> None:
        self._source, self._bad = source, scene.id.startswith("post")

    @property
    def seamless(self) -> bool:
        return self._source.seamless

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(self, *about: object) -> None:
        self._source.__exit__(*about)

    def read(self, window: Window) -> Pixels:
        if self._bad and 0 not in window.shared(BAD).shape:
            raise ReadError("block 3,1 is broken")
        return self._source.read(window)


class Unopened(RasterioSource):
    """A scene that went away after it was prepared."""

    def __enter__(self) -> Self:
        raise ReadError("it is gone")


def crops_of(frame: Any, side: int = 48) -> list[Window]:
    return crop_windows(shapely.bounds(project(frame.geometry.to_numpy(), EPSG)), GRID, side)


def read_errors(frame: Any) -> pd.Series:
    return frame.set_index("building_id")["reason"] == "read_error"


@pytest.mark.parametrize(
    ("opens", "resampled"),
    [
        pytest.param(CogOpener(), False, id="blocks-aligned"),
        pytest.param(RasterioSource, True, id="GDAL-resampled"),
        pytest.param(RasterioSource, False, id="GDAL-aligned", marks=pytest.mark.slow),
        pytest.param(CogOpener(), True, id="blocks-resampled", marks=pytest.mark.slow),
    ],
)
def test_a_bad_block_fails_only_the_crops_it_touches(
    tmp_path: Path, opens: OpenSource, resampled: bool
) -> None:
    world = crop_world(tmp_path)
    if resampled:
        for path in (world.pre, world.post):
            resample(path, 0.8)

    def broken(scene: Scene, grid: Grid) -> RasterSource:
        return BadBlock(scene, opens(scene, grid))

    whole = mapped(tmp_path, "whole", Faulty(opens))
    hurt = [mapped(tmp_path, f"out{k}", Faulty(broken), cell_windows=k) for k in (1, 3)]
    same(hurt[0].buildings, hurt[1].buildings)
    bad = BAD
    if resampled and opens is RasterioSource:  # it is the blocks of the grid that are read
        (top, left), (end, right) = (
            (BAD.row // BLOCK_PX, BAD.col // BLOCK_PX),
            ((BAD.row_end - 1) // BLOCK_PX + 1, (BAD.col_end - 1) // BLOCK_PX + 1),
        )
        bad = Window(
            row=top * BLOCK_PX,
            col=left * BLOCK_PX,
            height=(end - top) * BLOCK_PX,
            width=(right - left) * BLOCK_PX,
        )
    rows = whole.buildings[whole.buildings["reason"] != "no_imagery"]
    touched = [0 not in crop.shared(bad).shape for crop in crops_of(rows)]
    expected = pd.Series(touched, index=rows["building_id"])
    got = read_errors(hurt[0].buildings)
    assert 0 < expected.sum() < len(expected)
    assert got[expected.index].equals(expected.rename_axis("building_id"))
    fine = by_id(whole.buildings).index.difference(expected.index[expected])
    pd.testing.assert_frame_equal(
        by_id(whole.buildings).loc[fine], by_id(hurt[0].buildings).loc[fine], check_exact=True
    )
    assert any("block 3,1 is broken" in i.cause and not i.retryable for i in hurt[0].issues)
    healed = mapped(tmp_path, "out3", Faulty(opens), cell_windows=3)
    assert healed.run["counts"]["cells_scored"] > 0
    same(whole.buildings, healed.buildings)


def test_the_only_scene_went_away_and_nothing_is_published(tmp_path: Path) -> None:
    crop_world(tmp_path, epochs=("post",))
    whole = by_id(mapped(tmp_path, "whole").buildings)
    planned = int((whole["reason"] != "no_imagery").sum())
    counts = f"no footprint could be read: {planned} of {len(whole)} read_error"
    with pytest.raises(NothingReadError, match=counts):
        mapped(tmp_path, "out", Faulty(Unopened))
    assert not (tmp_path / "out" / "run.json").exists()


def dark(batch: Batch) -> NDArray[np.bool_]:
    """Crops with a dark corner: about one in six."""
    return np.asarray(batch.images["post"][:, 0, 0, 0] < 40)


class Raising:
    """An engine that fails on a batch with a dark crop in it."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.name = engine, engine.name
        self.on_gpu, self.batch = engine.on_gpu, engine.batch

    def score(self, batch: Batch) -> NDArray[np.float32]:
        if dark(batch).any():
            raise EngineError("too dark")
        return self._engine.score(batch)

    def sums(self, batch: Batch, owner_NYX: NDArray[np.int32]) -> NDArray[np.int64]:
        return self._engine.sums(batch, owner_NYX)


class Undecided(Raising):
    """An engine that gives no number for dark crops."""

    def score(self, batch: Batch) -> NDArray[np.float32]:
        logits_NK = self._engine.score(batch)
        return np.where(dark(batch)[:, None], np.float32("nan"), logits_NK)


@pytest.mark.parametrize("engine", [Raising, Undecided])
def test_crops_an_engine_fails_on_are_model_errors(tmp_path: Path, engine: type[Raising]) -> None:
    crop_world(tmp_path, epochs=("post",))
    whole = by_id(mapped(tmp_path, "whole").buildings)
    maps = [mapped(tmp_path, f"out{k}", Faulty(engine=engine), cell_windows=k) for k in (1, 3)]
    same(maps[0].buildings, maps[1].buildings)
    hurt = by_id(maps[0].buildings)
    failed = hurt["reason"] == "model_error"
    assert 5 < failed.sum() < 100
    pd.testing.assert_frame_equal(whole[~failed], hurt[~failed], check_exact=True)
    cause = "too dark" if engine is Raising else "gave no finite score"
    assert any(cause in issue.cause for issue in maps[0].issues)


def test_a_plan_counts_crops_and_states_what_they_need(tmp_path: Path) -> None:
    world = crop_world(tmp_path, window_px=128)
    plan = make_plan(open_run(world.run_file))
    assert plan.windows == len(plan.assignment.footprint_A) > 100
    squares = {(u.cell.epsg, *window) for u in plan.units for window in u.window_W2.tolist()}
    assert plan.km2 == pytest.approx(len(squares) * 0.256**2)
    crops_mpx = plan.windows * 128**2 * 2 / 1e6
    assert 0 < plan.mpx <= 2 * crops_mpx
    assert plan.seconds > 0
    few = crop_world(tmp_path / "few", window_px=128)
    edit(few.run_file, lambda content: content.update(aoi=_west_of(content["aoi"])))
    fewer = make_plan(open_run(few.run_file))
    assert fewer.windows < plan.windows
    for backend in ("local", "ray"):
        assert plan.memory(backend).pixels_mb == fewer.memory(backend).pixels_mb > 0


def _west_of(aoi: str) -> str:
    west, south, east, north = shapely.from_wkt(aoi).bounds
    return shapely.box(west, south, (west + east) / 2, north).wkt


def test_memory_for_pixels_is_that_of_the_ground_however_many_crops(tmp_path: Path) -> None:
    world = crop_world(tmp_path, window_px=256)
    held: list[tuple[int, int]] = []

    class Weighed(LocalBackend):
        def run(self, spec: WorkerSpec, groups: Iterable[GroupTask]) -> Iterator[GroupReport]:
            groups = list(groups)
            with Reader(spec) as reader:
                for task in (cell for group in groups for cell in group.cells):
                    (crops,) = reader.read(task)
                    assert isinstance(crops, CellCrops)
                    patches = [p.counts_BYX.nbytes for ps in crops.patches.values() for p in ps]
                    held.append((sum(patches), len(crops) * 2 * 3 * 256**2))
            yield from super().run(spec, groups)

    result = mapped(tmp_path, "out", Weighed(), cell_windows=1)
    assert result.run["counts"]["assessed"] > 100
    most = 2 * 3 * (512 + 256) ** 2
    assert all(pixels <= most for pixels, _ in held)
    assert sum(p for p, _ in held) < 0.7 * sum(alone for _, alone in held)
    assert world.post.exists()


def _fixed_batch(folder: Path) -> None:
    """A golden batch whose crops are not those the manifest names."""
    bundle = load_bundle(str(folder))
    golden = {k: v[..., 1:] if k == "post" else v for k, v in bundle.golden.items()}
    np.savez(folder / "golden.npz", allow_pickle=False, **golden)
    write_manifest(folder, bundle.spec)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("no_pre", ConfigError, "add imagery.pre.datetime"),
        (
            "hazard_bundle",
            ConfigError,
            "expected a bundle of task segmentation or building, got hazard",
        ),
        ("unit", BundleError, "unknown unit of input vs30_m_s: .*got 'furlongs'"),
        ("golden", BundleError, "does not run on its own golden batch"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    tmp_path: Path, how: str, error: type[RequestError], said: str
) -> None:
    world = crop_world(tmp_path, hazard=("vs30_m_s",))
    folder = tmp_path / "crops"
    if how == "no_pre":
        edit(world.run_file, lambda content: content["imagery"].pop("pre"))
    elif how == "hazard_bundle":
        other = write_hazard_bundle(tmp_path / "hazard")
        edit(world.run_file, lambda content: content["models"].update(damage=str(other)))
    elif how == "unit":
        spec = load_bundle(str(folder)).spec
        write_manifest(folder, replace(spec, hazard=(replace(spec.hazard[0], unit="furlongs"),)))
    else:
        _fixed_batch(folder)
    with pytest.raises(error, match=said) as caught:
        make_plan(open_run(world.run_file))
    assert "\n" not in str(caught.value)


def test_two_bundles_of_one_folder_differ_in_what_they_commit(tmp_path: Path) -> None:
    """Another crop side is another model: nothing committed is taken for its scores."""
    crop_world(tmp_path, epochs=("post",))
    first = mapped(tmp_path, "out")
    write_building_bundle(tmp_path / "crops", window_px=64, epochs=("post",))
    second = mapped(tmp_path, "out")
    assert second.run["counts"]["cells_resumed"] == 0
    one, other = by_id(first.buildings)["p_destroyed"], by_id(second.buildings)["p_destroyed"]
    assert (one != other)[one.notna()].mean() > 0.5
