"""The main job: plan, prepare, read, score, tally, commit, reduce, publish."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from quakestream.bundles import Bundle
from quakestream.catalog import scene_extent
from quakestream.config import Profile, RunFile
from quakestream.domain import Issue
from quakestream.errors import ConfigError
from quakestream.events import (
    Event,
    Events,
    GroupCommitted,
    InputQuarantined,
    MapPublished,
    Observer,
    PlanReady,
    StageStarted,
)
from quakestream.hazard import model_inputs, sample_hazard
from quakestream.outputs.buildings import SHAKING_COLUMNS
from quakestream.outputs.products import RunProducts
from quakestream.outputs.publish import publish
from quakestream.outputs.readback import current_buildings, current_run
from quakestream.pipeline import ledger
from quakestream.pipeline.dispatch import Tasks, keys_of, worker_spec
from quakestream.pipeline.evidence import hazard_evidence
from quakestream.pipeline.picking import Picked
from quakestream.pipeline.plan import Plan, make_plan
from quakestream.pipeline.prepare import Job, Prepared, jobs_for, prepare
from quakestream.pipeline.progress import ProgressFile
from quakestream.pipeline.record import Work, run_record
from quakestream.pipeline.reducing import Reduced, reduce_commits
from quakestream.pipeline.scenes import reading_notes
from quakestream.pipeline.stages import BatchReport
from quakestream.pipeline.summaries import read_admin
from quakestream.pipeline.tables import KnownHazard, building_rows, coverage_rows
from quakestream.pipeline.tasks import BatchTask, Unit, WorkerSpec
from quakestream.storage import Store, open_store


class Backend(Protocol):
    """Where stages run. The local loop is the meaning of correct."""

    @property
    def name(self) -> str: ...

    def stream(self, spec: WorkerSpec) -> str:
        """How pixels come to their engine in such a run: `local`, `split` or `joined`."""
        ...

    def pick(self, bundle: Bundle, settings: Profile) -> Picked:
        """Picks the engine of a run where engines will run.

        Raises:
            RequestError: the run asks for one that does not run there.
        """
        ...

    def begin(self, spec: WorkerSpec) -> None:
        """Starts what takes long to start and `batches` of this spec will need."""
        ...

    def each(self, function: Callable[[Job], Any], jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        """Runs small jobs; results in order."""
        ...

    def batches(self, spec: WorkerSpec, tasks: Iterable[BatchTask]) -> Iterator[BatchReport]:
        """Reads, scores and commits batches; a report each, in any order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """A finished map."""

    out: str
    run: dict[str, Any]
    """run.json."""
    issues: tuple[Issue, ...]
    store: Store

    @property
    def buildings(self) -> gpd.GeoDataFrame:
        """buildings.parquet, read back from the snapshot."""
        return current_buildings(self.store, self.run)


def map_run(
    run: RunFile,
    *,
    backend: Backend,
    out: str | None = None,
    fresh: bool = False,
    observers: Iterable[Observer] = (),
) -> Result:
    """Makes the map; run again on the same `out`, it resumes.

    Raises:
        RequestError: the request is wrong; nothing was started.
        StorageError: `out` cannot be written; what was committed before stays.
    """
    target = out or run.out
    if target is None:
        raise ConfigError("no output: give `out` in the run file or --out")
    events = Events(list(observers))
    events(StageStarted(name="plan"))
    plan = make_plan(run, backend.pick)
    job = _Job(plan=plan, store=open_store(target, run.storage_options), events=events)
    if fresh:
        _forget(job.store)
    return job.finish(backend)


def _forget(store: Store) -> None:
    for key in store.list("_ledger/"):
        store.delete(key)


