"""The prepare stage: what must be known of scenes and pairs before their cells are read.

Results are kept in the ledger, so that a run that is resumed does not repeat them.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from affine import Affine

from quakestream.domain import Grid, Issue, Scene, Shift, View, Window, sheets_of
from quakestream.errors import QuakestreamError, StorageError
from quakestream.outputs.layout import PREPARED
from quakestream.pipeline.work.tile_faults import faulty_tiles, read_through
from quakestream.raster.coregistration import BOUND_M, NODE_GSD_M, PairShifts, find_shifts
from quakestream.raster.masks import CoarseQuality
from quakestream.raster.prepare import PreparedScene, prepare_scene
from quakestream.raster.statistics import SceneStatistics
from quakestream.storage import StorageOptions, Store
from quakestream.storage.seals import sealed, unsealed
from quakestream.tiling import project

PREPARE_VERSION = 7
_FAILURES = (QuakestreamError, OSError, MemoryError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrepareScene:
    """Finds the statistics and coarse masks of one scene."""

    scene: Scene
    options: StorageOptions

    @property
    def key(self) -> str:
        return _key("scene", *self.scene.version)

    def run(self) -> PreparedScene:
        """Needs every block of tiles: one of which nothing can be read would not be noticed."""
        return prepare_scene(self.scene, self.options, patchy=not self.scene.tiles)

    def around_lost_blocks(self) -> PreparedScene:
        """The tiles, without blocks that are lost for good."""
        return prepare_scene(self.scene, self.options)

    def faulty(self) -> tuple[Issue, ...]:
        """Tiles that cannot be opened, or of which nothing can be read."""
        return faulty_tiles([self.scene], lambda tile: prepare_scene(tile, self.options))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparePair:
    """Measures the shifts of one pair on one zone's grid."""

    view: View
    pre: Scene
    """The view's pre scene."""
    epsg: int
    area: Window
    """What both scenes show, pixels of the zone's 1 m grid."""
    options: StorageOptions

    @property
    def key(self) -> str:
        scenes = (self.view.post, self.pre)
        return _key("pair", str(self.epsg), *(v for s in scenes for v in s.version))

    def run(self) -> PairShifts:
        grid = Grid(epsg=self.epsg, gsd_m=NODE_GSD_M)
        return find_shifts(self.view.post, self.pre, grid, self.area, self.options)

    def faulty(self) -> tuple[Issue, ...]:
        """Tiles that cannot be opened, or of which a part in the area did not arrive."""
        grid = Grid(epsg=self.epsg, gsd_m=NODE_GSD_M)
        return faulty_tiles(
            self.view.scenes, lambda tile: read_through(tile, grid, self.area, self.options)
        )


