"""What travels to a worker: plain values that say what to read, score and commit."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.domain import BundleSpec, Grid, Scene, Shift, View
from quakestream.raster.masks import CoarseQuality
from quakestream.raster.statistics import SceneStatistics
from quakestream.raster.tiles import TileSurvey
from quakestream.storage import StorageOptions
from quakestream.tiling import Cell, Lattice

CROP_LATTICE_PX = 512
"""Side of the squares that make up a cell where crops are scored."""
CELL_VERSION = 3
"""Raised whenever the same input would give another tally: old commits are then not reused."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """One (cell, view): the scored unit, as planned."""

    cell: Cell
    view: int
    """Index into the plan's views."""
    window_W2: NDArray[np.int64]
    """Lattice (row, col) of the windows with something to score, ascending; where crops are
    scored, of those that hold the middle of one."""
    footprint_F: NDArray[np.int64]
    """Indices into the plan's footprint table, ascending."""
    scored: int
    """Windows, or crops: what the engine is asked."""
    read_px: int
    """Pixels to read of each epoch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SceneTask:
    """A scene as a worker needs it."""

    scene: Scene
    statistics: SceneStatistics
    quality: CoarseQuality


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitTask:
    """One (cell, view), ready to read."""

    key: str
    """Digest of everything the tally depends on."""
    cell: Cell
    view_id: str
    post: SceneTask
    pre: SceneTask | None
    window_W2: NDArray[np.int64]
    shift_W: tuple[Shift, ...]
    """Of each window; where crops are scored, of each footprint's crop."""
    building_F: tuple[str, ...]
    polygon_F: NDArray[np.object_]
    """Outlines in the cell's CRS."""
    hazard_FM: NDArray[np.float32]
    """Hazard values as the bundle takes them, NaN where missing; no columns if it takes none."""
    km2: float
    """Ground of the windows."""

    @property
    def scenes(self) -> dict[str, SceneTask]:
        """By epoch."""
        return {"post": self.post} if self.pre is None else {"post": self.post, "pre": self.pre}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchTask:
    """The cells of one commit object."""

    name: str
    units: tuple[UnitTask, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkerSpec:
    """What every worker of a run is told once. Nothing in it is open."""

    bundle: Bundle
    lattice_cell_windows: int
    options: StorageOptions
    ledger_uri: str
    runtime: str
    threads: int
    batch: int = 0
    """Items of the engine's runs; 0 for what suits the worker's device."""
    tile_store: str | None = None
    """Where scenes are read from when a run has a tile store."""
    readers: int = 2
    """Threads that read beside an engine."""
    batch_cells: int = 1
    """Cells of a commit."""
    readers_wanted: int = 1
    """Reading cores that keep one engine busy, by the plan's rates."""
    stream: str = "auto"
    """`split`, `joined` or `auto`."""

    def lattice(self, cell: Cell) -> Lattice:
        return run_lattice(self.bundle.spec, cell.grid, self.lattice_cell_windows)


def run_lattice(spec: BundleSpec, grid: Grid, cell_windows: int) -> Lattice:
    """The lattice of a run: of the bundle's windows, or where crops are scored, of squares of
    the usual size that only say which crops are worked on together."""
    crops = spec.task == "building"
    return Lattice(
        grid=grid,
        window_px=CROP_LATTICE_PX if crops else spec.window_px,
        halo_px=0 if crops else spec.halo_px,
        cell_windows=cell_windows,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """What is asked of a unit's footprints."""

    ids: list[str]
    polygon_F: NDArray[np.object_]
    """Outlines in the cell's CRS."""
    hazard_FM: NDArray[np.float32]
    """Hazard values as the bundle takes them."""

    @property
    def digests(self) -> list[str]:
        """Of the outlines, and of the hazard values if there are any."""
        parts = [b"".join(shapely.to_wkb(self.polygon_F))]
        if self.hazard_FM.shape[1]:  # one NaN is as good as another
            parts.append(np.where(np.isnan(self.hazard_FM), np.nan, self.hazard_FM).tobytes())
        return [hashlib.sha256(part).hexdigest() for part in parts]


def unit_key(unit: Unit, view: View, asked: Asked, model: str, tiles: TileSurvey) -> str:
    """Digest of what a cell's tally depends on, and of nothing else in the run.

    A scene counts as its `version`: statistics, masks and shifts are
    functions of those and of `CELL_VERSION`. A tile store counts where its pixels
    may not be the scene's to the last bit.
    """
    views = [s for s in (view.post, view.pre) if s is not None]
    tokens = [tiles.token(s, unit.cell.grid) for s in views]
    scenes = [(*s.version, *filter(None, [t])) for s, t in zip(views, tokens, strict=True)]
    content = [
        CELL_VERSION,
        unit.cell.id,
        unit.window_W2.tolist(),
        view.id,
        scenes,
        asked.ids,
        *asked.digests,
        model,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def batch_name(keys: list[str]) -> str:
    """Name of the commit object of these cells when all of them are complete."""
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()[:32]
