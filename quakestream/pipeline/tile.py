"""`quakestream tile`: a tile store of the scenes a plan uses."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from quakestream.config import RunFile
from quakestream.domain import Grid, Issue, Scene
from quakestream.errors import InputError
from quakestream.events import Events, InputQuarantined, Observer, SceneTiled, StageStarted
from quakestream.pipeline.planning.jobs import RunBundles
from quakestream.pipeline.planning.plan import Plan, plan_for
from quakestream.pipeline.planning.scenes import used_scenes
from quakestream.raster.tiles import (
    TileEntry,
    drop_entry,
    read_entry,
    write_entry,
    write_root,
)
from quakestream.raster.tiles.entries import REFERENCES, ROOT_KEY, Kind
from quakestream.raster.tiles.references import make_references
from quakestream.raster.tiles.stored import Scheduler, write_stored
from quakestream.redaction import redacted_tree
from quakestream.storage import StorageOptions, Store, open_store
from quakestream.storage.uris import one_of_each_bucket

Status = Literal["written", "kept", "refused", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TileSettings:
    """Settings of `tile_run`."""

    virtual: bool = False
    """Write references to the scenes' own blocks instead of tiles."""
    or_stored: bool = False
    """Write tiles for scenes that cannot be virtual."""
    fresh: bool = False
    """Write scenes again that the store has already."""
    scheduler: Scheduler = "threads"
    check_workers: Callable[[tuple[str, ...], StorageOptions], None] | None = None
    """Raises unless every worker of the scheduler can read these objects; None: no need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneTiles:
    """The tiles of one scene, or why there are none."""

    scene: str
    status: Status
    kind: Kind | None
    grids: tuple[str, ...]
    exact: bool
    """True if `map` reads the same from the store as from the scene, to the last bit."""
    seconds: float
    reason: str = ""
    """Why it was refused or failed, or why it is stored although virtual was requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileReport:
    """The scenes of a store."""

    store: str
    scenes: tuple[SceneTiles, ...]
    issues: tuple[Issue, ...]
    """Problems of the inputs, and scenes that are not in the store."""


def tile_run(
    run: RunFile,
    store_uri: str,
    settings: TileSettings | None = None,
    observers: Iterable[Observer] = (),
) -> TileReport:
    """Writes a run's tile store, or completes it. Scenes that it has in this version are kept.

    Raises:
        RequestError: the request is wrong; nothing was written.
        StorageError: the store cannot be written; scenes that were finished stay.
        ClusterError: a machine of the cluster cannot read what this one can.
        MissingExtraError: if the extra `tiles` is not installed.
    """
    events = Events(list(observers))
    events(StageStarted(name="plan"))
    plan = plan_for(without_store(run), RunBundles.of(run))
    store = open_store(store_uri, run.storage_options)
    write_root(store)
    settings = settings or TileSettings()
    scenes = scenes_with_grids(plan)
    if settings.check_workers is not None:
        objects = (*one_of_each_bucket(s.href for s, _ in scenes), store.uri_of(ROOT_KEY))
        settings.check_workers(objects, run.storage_options)
    maker = _Maker(plan=plan, store=store, settings=settings)
    events(StageStarted(name="tile"))
    done, issues = [], list(plan.problems)
    for scene, grids in scenes:
        tiles = maker.make(scene, grids)
        done.append(tiles)
        if tiles.status in ("refused", "failed"):
            issues.append(Issue(subject=scene.id, kind="scene", cause=tiles.reason))
            events(InputQuarantined(subject=scene.id, kind="scene", cause=tiles.reason))
        else:
            events(SceneTiled(subject=scene.id, cached=tiles.status == "kept"))
    return TileReport(store=store.uri, scenes=tuple(done), issues=tuple(issues))


def without_store(run: RunFile) -> RunFile:
    """The run without its tile store, which may not exist yet."""
    imagery = run.imagery.model_copy(update={"store": None})
    return run.model_copy(update={"imagery": imagery})


