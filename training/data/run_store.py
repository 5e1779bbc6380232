"""Training stores from runs: the same scenes, views, shifts and hazard values as inference.

A run is planned as if a building model with the store's crop size were to score it. The crops that
the model would score are written instead. Labels come from separate files, see `labels`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.catalog import scene_extent
from quakestream.config import RunFile
from quakestream.domain import BundleSpec, Issue
from quakestream.errors import RequestError
from quakestream.hazard import HazardTable, sample_hazard
from quakestream.hazard.inputs import columns_given
from quakestream.hazard.units import MEASURES, VS30_COLUMN, measure_of
from quakestream.pipeline.planning.jobs import RunBundles
from quakestream.pipeline.planning.plan import Plan, plan_for
from quakestream.pipeline.planning.tasks import TaskMaker, worker_spec
from quakestream.pipeline.work.prepare import Prepared, PrepareStep, prepare, steps_for
from quakestream.pipeline.work.tasks import UnitTask, WorkerScene
from quakestream.raster.statistics import SceneStatistics
from quakestream.storage import open_store
from quakestream.tiling import crop_corners
from training.data.cutting import ChipShardTask, CutJob, ShardCrops, ShardReport, cut_shard
from training.data.filters import TileFilter
from training.data.labels import LabelRequest, MatchedLabels, match_labels, read_labels
from training.data.store import ChipStore, HazardColumn, StoreMeta, StoreWriter
from training.data.store_format import shard_chips_of

UNITS = {"mmi": "MMI", "pgv_cm_s": "cm/s", VS30_COLUMN: "m/s"}
"""Units of hazard columns. Accelerations are in g, layers in the unit of their file."""
OnProgress = Callable[[str], None]


class ShardWorkers(Protocol):
    """Runs the work of a store. `LocalShardWorkers`, a loop, is the reference."""

    def each(
        self, function: Callable[[PrepareStep], Any], jobs: list[PrepareStep]
    ) -> Iterator[tuple[PrepareStep, Any]]:
        """Runs small jobs; results come in order."""
        ...

    def shards(self, job: CutJob, tasks: Iterable[ChipShardTask]) -> Iterator[ShardReport]:
        """Cuts shards; one report per shard, in any order."""
        ...


class LocalShardWorkers:
    """Cuts one shard after the other in this process."""

    def each(
        self, function: Callable[[PrepareStep], Any], jobs: list[PrepareStep]
    ) -> Iterator[tuple[PrepareStep, Any]]:
        yield from ((job, function(job)) for job in jobs)

    def shards(self, job: CutJob, tasks: Iterable[ChipShardTask]) -> Iterator[ShardReport]:
        yield from map(partial(cut_shard, job=job), tasks)


_: type[ShardWorkers] = LocalShardWorkers


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSource:
    """A run, its labels, and its names in splits."""

    run: RunFile
    labels: LabelRequest
    region: str = ""
    """Name of the region in splits; if empty, the id of the event."""
    source: str = ""
    """Name of the source in splits; if empty, the id of the event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """Settings of a store."""

    crop_px: int = 128
    """Side of a stored chip, including the margin for augmentation."""
    gsd_m: float = 0.5
    epochs: tuple[str, ...] = ("pre", "post")
    tile_filter: TileFilter | None = None
    unlabelled: bool = False
    """Store footprints of unknown state too, with label -1."""
    empty_classes: bool = False
    """Accept a class without an example."""
    per_event: bool = False
    """Store the shaking of each event (a mainshock and its aftershocks), not the largest."""