PrepareStep = PrepareScene | PreparePair
Each = Callable[
    [Callable[[PrepareStep], Any], list[PrepareStep]], Iterator[tuple[PrepareStep, Any]]
]
"""Runs a function over steps on a backend; yields each step with its result, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LostTiles:
    """A step failed, and these tiles of an acquisition are why."""

    issues: tuple[Issue, ...]


@dataclass(slots=True)
class Prepared:
    """Results by scene version and by (view, zone), and the steps that failed."""

    scenes: dict[tuple[str, ...], PreparedScene] = field(default_factory=dict)
    shifts: dict[tuple[str, int], PairShifts] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    """Ids of tiles without which their acquisitions can be prepared."""
    damaged: list[str] = field(default_factory=list)
    """Objects of the ledger that could not be believed and were made again."""

    def sheets(self, scene: Scene) -> list[tuple[Scene, PreparedScene]]:
        """The sheets of a scene, most have one, with what was found of each."""
        return [(sheet, self.scenes[sheet.version]) for sheet in sheets_of(scene)]

    def view_failure(self, view: View, epsg: int) -> str | None:
        """Why a view cannot be used in a zone: `read_error`, `misaligned` or None."""
        sheets = [sheet for scene in view.scenes for sheet in sheets_of(scene)]
        if any(s.version not in self.scenes for s in sheets):
            return "read_error"
        if view.pre is not None and not view.post.layers:
            shifts = self.shifts.get((view.id, epsg))
            if shifts is None:
                return "read_error"
            if shifts.refused:
                return "misaligned"
        return None


def steps_for(
    views: Iterable[tuple[View, int]], options: StorageOptions, extent_of: Callable[[Scene], Any]
) -> list[PrepareStep]:
    """The steps for views in their zones: one per scene and one per (pair, zone)."""
    steps: dict[str, PrepareStep] = {}
    for view, epsg in views:
        for sheet in (sheet for scene in view.scenes for sheet in sheets_of(scene)):
            step = PrepareScene(scene=sheet, options=options)
            steps.setdefault(step.key, step)
        if view.pre is not None and not view.post.layers:  # one sensor, on its own lattice
            shared = extent_of(view.post).intersection(extent_of(view.pre))
            bounds = project(np.array([shared], object), epsg)[0].bounds
            area = Grid(epsg=epsg, gsd_m=NODE_GSD_M).window(*bounds)
            pair = PreparePair(view=view, pre=view.pre, epsg=epsg, area=area, options=options)
            steps.setdefault(pair.key, pair)
    return list(steps.values())


def run_step(step: PrepareStep) -> PreparedScene | PairShifts | LostTiles | Issue:
    """Runs one step. A failure becomes an issue, or one for each tile that causes it."""
    try:
        return step.run()
    except _FAILURES as error:
        failure = error
    if faulty := step.faulty():
        return LostTiles(issues=faulty)
    if isinstance(step, PrepareScene) and step.scene.tiles:
        try:
            return step.around_lost_blocks()
        except _FAILURES as error:
            failure = error
    subject = step.scene.id if isinstance(step, PrepareScene) else step.view.post.id
    return Issue(subject=subject, kind="scene", cause=str(failure), retryable=True)


def prepare(
    steps: list[PrepareStep],
    store: Store,
    each: Each,
) -> Prepared:
    """Runs the steps that the ledger does not hold yet.

    Args:
        store: the output of the run, where results are kept.
        each: runs steps on a backend.
    """
    prepared = Prepared()
    known = set(store.list(PREPARED))
    todo: list[PrepareStep] = []
    for step in steps:
        result = _load(store, step) if step.key in known else None
        if result is not None:
            _keep(prepared, step, result)
            continue
        todo.append(step)
        if step.key in known:
            prepared.damaged.append(step.key)
    for step, result in each(run_step, todo):
        _keep(prepared, step, result)
        if not isinstance(result, (Issue, LostTiles)):
            store.put(step.key, sealed(step.key, _dump(result)))
    return prepared


def _keep(prepared: Prepared, step: PrepareStep, result: Any) -> None:
    if isinstance(result, Issue):
        prepared.issues.append(result)
    elif isinstance(result, LostTiles):
        prepared.issues += result.issues
        prepared.lost |= {issue.subject for issue in result.issues}
    elif isinstance(step, PrepareScene):
        prepared.scenes[step.scene.version] = result
    else:
        prepared.shifts[step.view.id, step.epsg] = result
        if result.refused:
            metres = result.pair.metres(NODE_GSD_M)
            cause = (
                f"pre image lies {metres:.0f} m off the post image "
                f"({result.pair.rows} m in rows, {result.pair.cols} m in columns; bound "
                f"{BOUND_M:g} m): its buildings are misaligned"
            )
            prepared.issues.append(Issue(subject=step.view.id, kind="pair", cause=cause))


def _key(*parts: str) -> str:
    digest = hashlib.sha256(json.dumps([PREPARE_VERSION, *parts]).encode()).hexdigest()
    return f"{PREPARED}{parts[0]}-{digest[:32]}.npz"


def _dump(result: PreparedScene | PairShifts) -> bytes:
    sink = BytesIO()
    if isinstance(result, PreparedScene):
        np.savez_compressed(
            sink,
            mean=result.statistics.mean_B,
            std=result.statistics.std_B,
            blocks=result.quality.block_YX,
            transform=tuple(result.quality.transform)[:6],
            pixels=result.pixels,
        )
    else:
        np.savez_compressed(
            sink,
            pair=(result.pair.rows, result.pair.cols, result.pair.quality),
            refused=result.refused,
            epsg=result.grid.epsg,
            first=result.first,
            nodes=result.node_IL3,
        )
    return sink.getvalue()


def _load(store: Store, step: PrepareStep) -> PreparedScene | PairShifts | None:
    """The result an earlier run left; None where it cannot be read, so that it is made again."""
    try:
        content = unsealed(step.key, store.get(step.key))
        if content is None:
            return None
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return _scene_of(arrays) if isinstance(step, PrepareScene) else _shifts_of(arrays)
    except (StorageError, ValueError, KeyError, OSError):
        return None


def _scene_of(arrays: Any) -> PreparedScene:
    return PreparedScene(
        statistics=SceneStatistics(
            mean_B=tuple(arrays["mean"].tolist()), std_B=tuple(arrays["std"].tolist())
        ),
        quality=CoarseQuality(
            block_YX=arrays["blocks"], transform=Affine(*arrays["transform"].tolist())
        ),
        pixels=int(arrays["pixels"]),
    )


def _shifts_of(arrays: Any) -> PairShifts:
    rows, cols, quality = arrays["pair"].tolist()
    return PairShifts(
        pair=Shift(rows=int(rows), cols=int(cols), quality=quality),
        refused=bool(arrays["refused"]),
        grid=Grid(epsg=int(arrays["epsg"]), gsd_m=NODE_GSD_M),
        first=(int(arrays["first"][0]), int(arrays["first"][1])),
        node_IL3=arrays["nodes"],
    )