def scenes_with_grids(plan: Plan) -> list[tuple[Scene, tuple[Grid, ...]]]:
    """The scenes that a plan reads, each with all grids that it is read on."""
    scenes: dict[str, Scene] = {}
    grids: dict[str, list[Grid]] = {}
    for scene, grid in used_scenes(plan.units, plan.views):
        scenes[scene.id] = scene
        grids.setdefault(scene.id, []).append(grid)
    return [(scene, tuple(sorted(grids[i]))) for i, scene in sorted(scenes.items())]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Maker:
    """Writes scenes one by one. A scene that cannot be written is reported as refused or failed."""

    plan: Plan
    store: Store
    settings: TileSettings

    def make(self, scene: Scene, grids: tuple[Grid, ...]) -> SceneTiles:
        began = time.perf_counter()
        if scene.layers:
            reason = (
                "a scene of reflectance: tile stores hold red, green and blue; it is read directly"
            )
            return _failed(scene, "refused", reason, began)
        if entry := self._existing(scene, grids):
            return _of(entry, "kept", began)
        drop_entry(self.store, scene.id)
        reason = ""
        if self.settings.virtual:
            try:
                return _of(self._virtual(scene, grids), "written", began)
            except InputError as error:
                reason = str(error)
                if not self.settings.or_stored:
                    return _failed(
                        scene, "refused", f"{reason}; add --or-stored to write its tiles", began
                    )
        try:
            return _of(self._stored(scene, grids), "written", began, reason)
        except InputError as error:
            return _failed(scene, "failed", str(error), began)

    def _existing(self, scene: Scene, grids: tuple[Grid, ...]) -> TileEntry | None:
        entry = None if self.settings.fresh else read_entry(self.store, scene.id)
        if entry is None or entry.refusal(scene) is not None:
            return None
        kind = "virtual" if self.settings.virtual else "stored"
        fits = entry.kind == kind or self.settings.or_stored
        return entry if fits and all(entry.on(g) for g in grids) else None

    def _virtual(self, scene: Scene, grids: tuple[Grid, ...]) -> TileEntry:
        references = make_references(scene, grids, self.store.options)
        key = f"{references.entry.group}/{REFERENCES}"
        # the right to read a signed URL is not kept: who reads the tiles names the scene
        content = {
            **references.content,
            "templates": redacted_tree(references.content["templates"]),
        }
        self.store.put(key, json.dumps(content, separators=(",", ":")).encode())
        write_entry(self.store, references.entry)
        return references.entry

    def _stored(self, scene: Scene, grids: tuple[Grid, ...]) -> TileEntry:
        entry = write_stored(
            scene,
            grids,
            self.store,
            scheduler=self.settings.scheduler,
            workers=self.plan.run.profile_settings.readers,
        )
        write_entry(self.store, entry)
        return entry


def _of(entry: TileEntry, status: Status, began: float, reason: str = "") -> SceneTiles:
    return SceneTiles(
        scene=entry.scene_id,
        status=status,
        kind=entry.kind,
        grids=tuple(g.name for g in entry.grids),
        exact=all(g.exact for g in entry.grids),
        seconds=round(time.perf_counter() - began, 3),
        reason=reason,
    )


def _failed(scene: Scene, status: Status, reason: str, began: float) -> SceneTiles:
    return SceneTiles(
        scene=scene.id,
        status=status,
        kind=None,
        grids=(),
        exact=False,
        seconds=round(time.perf_counter() - began, 3),
        reason=reason,
    )


def report_json(report: TileReport) -> dict[str, Any]:
    """The report as a JSON object."""
    return {
        "store": report.store,
        "scenes": [
            {
                "scene": s.scene,
                "status": s.status,
                "kind": s.kind,
                "grids": list(s.grids),
                "exact": s.exact,
                "seconds": s.seconds,
                "reason": s.reason or None,
            }
            for s in report.scenes
        ],
        "issues": [{"subject": i.subject, "kind": i.kind, "cause": i.cause} for i in report.issues],
    }