@dataclass(slots=True)
class StoreReport:
    """Counts of the footprints and labels of a store, and problems of its inputs."""

    chips: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    candidates: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Number of footprints without a chip, by reason."""
    hazard_missing: dict[str, int] = field(default_factory=dict)
    """Number of chips without a value, by column."""
    labels: list[dict[str, Any]] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def write_run_store(
    uri: str,
    sources: Sequence[RunSource],
    request: StoreRequest,
    *,
    workers: ShardWorkers | None = None,
    replace_store: bool = False,
    on_progress: OnProgress = lambda _: None,
) -> tuple[ChipStore, StoreReport]:
    """Writes and opens a store of one run or several.

    Args:
        uri: where the store is written, in a kind of storage that the runs configure.
        sources: runs whose labels have the same classes and which have the same hazard columns.
        request: settings of the store.
        workers: where shards are cut; None cuts them in this process.
        replace_store: replace a finished store of that name.
        on_progress: takes one line per step.

    Raises:
        RequestError: if a run, its labels or the request is wrong, a class has no example, or
            there is a store already.
        StorageError: if the store cannot be written.
    """
    if not sources:
        raise RequestError("no run to cut chips from")
    workers, report = workers or LocalShardWorkers(), StoreReport()
    plans = [_RunPlan.of(source, request) for source in sources]
    for plan in plans:
        report.labels.append({"file": plan.source.labels.uri, **plan.labels.report.to_json()})
        report.issues += [*plan.plan.problems, *plan.hazard.issues]
        report.notes += plan.plan.notes
        report.dropped.update(plan.dropped)
    options = sources[0].run.storage_options
    table, parts = _candidates(plans, workers, uri, request, report)
    _check_classes(table["label"], plans[0].classes, request, "footprints that the imagery shows")
    writer = StoreWriter(uri=uri, meta=_meta(plans, request, len(table)), options=options)
    writer.begin(replace=replace_store)
    specs = tuple(worker_spec(plan.plan, uri) for plan in plans)
    job = CutJob(workers=specs, writer=writer, tile_filter=request.tile_filter)
    shards = workers.shards(job, _shards(parts, writer.meta))
    chips: list[int] = []
    fraction: list[float] = []
    for nth, shard in enumerate(shards, start=1):
        chips += shard.rows
        fraction += shard.valid_fraction
        report.dropped.update(shard.dropped)
        report.issues += _issues(shard)
        on_progress(f"shard {nth} of {writer.meta.shards}: {len(chips)} chips so far")
    rows = _rows_of(table, chips, fraction)
    _check_classes(rows["label"], plans[0].classes, request, "chips that could be cut")
    report.issues = list(dict.fromkeys(report.issues))
    _count(report, rows, writer.meta, len(table))
    writer.finish(rows, _provenance(plans, report))
    return ChipStore.open(uri, options=options), report


def _rows_of(table: pd.DataFrame, chips: list[int], fraction: list[float]) -> pd.DataFrame:
    """Rows of the candidates whose chips were written, in the order of the chips."""
    rows = table.iloc[chips].assign(valid_fraction=np.array(fraction, np.float32))
    return rows.sort_values("chip", ignore_index=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _RunPlan:
    """What is known of a run before a pixel is read."""

    source: RunSource
    plan: Plan
    labels: MatchedLabels
    hazard: HazardTable
    wanted_N: NDArray[np.bool_]
    """True for footprints to store, if the imagery shows them."""
    dropped: dict[str, int]
    """Number of wanted footprints that no view shows, by reason."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.labels.scale.labels

    @property
    def hazard_columns(self) -> tuple[HazardColumn, ...]:
        """Layers, then shaking, then the site, as the papers order them."""
        given = columns_given(self.source.run.hazard)
        events = [c for c in map(str, self.hazard.values.columns) if measure_of(c) != c]
        shaking = events or [c for c in MEASURES.values() if c in given]
        site = [VS30_COLUMN] if VS30_COLUMN in given else []
        layers = [c for c in self.source.run.hazard.layers if c not in (*shaking, *site)]
        return tuple(
            HazardColumn(
                name=name,
                unit=UNITS.get(measure_of(name), "g" if group == "shaking" else ""),
                group=group,
            )
            for group, names in (("layers", layers), ("shaking", shaking), ("site", site))
            for name in names
        )

    @classmethod
    def of(cls, source: RunSource, request: StoreRequest) -> "_RunPlan":
        run = source.run
        if "pre" in request.epochs and run.imagery.pre is None:
            raise RequestError(
                "run names no pre-event imagery",
                f"run {run.event.id}",
                remedy="add imagery.pre.datetime, or store --epochs post",
            )
        items = read_labels(source.labels, run.storage_options)
        plan = plan_for(run, RunBundles(damage=store_bundle(request)))
        usable = plan.footprints.table.copy()
        usable.loc[np.asarray(plan.footprints.invalid), "geometry"] = None
        labels = match_labels(items, usable, source.labels)
        wanted_N = (labels.label_N >= 0) | request.unlabelled
        reason_N = plan.assignment.reason_N
        unseen = Counter(str(r) for r in reason_N[wanted_N] if r is not None)
        if unseen.total() == wanted_N.sum():
            raise RequestError(
                f"the imagery of {run.event.id} shows none of the {wanted_N.sum()} footprints with "
                f"a label ({_counts(unseen)})",
                f"labels {source.labels.uri}",
                remedy="check the scenes and the AOI",
            )
        point_N = plan.footprints.representative
        lon_N, lat_N = shapely.get_x(point_N), shapely.get_y(point_N)
        hazard = sample_hazard(
            lon_N, lat_N, run.hazard, run.storage_options, per_event=request.per_event
        )
        return cls(
            source=source,
            plan=plan,
            labels=labels,
            hazard=hazard,
            wanted_N=wanted_N,
            dropped=dict(unseen),
        )


