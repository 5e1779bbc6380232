"""What a plan's units become on their way to workers: what all are told, keys, tasks."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from quakestream.bundles import Bundle
from quakestream.config import Profile
from quakestream.domain import Shift, View, Window
from quakestream.pipeline.plan import Plan
from quakestream.pipeline.prepare import Prepared
from quakestream.pipeline.tasks import (
    Asked,
    BatchTask,
    SceneTask,
    Unit,
    UnitTask,
    WorkerSpec,
    batch_name,
    unit_key,
)
from quakestream.raster.coregistration import PairShifts
from quakestream.tiling import crop_windows


def worker_spec(plan: Plan, out: str) -> WorkerSpec:
    settings = plan.run.profile_settings
    return WorkerSpec(
        bundle=plan.bundle,
        lattice_cell_windows=settings.cell_windows,
        options=plan.run.storage_options,
        ledger_uri=out,
        runtime=settings.runtime,
        threads=settings.threads,
        batch=settings.batch,
        tile_store=plan.run.imagery.store,
        readers=settings.readers,
        batch_cells=settings.batch_cells,
        readers_wanted=plan.readers_wanted,
        stream=settings.stream,
    )


def model_identity(bundle: Bundle, settings: Profile) -> str:
    """What of the model a tally depends on. Kernels differ by the length of a run, and with them
    the last bits of a score: a batch that was picked is part of it."""
    batch = f"/{settings.batch}" if settings.batch else ""
    return f"{bundle.digest}/{settings.runtime}{batch}"


def asked_of(plan: Plan, unit: Unit, hazard_NM: NDArray[np.float32]) -> Asked:
    """A unit's footprints, out of those of the run.

    Args:
        hazard_NM: what the bundle takes of hazard values, a row per footprint of the run.
    """
    footprint_F = unit.footprint_F
    return Asked(
        ids=plan.id_N[footprint_F].tolist(),
        polygon_F=plan.polygon_N[footprint_F],
        hazard_FM=hazard_NM[footprint_F],
    )


def keys_of(plan: Plan, hazard_NM: NDArray[np.float32]) -> dict[int, str]:
    """Ledger keys of a plan's units, by the unit's `id`."""
    model = model_identity(plan.bundle, plan.run.profile_settings)
    return {
        id(u): unit_key(u, plan.views[u.view], asked_of(plan, u, hazard_NM), model, plan.tiles)
        for u in plan.units
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tasks:
    """Turns units into what a worker needs to read and score them."""

    plan: Plan
    prepared: Prepared
    spec: WorkerSpec
    hazard_NM: NDArray[np.float32]
    """What the bundle takes of hazard values, a row per footprint of the run."""

    def batch(self, units: list[tuple[Unit, str]]) -> BatchTask:
        """Units with their ledger keys, as one commit."""
        tasks = tuple(self.unit(unit, key) for unit, key in units)
        return BatchTask(name=batch_name([t.key for t in tasks]), units=tasks)

    def unit(self, unit: Unit, key: str) -> UnitTask:
        view = self.plan.views[unit.view]
        lattice, bundle = self.spec.lattice(unit.cell), self.spec.bundle.spec
        asked = asked_of(self.plan, unit, self.hazard_NM)
        if bundle.task == "building":
            bounds_F4 = shapely.bounds(asked.polygon_F)
            windows = crop_windows(bounds_F4, unit.cell.grid, bundle.window_px)
        else:
            windows = [lattice.core(int(r), int(c)) for r, c in unit.window_W2]
        return UnitTask(
            key=key,
            cell=unit.cell,
            view_id=view.id,
            post=_scene_task(view, self.prepared, "post"),
            pre=_scene_task(view, self.prepared, "pre") if view.pre is not None else None,
            window_W2=unit.window_W2,
            shift_W=_shifts(self.prepared.shifts.get((view.id, unit.cell.epsg)), unit, windows),
            building_F=tuple(asked.ids),
            polygon_F=asked.polygon_F,
            hazard_FM=asked.hazard_FM,
            km2=lattice.km2(len(unit.window_W2)),
        )


def _scene_task(view: View, prepared: Prepared, epoch: str) -> SceneTask:
    scene = view.post if epoch == "post" else view.pre
    assert scene is not None
    known = prepared.scenes[scene.href, scene.etag]
    return SceneTask(scene=scene, statistics=known.statistics, quality=known.quality)


def _shifts(shifts: PairShifts | None, unit: Unit, windows: list[Window]) -> tuple[Shift, ...]:
    if shifts is None:
        return (Shift(),) * len(windows)
    return tuple(shifts.at(unit.cell.grid, window) for window in windows)
