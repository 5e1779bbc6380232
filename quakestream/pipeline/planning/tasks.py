"""What a plan's units become on their way to workers: keys, tasks, and what is left to do."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Scene, Shift, Window
from quakestream.hazard.zarr_rasters import is_zarr
from quakestream.pipeline.kinds.units import Unit
from quakestream.pipeline.planning.jobs import Job
from quakestream.pipeline.planning.places import place_km2
from quakestream.pipeline.planning.plan import Plan
from quakestream.pipeline.planning.scenes import used_scenes
from quakestream.pipeline.work import ledger
from quakestream.pipeline.work.prepare import Prepared
from quakestream.pipeline.work.read import around
from quakestream.pipeline.work.tasks import (
    CellTask,
    GroupTask,
    JobSpec,
    UnitFootprints,
    UnitTask,
    WorkerScene,
    WorkerSpec,
    group_name,
    unit_key,
)
from quakestream.raster.coregistration import PairShifts
from quakestream.raster.statistics import joint_statistics
from quakestream.raster.tiles.entries import ROOT_KEY
from quakestream.storage import Store
from quakestream.storage.uris import one_of_each_bucket


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeyedUnit:
    """A unit with its job and its key in the ledger."""

    job: int
    """Index of the job in the plan."""
    unit: Unit
    key: str


MARGIN_PX = 8
"""Pixels around the windows of a unit within which tiles count as needed."""
KeyedCell = tuple[KeyedUnit, ...]
KeyedGroup = tuple[KeyedCell, ...]
"""A commit group."""


def worker_spec(plan: Plan, out: str, written: str | None = None) -> WorkerSpec:
    """What workers of a run receive.

    Args:
        out: URI of the run's output.
        written: URI of an object of the output that is there while the run goes on, if there
            is one.
    """
    settings = plan.run.profile_settings
    return WorkerSpec(
        jobs=tuple(
            JobSpec(
                kind=job.kind,
                bundle=job.bundle,
                engine=job.engine.spec,
                cell_windows=settings.cell_windows,
            )
            for job in plan.jobs
        ),
        options=plan.run.storage_options,
        ledger_uri=out,
        threads=settings.threads,
        tile_store=plan.run.imagery.store,
        readers=settings.readers,
        group_cells=settings.group_cells,
        readers_wanted=plan.readers_wanted,
        objects=(
            *one_of_each_bucket(_read_by_workers(plan)),
            *([written] if written else []),
        ),
    )


def _read_by_workers(plan: Plan) -> Iterator[str]:
    """URIs of what workers read: scenes, the tile store and the terrain of a run."""
    for scene, _ in used_scenes(plan.units, plan.views):
        yield scene.href
    if plan.run.imagery.store is not None:
        yield f"{plan.run.imagery.store.rstrip('/')}/{ROOT_KEY}"
    if plan.run.terrain is not None:
        yield from (place for place in plan.run.terrain.dem_places if not is_zarr(place))


def model_identity(job: Job) -> str:
    """The part of a model that results depend on.

    Kernels differ by the length of a run, and the last bits of a score with them. A batch that
    was chosen is therefore part of it.
    """
    engine = job.engine.spec
    batch = f"/{engine.batch}" if engine.batch else ""
    return f"{job.bundle.digest}/{engine.runtime}{batch}{job.kind.key}"


def footprints_of(plan: Plan, unit: Unit, hazard_NM: NDArray[np.float32]) -> UnitFootprints:
    """The footprints of a unit, out of those of the run.

    Args:
        hazard_NM: hazard values as the bundle takes them, a row per footprint of the run.
    """
    footprint_F = unit.footprint_F
    return UnitFootprints(
        ids=plan.id_N[footprint_F].tolist(),
        polygon_F=plan.polygon_N[footprint_F],
        hazard_FM=hazard_NM[footprint_F],
    )


def keyed_groups(plan: Plan, hazard_NM: NDArray[np.float32]) -> list[KeyedGroup]:
    """The commit groups of a plan, with the keys of their units."""
    models = [model_identity(job) for job in plan.jobs]

    def keyed(job: int, unit: Unit) -> KeyedUnit:
        footprints = footprints_of(plan, unit, hazard_NM)
        key = unit_key(unit, plan.views[unit.view], footprints, models[job], plan.tiles)
        return KeyedUnit(job=job, unit=unit, key=key)

    return [
        tuple(tuple(keyed(job, unit) for job, unit in cell) for cell in group)
        for group in plan.groups()
    ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pending:
    """What a run has left to do."""

    groups: list[KeyedGroup]
    """Groups with the units that are not complete yet."""
    commits: list[set[str]]
    """Keys of the commit objects that are there, for each job."""

    @property
    def units(self) -> int:
        return sum(len(cell) for group in self.groups for cell in group)


def pending_work(
    store: Store, plan: Plan, groups: Iterable[KeyedGroup], damaged: Collection[str] = ()
) -> Pending:
    """Compares groups with the ledger.

    Args:
        damaged: commit objects that do not count.
    """
    commits = [ledger.committed(store, job.kind.commits) - set(damaged) for job in plan.jobs]
    expected: list[dict[str, list[KeyedUnit]]] = [{} for _ in plan.jobs]
    kept = list(groups)
    for group in kept:
        for n, job in enumerate(plan.jobs):
            units = [part for cell in group for part in cell if part.job == n]
            if units:
                key = ledger.complete_key(job.kind.commits, [part.key for part in units])
                expected[n][key] = units
    done: set[str] = set()
    for there, wanted in zip(commits, expected, strict=True):
        whole = wanted.keys() & there
        done |= {part.key for key in whole for part in wanted[key]}
        for key in there - whole:  # cut by another group size, or with failed units
            done |= {r.key for r in ledger.read_records(store, key) if r.complete}
    left = [_without(group, done) for group in kept]
    return Pending(groups=[group for group in left if group], commits=commits)


def _without(group: KeyedGroup, done: set[str]) -> KeyedGroup:
    cells = (tuple(part for part in cell if part.key not in done) for cell in group)
    return tuple(cell for cell in cells if cell)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskMaker:
    """Turns units into what a worker needs to read and score them."""

    plan: Plan
    prepared: Prepared
    spec: WorkerSpec
    hazard_NM: NDArray[np.float32]
    """Hazard values as the bundle takes them, a row per footprint of the run."""

    def group(self, group: KeyedGroup) -> GroupTask:
        cells = tuple(self.cell(cell) for cell in group)
        keys = [part.key for cell in group for part in cell]
        return GroupTask(name=group_name(keys), cells=cells)

    def cell(self, cell: KeyedCell) -> CellTask:
        return CellTask(
            parts=tuple(self.unit(part.job, part.unit, part.key) for part in cell),
            km2=place_km2((self.plan.jobs[part.job], part.unit) for part in cell),
        )

    def unit(self, job: int, unit: Unit, key: str) -> UnitTask:
        view, of_job = self.plan.views[unit.view], self.spec.jobs[job]
        footprints = footprints_of(self.plan, unit, self.hazard_NM)
        windows = of_job.kind.shift_windows(unit, footprints.polygon_F, of_job)
        task = UnitTask(
            key=key,
            job=job,
            cell=unit.cell,
            view_id=view.id,
            post=_worker_scene(view.post, self.prepared),
            pre=None if view.pre is None else _worker_scene(view.pre, self.prepared),
            window_W2=unit.window_W2,
            joint_W=unit.joint_W,
            shifts=_shifts(self.prepared.shifts.get((view.id, unit.cell.epsg)), unit, windows),
            building_F=tuple(footprints.ids),
            polygon_F=footprints.polygon_F,
            hazard_FM=footprints.hazard_FM,
        )
        return _trimmed(task, of_job)


def _trimmed(task: UnitTask, job: JobSpec) -> UnitTask:
    """The task with what it needs of its acquisitions: tiles around its windows."""
    if not any(scene.scene.tiles for scene in task.scenes.values()):
        return task
    windows: dict[str, list[Window]] = {epoch: [] for epoch in task.scenes}
    for epoch, window in job.kind.requests(task, job):
        windows[epoch].append(window)

    def near(epoch: str, scene: WorkerScene) -> WorkerScene:
        here = windows[epoch]
        return scene.around(task.cell.grid, around(here).grown(MARGIN_PX)) if here else scene

    pre = None if task.pre is None else near("pre", task.pre)
    return replace(task, post=near("post", task.post), pre=pre)


def _worker_scene(scene: Scene, prepared: Prepared) -> WorkerScene:
    sheets = prepared.sheets(scene)
    return WorkerScene(
        scene=scene,
        statistics=joint_statistics([(known.statistics, known.pixels) for _, known in sheets]),
        qualities=tuple((sheet.crs_wkt, known.quality) for sheet, known in sheets),
    )


def _shifts(shifts: PairShifts | None, unit: Unit, windows: list[Window]) -> tuple[Shift, ...]:
    if shifts is None:
        return (Shift(),) * len(windows)
    return tuple(shifts.at(unit.cell.grid, window) for window in windows)