def store_bundle(request: StoreRequest) -> Bundle:
    """The manifest of a building model, without a model, as far as a plan needs it."""
    spec = BundleSpec(
        name="training-store",
        version="0",
        task="building",
        epochs=request.epochs,
        bands=("red", "green", "blue"),
        gsd_m=request.gsd_m,
        window_px=request.crop_px,
        halo_px=0,
        context_m=0.0,
        dtype="uint8",
        normalisation="per_scene",
    )
    return Bundle(uri="", spec=spec, digest="", files={})


def _candidates(
    planned: Sequence[_RunPlan],
    workers: ShardWorkers,
    uri: str,
    request: StoreRequest,
    report: StoreReport,
) -> tuple[pd.DataFrame, list[ShardCrops]]:
    """A row per chip to be cut, and the crops of each cell, in one order."""
    tables, parts, first = [], [], 0
    for run, one in enumerate(planned):
        prepared = _prepared(one, workers, uri)
        report.issues += prepared.issues
        tasks = TaskMaker(
            plan=one.plan,
            prepared=prepared,
            spec=worker_spec(one.plan, uri),
            hazard_NM=np.empty((len(one.wanted_N), 0), np.float32),
        )
        for unit in one.plan.first.units:
            footprint_F = unit.footprint_F[one.wanted_N[unit.footprint_F]]
            if failure := prepared.view_failure(one.plan.views[unit.view], unit.cell.epsg):
                report.dropped[failure] += len(footprint_F)
                continue
            if len(footprint_F):
                task = tasks.unit(0, replace(unit, footprint_F=footprint_F), key="")
                row_F = np.arange(first, first + len(footprint_F))
                parts.append(ShardCrops(run=run, task=task, row_F=row_F))
                tables.append(_rows(one, task, footprint_F, request.crop_px).assign(chip=row_F))
                first += len(footprint_F)
    if not parts:
        raise RequestError(
            f"no footprint can be cut out of the imagery ({_counts(report.dropped)})"
        )
    return pd.concat(tables, ignore_index=True), parts


def _prepared(one: _RunPlan, workers: ShardWorkers, uri: str) -> Prepared:
    """Statistics, masks and shifts. They are stored beside the store for a second attempt."""
    plan = one.plan
    used = [u for u in plan.units if one.wanted_N[u.footprint_F].any()]
    views = dict.fromkeys((u.view, u.cell.epsg) for u in used)
    options = plan.run.storage_options
    steps = steps_for([(plan.views[v], epsg) for v, epsg in views], options, scene_extent)
    return prepare(steps, open_store(uri, options), workers.each)


def _rows(
    one: _RunPlan, task: UnitTask, footprint_F: NDArray[np.int64], side_px: int
) -> pd.DataFrame:
    grid, count = task.cell.grid, len(footprint_F)
    bounds_F4 = np.array([p.bounds for p in task.polygon_F])
    middle_F2 = crop_corners(bounds_F4, grid, side_px) + side_px / 2
    event = one.source.run.event.id
    columns: dict[str, Any] = {
        "building_id": list(task.building_F),
        "label": one.labels.label_N[footprint_F],
        "region": one.source.region or event,
        "scene": task.post.scene.id,
        "scene_pre": task.pre.scene.id if task.pre else "",
        "source": one.source.source or event,
        "epsg": grid.epsg,
        "x_m": grid.transform.c + middle_F2[:, 1] * grid.gsd_m,
        "y_m": grid.transform.f - middle_F2[:, 0] * grid.gsd_m,
        "weight": 1.0,
        "shift_m": [shift.metres(grid.gsd_m) for shift in task.shifts],
    }
    for epoch, scene in (("pre", task.pre), ("post", task.post)):
        columns |= _statistics(epoch, scene)
    values = one.hazard.values.iloc[footprint_F]
    columns |= {h.name: values[h.name].to_numpy(np.float32) for h in one.hazard_columns}
    return pd.DataFrame(columns, index=range(count))


