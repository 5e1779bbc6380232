"""What travels to a worker: plain values that say what to read, score and commit.

A run has one or several jobs. A job is a kind of scoring with its bundle. The unit of work is one
(cell, view) of one job. Units of several jobs on the same (cell, view) travel together, so that
their pixels are read once.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.domain import Grid, Scene, Shift, View, Window
from quakestream.engines import EngineSpec
from quakestream.raster.masks import CoarseQuality
from quakestream.raster.pasting import bounds_in, parts_in
from quakestream.raster.statistics import SceneStatistics
from quakestream.raster.tiles import TileSurvey
from quakestream.storage import StorageOptions
from quakestream.tiling import Cell, Lattice

if TYPE_CHECKING:
    from quakestream.pipeline.kinds.base import Kind
    from quakestream.pipeline.kinds.units import Unit

CELL_VERSION = 6
"""Raised whenever the same input would give another tally: old commits are then not reused."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkerScene:
    """A scene as a worker needs it."""

    scene: Scene
    """Of an acquisition, the tiles that the unit may read."""
    statistics: SceneStatistics
    qualities: tuple[tuple[str, CoarseQuality], ...]
    """Clouds and snow around the unit, with the CRS (WKT) they are given in. A scene has one
    entry, an acquisition one for each of its sheets."""

    @property
    def clear(self) -> bool:
        return all(quality.clear for _, quality in self.qualities)

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from others of its run. One file may be read in two orders of bands."""
        return (*self.scene.version, *(tile.href for tile in self.scene.tiles))

    def around(self, grid: Grid, window: Window) -> "WorkerScene":
        """The scene with those tiles alone that may show a window, and their clouds.

        Thousands of tiles stay with the driver.
        """
        if not self.scene.tiles:
            return self
        tiles = parts_in(self.scene, grid, window) or self.scene.tiles[:1]
        near = tuple(
            (crs, quality.around(bounds_in(tiles, crs))) for crs, quality in self.qualities
        )
        scene = replace(self.scene, tiles=tiles)
        return WorkerScene(scene=scene, statistics=self.statistics, qualities=near)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitTask:
    """One (cell, view) of one job, ready to read."""

    key: str
    """Digest of everything the result depends on."""
    job: int
    """Index of the job in `WorkerSpec.jobs`."""
    cell: Cell
    view_id: str
    post: WorkerScene
    pre: WorkerScene | None
    window_W2: NDArray[np.int64]
    """Lattice (row, col) of the windows."""
    shifts: tuple[Shift, ...]
    """Pre-to-post shift of each window; where crops are scored, of each footprint's crop."""
    building_F: tuple[str, ...]
    polygon_F: NDArray[np.object_]
    """Outlines in the cell's CRS."""
    hazard_FM: NDArray[np.float32]
    """Hazard values as the bundle takes them, NaN where missing; no columns if it takes none."""
    joint_W: NDArray[np.bool_] | None = None
    """True for windows that other views show a part of, too; None: the kind does not ask."""

    @property
    def scenes(self) -> dict[str, WorkerScene]:
        """Scenes by epoch."""
        return {"post": self.post} if self.pre is None else {"post": self.post, "pre": self.pre}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellTask:
    """Units of several jobs that see the same (cell, view); most runs have one job."""

    parts: tuple[UnitTask, ...]
    km2: float
    """Ground that is scored; ground that several jobs score counts once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupTask:
    """A commit group: cells that are committed together, one object per job."""

    name: str
    cells: tuple[CellTask, ...]

    @property
    def units(self) -> tuple[UnitTask, ...]:
        return tuple(part for cell in self.cells for part in cell.parts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobSpec:
    """One job of a run as workers need it: what is scored, with which bundle and engine."""

    kind: "Kind"
    bundle: Bundle
    engine: EngineSpec
    cell_windows: int
    """Side of a cell, windows."""

    def lattice(self, cell: Cell) -> Lattice:
        return self.kind.lattice(self.bundle.spec, cell.grid, self.cell_windows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkerSpec:
    """What every worker of a run receives once. Nothing in it is open."""

    jobs: tuple[JobSpec, ...]
    options: StorageOptions
    ledger_uri: str
    """Where the run writes: its output."""
    threads: int = 0
    """CPU threads of one engine; 0 leaves the number to its runtime."""
    tile_store: str | None = None
    """The tile store that scenes are read from, if the run has one."""
    readers: int = 2
    """Threads that read beside an engine."""
    group_cells: int = 1
    """Cells of a commit group."""
    readers_wanted: int = 1
    """Reading cores that keep one engine busy, by the plan's rates."""
    objects: tuple[str, ...] = ()
    """Objects that every worker must be able to read: of each bucket one, and one of the output."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitFootprints:
    """The footprints of one unit."""

    ids: list[str]
    polygon_F: NDArray[np.object_]
    """Outlines in the cell's CRS."""
    hazard_FM: NDArray[np.float32]
    """Hazard values as the bundle takes them."""

    @property
    def digests(self) -> list[str]:
        """Digest of the outlines, and of the hazard values if there are any."""
        parts = [b"".join(shapely.to_wkb(self.polygon_F))]
        if self.hazard_FM.shape[1]:  # every NaN counts alike
            parts.append(np.where(np.isnan(self.hazard_FM), np.nan, self.hazard_FM).tobytes())
        return [hashlib.sha256(part).hexdigest() for part in parts]


def unit_key(
    unit: "Unit", view: View, footprints: UnitFootprints, model: str, tiles: TileSurvey
) -> str:
    """Digest of what a unit's result depends on, and of nothing else in the run.

    A scene counts by its `version`: statistics, masks and shifts are functions of that and of
    `CELL_VERSION`. A tile store counts where its pixels may differ from the scene's in the last
    bits.

    Args:
        model: identity of kind, bundle, runtime and batch.
    """
    views = [s for s in (view.post, view.pre) if s is not None]
    tokens = [_token(s, unit.cell.grid, tiles) for s in views]
    scenes = [(*s.version, *filter(None, [t])) for s, t in zip(views, tokens, strict=True)]
    content = [
        CELL_VERSION,
        unit.cell.id,
        unit.window_W2.tolist(),
        view.id,
        scenes,
        footprints.ids,
        *footprints.digests,
        model,
    ]
    if unit.joint_W is not None and unit.joint_W.any():
        content.append(unit.joint_W.tolist())
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _token(scene: Scene, grid: Grid, tiles: TileSurvey) -> str:
    return " ".join(filter(None, (tiles.token(part, grid) for part in scene.parts)))


def group_name(keys: list[str]) -> str:
    """Name of the commit object of these units when all of them are complete."""
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()[:32]