@dataclass(slots=True)
class _Job:
    """One run while it goes on."""

    plan: Plan
    store: Store
    events: Events
    work: Work = field(default_factory=Work)
    issues: list[Issue] = field(default_factory=list)
    known: KnownHazard | None = None

    def finish(self, backend: Backend) -> Result:
        plan = self.plan
        self._add_issues(plan.problems)
        hazard_NM = self._model_inputs()
        keys = keys_of(plan, hazard_NM)
        pending, commits = self._pending(keys)
        progress = ProgressFile(store=self.store, plan=plan)
        self.events.observers.append(progress)
        self._announce(sum(len(b) for b in pending))
        spec = worker_spec(plan, self.store.uri)
        if pending:
            backend.begin(spec)
        prepared = self._prepare(backend, pending)
        view_failures = _view_failures(plan, prepared)
        self.work.stream = backend.stream(spec)
        tasks = Tasks(plan=plan, prepared=prepared, spec=spec, hazard_NM=hazard_NM)
        commits |= self._map(backend, pending, tasks, view_failures, keys)
        self.events(StageStarted(name="reduce"))
        ids = plan.footprints.table["building_id"].tolist()
        classes = len(plan.bundle.spec.classes)
        reduced = reduce_commits(self.store, commits, set(keys.values()), ids, classes)
        self._add_issues(reduced.issues)
        return self._publish(backend, reduced, view_failures)

    def _pending(self, keys: dict[int, str]) -> tuple[list[list[Unit]], set[str]]:
        """Units not yet complete, by batch, and the commits that hold the others."""
        there = ledger.committed(self.store)
        batches = self.plan.batches()
        whole = {ledger.complete_key([keys[id(u)] for u in batch]) for batch in batches} & there
        done: set[str] = set()
        for key in there - whole:  # cut by another batch size, or with failed cells
            done |= {r.key for r in ledger.read_records(self.store, key) if r.complete}
        pending = []
        for batch in batches:
            if ledger.complete_key([keys[id(u)] for u in batch]) not in whole:
                left = [u for u in batch if keys[id(u)] not in done]
                if left:
                    pending.append(left)
        self.work.resumed = len(self.plan.units) - sum(len(b) for b in pending)
        return pending, there

    def _announce(self, left: int) -> None:
        plan = self.plan
        self.events(
            PlanReady(
                cells=len(plan.units),
                cells_done=len(plan.units) - left,
                km2=plan.km2,
                footprints=len(plan.footprints.table),
            )
        )

    def _prepare(self, backend: Backend, pending: list[list[Unit]]) -> Prepared:
        """Prepares what pending units need; what failed before is judged again.

        Every view's pair is looked up, since a refused pair has no unit to ask for it; what
        the ledger holds costs nothing.
        """
        self.events(StageStarted(name="prepare"))
        began = time.perf_counter()
        plan = self.plan
        views = dict.fromkeys((u.view, u.cell.epsg) for u in plan.units)
        jobs = jobs_for(
            [(plan.views[v], epsg) for v, epsg in views], plan.run.storage_options, scene_extent
        )
        prepared = prepare(jobs, self.store, backend.each)
        self._add_issues(prepared.issues)
        self.work.prepare_s = time.perf_counter() - began
        return prepared

    def _map(
        self,
        backend: Backend,
        pending: list[list[Unit]],
        tasks: Tasks,
        view_failures: dict[tuple[int, int], str],
        keys: dict[int, str],
    ) -> set[str]:
        """Reads, scores and commits what is left; returns the commits made."""
        self.events(StageStarted(name="map"))
        began = time.perf_counter()

        def batches() -> Iterator[BatchTask]:
            for units in pending:
                usable = [u for u in units if (u.view, u.cell.epsg) not in view_failures]
                if usable:
                    yield tasks.batch([(u, keys[id(u)]) for u in usable])

        made: set[str] = set()
        for report in backend.batches(tasks.spec, batches()):
            made.add(report.commit_key)
            self.work.add(report)
            self.events(self._committed(report))
        self.work.map_s = time.perf_counter() - began
        return made

    def _committed(self, report: BatchReport) -> GroupCommitted:
        return GroupCommitted(
            name=report.commit_key,
            cells=report.cells,
            km2=report.km2,
            buildings=report.buildings,
            cells_failed=report.cells_failed,
            mpx=report.mpx,
            read_s=report.read_s,
            score_s=report.score_s,
        )

    def _publish(
        self, backend: Backend, reduced: Reduced, view_failures: dict[tuple[int, int], str]
    ) -> Result:
        plan, run = self.plan, self.plan.run
        hazard = self._hazard()
        admin, admin_id = read_admin(run, self.issues)
        record = run_record(plan, self.work, hazard, backend.name)
        record["notes"] += reading_notes(self.store)
        constants = {
            "model": plan.bundle.spec.name,
            "model_digest": plan.bundle.digest,
            "engine": plan.engine,
            "run_id": record["run_id"],
        }
        self.events(StageStarted(name="publish"))
        products = RunProducts(
            buildings=building_rows(plan, reduced, view_failures, hazard, constants),
            coverage=coverage_rows(plan, reduced.records, view_failures, _imaged(plan)),
            issues=list(dict.fromkeys(self.issues)),
            run=record,
            classes=plan.bundle.spec.classes,
            layers=tuple(n for n in run.hazard.layers if n not in SHAKING_COLUMNS),
            admin=admin,
            admin_id=admin_id,
            views=list(plan.views),
            storage=run.storage_options,
        )
        snapshot = publish(self.store, products)
        self.events(MapPublished(out=self.store.uri, snapshot=snapshot))
        return Result(
            out=self.store.uri,
            run=current_run(self.store),
            issues=tuple(products.issues),
            store=self.store,
        )

    def _model_inputs(self) -> NDArray[np.float32]:
        """What the damage bundle itself takes of hazard values: cells depend on it."""
        spec = self.plan.bundle.spec
        if not spec.hazard:
            return np.empty((len(self.plan.footprints.table), 0), np.float32)
        return model_inputs(self._hazard().table.values, spec)

    def _hazard(self) -> KnownHazard:
        """Sampled once, when it is first asked for."""
        if self.known is None:
            self.known = self._sampled()
        return self.known

    def _sampled(self) -> KnownHazard:
        point_N = self.plan.footprints.representative
        table = sample_hazard(
            shapely.get_x(point_N),
            shapely.get_y(point_N),
            self.plan.run.hazard,
            self.plan.run.storage_options,
        )
        self._add_issues(table.issues)
        model = self.plan.hazard_model
        evidence = hazard_evidence(model, table.values) if model is not None else None
        self._add_issues(evidence.issues if evidence is not None else ())
        return KnownHazard(table=table, evidence=evidence)

    def _add_issues(self, issues: Iterable[Issue]) -> None:
        for issue in issues:
            self.issues.append(issue)
            self.events(_quarantined(issue))


def _quarantined(issue: Issue) -> Event:
    return InputQuarantined(
        subject=issue.subject,
        kind=issue.kind,
        cause=issue.cause,
        attempts=issue.attempts,
        retryable=issue.retryable,
    )


def _view_failures(plan: Plan, prepared: Prepared) -> dict[tuple[int, int], str]:
    failures = {}
    for view, epsg in {(u.view, u.cell.epsg) for u in plan.units}:
        if failure := prepared.view_failure(plan.views[view], epsg):
            failures[view, epsg] = failure
    return failures


def _imaged(plan: Plan) -> BaseGeometry:
    """Ground the post scenes in use show, EPSG:4326."""
    scenes = {v.post.id: v.post for v in plan.views}
    if not scenes:
        return Polygon()
    union: BaseGeometry = shapely.union_all([scene_extent(s) for s in scenes.values()])
    return union