def _statistics(epoch: str, scene: WorkerScene | None) -> dict[str, float]:
    """Columns of a scene's statistics; 0 and 1 for an epoch that is not stored."""
    none = SceneStatistics(mean_B=(0.0,) * 3, std_B=(1.0,) * 3)
    known = none if scene is None else scene.statistics
    figures = {f"{epoch}_mean_{b}": value for b, value in enumerate(known.mean_B)}
    return figures | {f"{epoch}_std_{b}": value for b, value in enumerate(known.std_B)}


def _meta(planned: Sequence[_RunPlan], request: StoreRequest, chips: int) -> StoreMeta:
    first = planned[0]
    for one in planned[1:]:
        for name in ("classes", "hazard_columns"):
            if getattr(one, name) != getattr(first, name):
                raise RequestError(
                    f"cannot be one store with run {first.source.run.event.id}: {name} differ",
                    f"run {one.source.run.event.id}",
                    expected=str(getattr(first, name)),
                    got=str(getattr(one, name)),
                )
    return StoreMeta(
        classes=first.classes,
        hazard=first.hazard_columns,
        gsd_m=request.gsd_m,
        crop_px=request.crop_px,
        epochs=request.epochs,
        chips=chips,
        shard_chips=min(chips, shard_chips_of(request.crop_px)),
    )


def _shards(parts: Sequence[ShardCrops], meta: StoreMeta) -> Iterator[ChipShardTask]:
    """Divides the crops of cells among shards."""
    waiting: list[ShardCrops] = []
    shard = 0
    for part in parts:
        while len(part.row_F):
            end = (shard + 1) * meta.shard_chips
            fits = min(len(part.row_F), end - int(part.row_F[0]))
            waiting.append(part.some(0, fits))
            if int(part.row_F[0]) + fits == end:
                yield ChipShardTask(shard=shard, parts=tuple(waiting))
                waiting, shard = [], shard + 1
            part = part.some(fits, len(part.row_F))
    if waiting:
        yield ChipShardTask(shard=shard, parts=tuple(waiting))


def _check_classes(
    labels: pd.Series, classes: tuple[str, ...], request: StoreRequest, among: str
) -> None:
    count_C = np.bincount(labels[labels >= 0], minlength=len(classes))
    if request.empty_classes or count_C.all():
        return
    empty = [name for name, count in zip(classes, count_C, strict=True) if not count]
    counts = ", ".join(f"{name} {count}" for name, count in zip(classes, count_C, strict=True))
    raise RequestError(
        f"no example of class {', '.join(empty)} among the {among} ({counts})",
        remedy="leave it out of --classes, or accept it with --allow-empty-class",
    )


def _counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())


def _issues(shard: ShardReport) -> list[Issue]:
    return [Issue(subject=s, kind="scene", cause=c, retryable=True) for s, c in shard.failures]


def _count(report: StoreReport, rows: pd.DataFrame, meta: StoreMeta, candidates: int) -> None:
    labels = rows["label"]
    report.chips, report.candidates = len(rows), candidates
    count_C = np.bincount(labels[labels >= 0], minlength=len(meta.classes)).tolist()
    report.classes = dict(zip(meta.classes, count_C, strict=True))
    if (labels < 0).any():
        report.classes["unknown"] = int((labels < 0).sum())
    missing = rows[list(meta.hazard_names)].isna().sum()
    report.hazard_missing = {str(name): int(count) for name, count in missing.items() if count}


def _provenance(planned: Sequence[_RunPlan], report: StoreReport) -> dict[str, Any]:
    return {
        "runs": [
            {
                "event": one.source.run.event.id,
                "scenes": sorted({v.post.href for v in one.plan.views}),
                "hazard": one.hazard.versions,
            }
            for one in planned
        ],
        "labels": report.labels,
        "dropped": dict(report.dropped),
        "hazard_missing": report.hazard_missing,
    }
