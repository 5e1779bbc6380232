"""What travels to a worker: plain values that say what to read, score and commit."""

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.domain import Scene, Shift, View
from quakestream.raster.masks import CoarseQuality
from quakestream.raster.statistics import SceneStatistics
from quakestream.raster.tiles import TileSurvey
from quakestream.storage import StorageOptions
from quakestream.tiling import Cell, Lattice

CELL_VERSION = 1
"""Raised whenever the same input would give another tally: old commits are then not reused."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unit:
    """One (cell, view): the scored unit, as planned."""

    cell: Cell
    view: int
    """Index into the plan's views."""
    window_W2: NDArray[np.int64]
    """Lattice (row, col) of the windows with something to score, ascending."""
    footprint_F: NDArray[np.int64]
    """Indices into the plan's footprint table, ascending."""


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
    building_F: tuple[str, ...]
    polygon_F: NDArray[np.object_]
    """Outlines in the cell's CRS."""


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
    tile_store: str | None = None
    """Where scenes are read from when a run has a tile store."""

    def lattice(self, cell: Cell) -> Lattice:
        spec = self.bundle.spec
        return Lattice(
            grid=cell.grid,
            window_px=spec.window_px,
            halo_px=spec.halo_px,
            cell_windows=self.lattice_cell_windows,
        )


def unit_key(
    unit: Unit,
    view: View,
    ids: list[str],
    polygon_F: NDArray[np.object_],
    model: str,
    tiles: TileSurvey,
) -> str:
    """Digest of what a cell's tally depends on, and of nothing else in the run.

    A scene counts as its href and version: statistics, masks and shifts are
    functions of those and of `CELL_VERSION`. A tile store counts where its pixels
    may not be the scene's to the last bit.
    """
    views = [s for s in (view.post, view.pre) if s is not None]
    tokens = [tiles.token(s, unit.cell.grid) for s in views]
    scenes = [(s.href, s.etag, *filter(None, [t])) for s, t in zip(views, tokens, strict=True)]
    outlines = hashlib.sha256(b"".join(shapely.to_wkb(polygon_F))).hexdigest()
    content = [
        CELL_VERSION,
        unit.cell.id,
        unit.window_W2.tolist(),
        view.id,
        scenes,
        ids,
        outlines,
        model,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def batch_name(keys: list[str]) -> str:
    """Name of the commit object of these cells when all of them are complete."""
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()[:32]
