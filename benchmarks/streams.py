"""A run taken apart: its tasks, and its stages each on its own."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import geopandas as gpd
import numpy as np
import rasterio
import shapely
import yaml
from affine import Affine

from quakestream.catalog import scene_extent
from quakestream.config import open_run
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.backends.protocol import Backend
from quakestream.pipeline.planning.plan import Plan, make_plan
from quakestream.pipeline.planning.tasks import KeyedGroup, TaskMaker, keyed_groups, worker_spec
from quakestream.pipeline.work.prepare import prepare, steps_for
from quakestream.pipeline.work.tasks import GroupTask, WorkerSpec
from quakestream.storage import open_store
from quakestream.testing import write_stand_in_bundle
from quakestream.tiling import unproject

EPSG, GSD_M, CORE_PX, HALO_PX = 32637, 0.5, 64, 16
WEST_M, NORTH_M = 320_000.0, 4_160_000.0
HOUSE_M = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A planned and prepared run, before its first commit group."""

    plan: Plan
    tasks: TaskMaker
    keyed: list[KeyedGroup]

    @classmethod
    def of(cls, run_file: Path, out: Path, **execution: Any) -> Self:
        """Plans and prepares a run, with other execution settings; `out` is a new folder."""
        run = open_run(run_file)
        run = run.model_copy(update={"execution": run.execution.model_copy(update=execution)})
        plan = make_plan(run)
        store = open_store(str(out), run.storage_options)
        views = dict.fromkeys((u.view, u.cell.epsg) for u in plan.units)
        jobs = steps_for(
            [(plan.views[v], epsg) for v, epsg in views], run.storage_options, scene_extent
        )
        prepared = prepare(jobs, store, LocalBackend().each)
        hazard_NM = np.empty((len(plan.footprints.table), 0), np.float32)
        spec = worker_spec(plan, store.uri)
        tasks = TaskMaker(plan=plan, prepared=prepared, spec=spec, hazard_NM=hazard_NM)
        return cls(plan=plan, tasks=tasks, keyed=keyed_groups(plan, hazard_NM))

    @property
    def spec(self) -> WorkerSpec:
        return self.tasks.spec

    def groups(self) -> Iterator[GroupTask]:
        yield from map(self.tasks.group, self.keyed)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTimes:
    """One pass of a run's commit groups through a backend."""

    cells: int
    wall_s: float
    first_s: float
    """Until the first group was committed: the start and one group."""
    cells_per_s: float
    """Slope of the cells committed over time: without start."""
    driver_s: float
    """CPU time of this process, all of it."""
    driver_s_per_cell: float
    """CPU time of this process for each cell after the first group."""


def stream(opened: PreparedRun, backend: Backend) -> StreamTimes:
    """Reads, scores and commits everything."""
    began, cpu = time.perf_counter(), time.process_time()
    at: list[tuple[float, float, int]] = []
    cells = 0
    for report in backend.run(opened.spec, opened.groups()):
        cells += report.units
        at.append((time.perf_counter() - began, time.process_time() - cpu, cells))
    wall_N, cpu_N, cells_N = np.array(at).T
    after = max(cells - int(cells_N[0]), 1)
    return StreamTimes(
        cells=cells,
        wall_s=float(wall_N[-1]),
        first_s=float(wall_N[0]),
        cells_per_s=float(np.polyfit(wall_N, cells_N, 1)[0]) if len(at) > 1 else 0.0,
        driver_s=float(cpu_N[-1]),
        driver_s_per_cell=float(cpu_N[-1] - cpu_N[0]) / after,
    )


def make_country(folder: Path, *, cells: int, window_s: float, **execution: Any) -> Path:
    """A square of small cells with a building in each, under two empty scenes: what grows is
    the number of cells, and nothing is heavy but them. Returns the run file."""
    folder.mkdir(parents=True, exist_ok=True)
    side = round(cells**0.5)
    px = side * CORE_PX
    where = Affine(GSD_M, 0, WEST_M, 0, -GSD_M, NORTH_M)
    paths = [folder / f"{name}.tif" for name in ("pre_20220801", "post_20230210")]
    for path in paths:
        options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "SPARSE_OK": True}
        with rasterio.open(
            path, "w", driver="GTiff", width=px, height=px, count=3, dtype="uint8",
            crs=EPSG, transform=where, compress="deflate", BIGTIFF="YES", **options,
        ):  # fmt: skip
            pass
    _houses(folder / "houses.parquet", side)
    write_stand_in_bundle(
        folder / "bundle", window_s=window_s, window_px=CORE_PX + 2 * HALO_PX, halo_px=HALO_PX
    )
    ground = shapely.box(WEST_M, NORTH_M - px * GSD_M, WEST_M + px * GSD_M, NORTH_M)
    content = {
        "event": {"id": "country", "time": "2023-02-06T01:17:34Z"},
        "aoi": unproject(np.array([ground], object), EPSG)[0].wkt,
        "imagery": {
            "catalog": [str(p) for p in paths],
            "post": {"datetime": "2023-02-06/2023-03-01"},
            "pre": {"datetime": "2018-01-01/2023-02-05"},
        },
        "footprints": {"path": str(folder / "houses.parquet"), "id": "id"},
        "models": {"damage": str(folder / "bundle")},
        "execution": {"runtime": "stand-in", "cell_windows": 1, **execution},
        "out": str(folder / "out"),
    }
    run_file = folder / "run.yaml"
    run_file.write_text(yaml.safe_dump(content))
    return run_file


def _houses(path: Path, side: int) -> None:
    step_m = CORE_PX * GSD_M
    middle_m = (np.arange(side) + 0.5) * step_m
    x, y = (v.ravel() for v in np.meshgrid(WEST_M + middle_m, NORTH_M - middle_m))
    outline = shapely.box(x - HOUSE_M, y - HOUSE_M, x + HOUSE_M, y + HOUSE_M)
    ids = [f"b{n:07}" for n in range(len(outline))]
    gpd.GeoDataFrame({"id": ids}, geometry=outline, crs=EPSG).to_crs(4326).to_parquet(path)
