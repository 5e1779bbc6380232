"""The main job, all stages in sight: plan, prepare, map, reduce, publish."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.catalog import scene_extent
from quakestream.config import RunFile
from quakestream.config.shares import ShareLayer
from quakestream.domain import Issue
from quakestream.errors import ConfigError, LedgerError, RequestError
from quakestream.events import (
    Events,
    GroupCommitted,
    InputQuarantined,
    MapPublished,
    Observer,
    OutputNotice,
    PlanReady,
    StageStarted,
)
from quakestream.hazard import model_inputs, sample_hazard, takes_events
from quakestream.outputs.layout import INTERIM, LEASE, LEDGER
from quakestream.outputs.lease import Lease, held_lease
from quakestream.outputs.notebook import facts_html
from quakestream.outputs.publish import as_published
from quakestream.outputs.readback import current_buildings, current_run
from quakestream.outputs.snapshots import drop_interim
from quakestream.pipeline.backends.protocol import Backend
from quakestream.pipeline.interim import (
    STOP_S,
    InterimMaps,
    interim_line,
    interim_record,
    may_publish_interim,
    published_snapshot,
)
from quakestream.pipeline.planning.lost import without_tiles
from quakestream.pipeline.planning.plan import Plan, make_plan
from quakestream.pipeline.planning.tasks import (
    KeyedGroup,
    Pending,
    TaskMaker,
    keyed_groups,
    pending_work,
    worker_spec,
)
from quakestream.pipeline.result.answered import AnsweredFootprints
from quakestream.pipeline.result.context import (
    FootprintHazard,
    KindProducts,
    ViewFailures,
)
from quakestream.pipeline.result.evidence import hazard_evidence
from quakestream.pipeline.result.making import publish_map, run_products
from quakestream.pipeline.result.progress import ProgressFile
from quakestream.pipeline.result.record import WorkDone, made_of, run_id, run_record
from quakestream.pipeline.result.shares import check_share_layer
from quakestream.pipeline.result.unread import (
    check_ground_was_read,
    check_something_is_shown,
    check_something_was_read,
    check_verdicts_stay,
)
from quakestream.pipeline.result.unread_units import UnreadUnits
from quakestream.pipeline.work.prepare import Prepared, prepare, steps_for
from quakestream.pipeline.work.results import GroupReport
from quakestream.pipeline.work.tasks import GroupTask
from quakestream.storage import Store, open_store

MADE_AGAIN = "damaged, and made again"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Result:
    """A finished map."""

    out: str
    run: dict[str, Any]
    """run.json."""
    issues: tuple[Issue, ...]
    store: Store
    unchanged: bool = False
    """True if the published map was left as it is, since nothing is new."""
    removed: tuple[str, ...] = ()
    """Formats that an earlier map was exported to; their files were of that map and are gone."""
    not_used: tuple[str, ...] = ()
    """Images after the event that show no building better than others do."""

    @property
    def buildings(self) -> gpd.GeoDataFrame:
        """buildings.parquet, read back from the snapshot."""
        return current_buildings(self.store, self.run)

    def __repr__(self) -> str:
        counts = self.run["counts"]
        return (
            f"<map {self.run['run_id']}: {counts['assessed']:,} of {counts['footprints']:,} "
            f"footprints assessed, at {self.out}>"
        )

    def _repr_html_(self) -> str:
        counts = self.run["counts"]
        facts: list[tuple[str, object]] = [
            ("footprints", counts["footprints"]),
            *counts["damage"].items(),
            *((f"not assessed: {reason}", n) for reason, n in counts["reasons"].items()),
            ("inputs that need attention", len(self.issues)),
        ]
        return facts_html(f"Map of {self.run['event']['id']}", facts)


def map_run(
    run: RunFile,
    *,
    backend: Backend,
    out: str | None = None,
    fresh: bool = False,
    only_new: bool = False,
    observers: Iterable[Observer] = (),
) -> Result:
    """Makes the map. Called again with the same `out`, it resumes.

    Args:
        run: the request.
        backend: where stages run.
        out: where the map is written, in place of `run.out`.
        fresh: discard what earlier runs committed.
        only_new: leave a published map as it is where inputs, models and request are the same.
        observers: are told of the run's events.

    Raises:
        RequestError: the request is wrong; nothing was started.
        StorageError: `out` cannot be written, or another run writes there; finished work stays.
        NothingReadError: no footprint could be read, or none was assessed where a map with verdicts
            is published; it stays as it is.
    """
    target = out or run.out
    if target is None:
        raise ConfigError("no output is named", "out", remedy="give `out` in the run file or --out")
    events = Events([*observers, *backend.observers])
    backend.listen(events)
    events(StageStarted(name="plan"))
    plan = make_plan(run, backend.pick)
    if plan.judges and not plan.units:
        check_something_is_shown(plan.assignment.reason_N, plan.problems)
    store = open_store(target, run.storage_options)
    with held_lease(store, lambda text: events(OutputNotice(text=text))) as lease:
        if fresh:
            for key in store.list(LEDGER):
                if not key.startswith(LEASE):
                    store.delete(key)
        run_now = _MapRun(plan=plan, store=store, events=events, backend=backend, lease=lease)
        return run_now.finish(only_new=only_new)


@dataclass(slots=True, kw_only=True)
class _MapRun:
    """One run while it goes on."""

    plan: Plan
    store: Store
    events: Events
    backend: Backend
    lease: Lease
    work: WorkDone = field(default_factory=WorkDone)
    issues: list[Issue] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    answered: AnsweredFootprints = field(init=False)
    sampled: FootprintHazard | None = None
    """Hazard values of the footprints, once they were needed."""

    def finish(self, *, only_new: bool = False) -> Result:
        plan, store = self.plan, self.store
        self._add_issues(plan.problems)
        if isinstance(plan.run.models.share, ShareLayer):
            check_share_layer(plan, self._hazard().table)
        hazard_NM = self._model_inputs()
        groups = keyed_groups(plan, hazard_NM)
        pending = pending_work(store, plan, groups)
        self._announce(pending, len(groups))
        if only_new and not pending.groups and self._is_published():
            return self._published(unchanged=True)

        spec = worker_spec(plan, store.uri, self.lease.uri)
        begun = bool(pending.groups)
        if begun:
            self.backend.begin(spec)
        prepared = self._prepare()
        while prepared.lost:
            self.plan = plan = without_tiles(plan, prepared.lost)
            groups = keyed_groups(plan, hazard_NM)
            pending = pending_work(store, plan, groups)
            self.work.resumed = len(plan.units) - pending.units
            if pending.groups and not begun:
                self.backend.begin(spec)
                begun = True
            prepared = self._prepare()
        failures = _view_failures(plan, prepared)

        tasks = TaskMaker(plan=plan, prepared=prepared, spec=spec, hazard_NM=hazard_NM)
        products = self._map_and_reduce(tasks, pending, groups, failures)
        self._add_issues(products.issues)

        if plan.judges and products.buildings is not None:
            reasons = products.buildings["reason"].to_list()
            check_something_was_read(reasons, self.issues)
            check_verdicts_stay(reasons, self._published_run(), self.issues)
        elif products.coverage is not None:
            check_ground_was_read(products.coverage, self.issues)
        self.events(StageStarted(name="publish"))
        snapshot = self._publish(products, self.issues, "update" if only_new else "map")
        drop_interim(store, keep=())
        self.events(MapPublished(out=store.uri, snapshot=snapshot))
        return self._published()

    def _announce(self, pending: Pending, groups: int) -> None:
        plan = self.plan
        self.work.resumed = len(plan.units) - pending.units
        self.answered = AnsweredFootprints(plan, pending)
        progress = ProgressFile(store=self.store, plan=plan, commits=len(pending.commits[0]))
        self.events.observers.append(progress)
        self.events(
            PlanReady(
                run_id=run_id(plan),
                cells=len(plan.units),
                cells_done=self.work.resumed,
                km2=plan.km2,
                footprints=len(plan.footprints.table),
                km2_done=self.answered.km2_done,
                buildings=self.answered.total,
                buildings_done=self.answered.done,
                groups=groups,
                groups_done=groups - len(pending.groups),
            )
        )

    def _prepare(self) -> Prepared:
        """Prepares the scenes and pairs of every view; a step that failed before runs again.

        Views without pending units are looked up too, since a refused pair has none. What the
        ledger holds costs nothing.
        """
        self.events(StageStarted(name="prepare"))
        began = time.perf_counter()
        plan = self.plan
        views = dict.fromkeys((u.view, u.cell.epsg) for u in plan.units)
        steps = steps_for(
            [(plan.views[v], epsg) for v, epsg in views], plan.run.storage_options, scene_extent
        )
        prepared = prepare(steps, self.store, self.backend.each)
        self._add_issues(prepared.issues)
        self.work.notes += [f"{MADE_AGAIN}: {key}" for key in prepared.damaged]
        self.work.prepare_s = time.perf_counter() - began
        return prepared

    def _map_and_reduce(
        self,
        tasks: TaskMaker,
        pending: Pending,
        groups: list[KeyedGroup],
        failures: ViewFailures,
    ) -> KindProducts:
        """Does what is left and reduces it. Units of damaged commits are done again.

        Raises:
            LedgerError: if what was written now is damaged, too.
        """
        damaged: frozenset[str] = frozenset()
        written: frozenset[str] = frozenset()
        while True:
            self._map(tasks, pending, groups, failures)
            written |= damaged & set().union(*pending.commits)
            self.events(StageStarted(name="reduce"))
            try:
                return self._reduce(groups, pending.commits, failures)
            except LedgerError as error:
                if error.keys & written or error.keys <= damaged:
                    raise
                self.work.notes += [f"{MADE_AGAIN}: {key}" for key in sorted(error.keys - damaged)]
                damaged |= error.keys
            pending = pending_work(self.store, self.plan, groups, damaged - written)
            self.work.resumed = min(self.work.resumed, len(self.plan.units) - pending.units)

    def _map(
        self,
        tasks: TaskMaker,
        pending: Pending,
        groups: list[KeyedGroup],
        failures: ViewFailures,
    ) -> None:
        """Reads, scores and commits what is left; adds the new commits to `pending`."""
        self.events(StageStarted(name="map"))
        began = time.perf_counter()
        interim = self._interim_maps(pending, groups, failures)
        todo = _group_tasks(tasks, pending.groups, failures)
        try:
            for report in self.backend.run(tasks.spec, todo):
                for job, key in report.commits:
                    pending.commits[job].add(key)
                self.work.add(report)
                self.events(_committed(report, self.answered.newly(report.keys)))
                interim.committed(report.keys)
        except BaseException:
            interim.close(wait_s=STOP_S)
            raise
        interim.close()
        self.work.map_s += time.perf_counter() - began

    def _interim_maps(
        self, pending: Pending, groups: list[KeyedGroup], failures: ViewFailures
    ) -> InterimMaps:
        """Publishes what is read so far, where no finished map would be replaced."""

        def make(unread: UnreadUnits, check: Callable[[], None]) -> str:
            commits = [set(keys) for keys in pending.commits]
            products = self._reduce(groups, commits, failures, unread)
            check()
            before = published_snapshot(self.store)
            issues = [*self.issues, *products.issues]
            snapshot = self._publish(products, issues, "interim map", unread, check)
            drop_interim(self.store, keep=(before, snapshot))
            return interim_line(products, self.store)

        every_s = self.plan.run.profile_settings.interim_s
        wanted = every_s and pending.groups and may_publish_interim(self.store)
        return InterimMaps(
            every_s=every_s if wanted else 0.0,
            unread=UnreadUnits(pending.groups, failures),
            make=make,
            tell=lambda text: self.events(OutputNotice(text=text)),
            before=self._hazard,  # its events come from one thread
        )

    def _reduce(
        self,
        groups: list[KeyedGroup],
        commits: list[set[str]],
        failures: ViewFailures,
        unread: UnreadUnits | None = None,
    ) -> KindProducts:
        """What the jobs publish, joined, with all their issues.

        Args:
            unread: what an interim map lacks; None for the finished one.
        """
        return run_products(
            self.store,
            self.plan,
            self._hazard(),
            groups=groups,
            commits=commits,
            view_failures=failures,
            unread=unread,
        )

    def _publish(
        self,
        products: KindProducts,
        issues: Iterable[Issue],
        made_by: str,
        unread: UnreadUnits | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> str:
        """Publishes a map and returns the id of its snapshot.

        Args:
            issues: all of the run so far.
            made_by: what makes it, for run.json.
            unread: what an interim map lacks; None for the finished one.
            check: raises where the map is not needed any more.
        """

        def may_go_on() -> None:
            check()
            self.lease.check()

        record = run_record(self.plan, self.work, self._hazard(), self.backend.name)
        record["made_by"] = made_by
        if unread is not None:
            record[INTERIM] = interim_record(products, unread)
        args = (self.store, self.plan, record, products, issues, may_go_on)
        return publish_map(*args, removed=self.removed.extend)

    def _published(self, *, unchanged: bool = False) -> Result:
        return Result(
            out=self.store.uri,
            run=current_run(self.store),
            issues=tuple(dict.fromkeys(self.issues)),
            store=self.store,
            unchanged=unchanged,
            removed=tuple(self.removed),
            not_used=self.plan.not_used,
        )

    def _published_run(self) -> dict[str, Any]:
        """run.json of the map that is there; empty where there is none."""
        try:
            return current_run(self.store)
        except RequestError:
            return {}

    def _is_published(self) -> bool:
        """True if a map of the same request, models and inputs is published already."""
        published = self._published_run()
        if not published or INTERIM in published:
            return False
        made = run_record(self.plan, self.work, self._hazard(), self.backend.name)
        return made_of(as_published(made)) == made_of(published)

    def _model_inputs(self) -> NDArray[np.float32]:
        """Hazard values that the damage bundle itself takes: its units depend on them."""
        spec = self.plan.bundle.spec
        if not spec.hazard:
            return np.empty((len(self.plan.footprints.table), 0), np.float32)
        return model_inputs(self._hazard().table.values, spec)

    def _hazard(self) -> FootprintHazard:
        """Samples hazard values when they are first needed."""
        if self.sampled is None:
            self.sampled = self._sample_hazard()
        return self.sampled

    def _sample_hazard(self) -> FootprintHazard:
        plan, point_N = self.plan, self.plan.footprints.representative
        lon_N, lat_N = shapely.get_x(point_N), shapely.get_y(point_N)
        model = plan.hazard_model
        table = sample_hazard(
            lon_N,
            lat_N,
            plan.run.hazard,
            plan.run.storage_options,
            per_event=takes_events(plan.bundle.spec, None if model is None else model.bundle.spec),
        )
        self._add_issues(table.issues)
        evidence = hazard_evidence(model, table.values) if model is not None else None
        self._add_issues(evidence.issues if evidence is not None else ())
        return FootprintHazard(table=table, evidence=evidence)

    def _add_issues(self, issues: Iterable[Issue]) -> None:
        for issue in issues:
            self.issues.append(issue)
            self.events(
                InputQuarantined(
                    subject=issue.subject,
                    kind=issue.kind,
                    cause=issue.cause,
                    attempts=issue.attempts,
                    retryable=issue.retryable,
                )
            )


def _group_tasks(
    tasks: TaskMaker, groups: list[KeyedGroup], failures: ViewFailures
) -> Iterator[GroupTask]:
    """Tasks of the groups, without units whose view cannot be used."""
    for group in groups:
        cells = (
            tuple(p for p in cell if (p.unit.view, p.unit.cell.epsg) not in failures)
            for cell in group
        )
        usable = tuple(cell for cell in cells if cell)
        if usable:
            yield tasks.group(usable)


def _committed(report: GroupReport, buildings: int) -> GroupCommitted:
    return GroupCommitted(
        name=", ".join(key for _, key in report.commits),
        cells=report.units,
        km2=report.km2,
        buildings=buildings,
        cells_failed=report.units_failed,
        mpx=report.mpx,
        read_s=report.read_s,
        score_s=report.score_s,
        spent=report.spent,
    )


def _view_failures(plan: Plan, prepared: Prepared) -> ViewFailures:
    failures = {}
    for view, epsg in {(u.view, u.cell.epsg) for u in plan.units}:
        if failure := prepared.view_failure(plan.views[view], epsg):
            failures[view, epsg] = failure
    return failures
