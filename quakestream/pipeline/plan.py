"""The plan: everything checked and chosen before the first pixel is read."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.bundles import Bundle, load_bundle
from quakestream.catalog import (
    Footprints,
    assign_views,
    extent_issues,
    read_aoi,
    read_footprints,
    search,
)
from quakestream.config import ImagerySection, RunFile
from quakestream.domain import BundleSpec, Grid, Issue, Scene, View
from quakestream.engines import EngineSpec
from quakestream.engines.machine import usable_cores
from quakestream.errors import (
    AoiError,
    ConfigError,
    InputError,
    StorageError,
)
from quakestream.hazard import inputs_not_given
from quakestream.pipeline.capacity import (
    CROP_S,
    FOOTPRINT_S,
    Capacity,
    Fleet,
    Load,
    Rates,
    Shape,
    choose_stream,
    predict,
    readers_wanted,
)
from quakestream.pipeline.evidence import HazardModel, hazard_model
from quakestream.pipeline.memory import MemoryStatement, state_memory
from quakestream.pipeline.picking import PickEngine, pick_engine
from quakestream.pipeline.scenes import stretch_notes
from quakestream.pipeline.tasks import Unit, run_lattice
from quakestream.pipeline.units import Assignment, plan_units
from quakestream.raster.probe import probe
from quakestream.raster.tiles import TileSurvey, survey_tiles
from quakestream.storage import StorageOptions
from quakestream.tiling import Cell, Lattice, project, split_by_zone, zones_of

DAMAGE_TASKS = ("segmentation", "building")
MAX_SCALE = 2.0
"""Scenes coarser than this many times the bundle's GSD cannot show what the model saw."""
PROBES = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What a run will do. Holds footprints and units; no pixels."""

    run: RunFile
    bundle: Bundle
    hazard_model: HazardModel | None
    """The bundle of `models.hazard`; its evidence is added when sums become verdicts."""
    aoi: BaseGeometry
    """EPSG:4326."""
    footprints: Footprints
    id_N: NDArray[np.object_]
    """Ids of the footprints, as text: a table gives one out slowly."""
    zone_N: NDArray[np.int64]
    """EPSG code of the UTM zone that owns each footprint."""
    polygon_N: NDArray[np.object_]
    """Outlines in their zone's CRS; None where the geometry is invalid."""
    assignment: Assignment
    views: tuple[View, ...]
    units: tuple[Unit, ...]
    area_cells: tuple[Cell, ...]
    """Cells whose cores partition the AOI."""
    problems: tuple[Issue, ...]
    """What is wrong with the inputs, worst first."""
    notes: tuple[str, ...]
    engine: str
    """Runtime and version that will score."""
    on_gpu: bool
    """True where that engine computes on a GPU."""
    seconds_per_window: float
    """Scoring one window or crop where engines run, measured on the bundle's golden batch."""
    tiles: TileSurvey
    """What the tile store holds of the scenes in use."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Cells that will be read."""
        return tuple(dict.fromkeys(u.cell for u in self.units))

    @property
    def windows(self) -> int:
        """Windows to score, or crops."""
        return sum(u.scored for u in self.units)

    @property
    def km2(self) -> float:
        """Ground that will be judged, km², once per view: cores of the lattice's windows that
        hold a footprint, or the middle of a crop."""
        spec, cell_windows = self.bundle.spec, self.run.profile_settings.cell_windows
        windows: Counter[int] = Counter()
        for unit in self.units:
            windows[unit.cell.epsg] += len(unit.window_W2)
        lattices = Lattices(spec=spec, cell_windows=cell_windows).of
        return sum(lattices(epsg).km2(number) for epsg, number in windows.items())

    @property
    def mpx(self) -> float:
        """Pixels to read, millions, all epochs; with halos, or with what lies between crops."""
        return sum(u.read_px for u in self.units) * len(self.bundle.spec.epochs) / 1e6

    @property
    def read_bytes(self) -> int:
        """Decoded bytes to read."""
        return round(self.mpx * 1e6) * len(self.bundle.spec.bands)

    @property
    def load(self) -> Load:
        """What there is to do."""
        cells, size = len(self.units), self.run.profile_settings.batch_cells
        return Load(
            cells=cells,
            batches=-(-cells // size),
            windows=self.windows,
            mpx=self.mpx,
            km2=self.km2,
            footprints=sum(len(u.footprint_F) for u in self.units),
        )

    @property
    def rates(self) -> Rates:
        """Speed of the stages: scoring as timed here, reading as assumed of a core."""
        settings = self.run.profile_settings
        crops = self.bundle.spec.task == "building"
        return Rates(
            score_s=self.seconds_per_window,
            score_cores=0.0 if self.on_gpu else settings.threads or usable_cores(),
            footprint_s=CROP_S if crops else FOOTPRINT_S,
        )

    @property
    def readers_wanted(self) -> int:
        """Reading cores that keep one engine busy, if it had its own device."""
        return readers_wanted(self.load, self.rates)

    def capacity(self, *, price_per_hour: float | None = None) -> Capacity:
        """Time, limit and price on this machine. Other fleets: `predict` with the plan's rates."""
        here = Fleet(
            cores=usable_cores(),
            engines=self.run.profile_settings.engines or 1,
            price_per_hour=price_per_hour,
        )
        return predict(self.load, self.rates, here)

    @property
    def stream(self) -> Shape:
        """Where readers would live on Ray, on machines like this one."""
        settings = self.run.profile_settings
        return choose_stream(
            settings.stream,
            on_gpu=self.on_gpu,
            wanted=self.readers_wanted,
            cores_per_engine=usable_cores() / (settings.engines or 1),
        )

    @property
    def seconds(self) -> float:
        """Expected time on this machine."""
        return self.capacity().seconds

    @property
    def limited_by(self) -> str:
        return self.capacity().limited_by

    def memory(self, backend: str = "local") -> MemoryStatement:
        """Peak memory on one machine: `local`, or on Ray `split` or `joined` (`ray`: the one that
        would be chosen here)."""
        footprints, cells = len(self.footprints.table), len(self.area_cells)
        stream = self.stream if backend == "ray" else backend
        return state_memory(
            self.bundle, self.run.profile_settings, footprints, cells, stream=stream
        )

    def batches(self) -> list[tuple[Unit, ...]]:
        """Units grouped as they are committed. Fixed by the plan alone."""
        size = self.run.profile_settings.batch_cells
        return [self.units[i : i + size] for i in range(0, len(self.units), size)]


def make_plan(run: RunFile, pick: PickEngine = pick_engine) -> Plan:
    """Checks and chooses everything; reads headers and vector files, and no pixels but a coarse
    look at scenes of 16 bits.

    Args:
        pick: how the engine is picked: where engines will run, which may be elsewhere.

    Raises:
        RequestError: where the request itself is wrong.
    """
    bundle = _damage_bundle(run, run.storage_options)
    hazard = hazard_model(run, bundle.spec)
    taken = tuple(_inputs_notes(bundle.spec, run))
    plan = plan_for(run, bundle)
    picked = pick(bundle, run.profile_settings)
    return replace(
        plan,
        run=_with_pick(run, picked.spec),
        hazard_model=hazard,
        notes=(*plan.notes, *(hazard.notes if hazard else ()), *taken, *picked.notes),
        engine=picked.engine,
        on_gpu=picked.on_gpu,
        seconds_per_window=picked.seconds_per_window,
    )


def plan_for(run: RunFile, bundle: Bundle) -> Plan:
    """What a run reads for a bundle of whichever origin, with no engine to score it: training
    cuts its chips from this plan, so that a model sees at inference what it saw.

    Raises:
        RequestError: where the request itself is wrong.
    """
    options, spec = run.storage_options, bundle.spec
    aoi = read_aoi(run.aoi, options)
    footprints = read_footprints(run.footprints.path, run.footprints.id, aoi, options)
    found = search(_imagery(run, spec), aoi, options)
    if not found.post and not found.issues:
        raise AoiError(
            f"no post-event scene of {run.imagery.catalog} lies in the AOI {run.aoi} "
            f"({_bounds(aoi)}); check the AOI, imagery.post.datetime and the filters"
        )
    post, pre = _probed(found.post, options), _probed(found.pre, options)
    zone_N, polygon_N = _projected(footprints)
    assignment = _assign(footprints, post, pre, spec, run)
    lattices = Lattices(spec=spec, cell_windows=run.profile_settings.cell_windows).of
    units = plan_units(assignment, zone_N, polygon_N, lattices, spec)
    used = used_scenes(units, assignment.views)
    tiles = survey_tiles(run.imagery.store, used, options)
    problems = [*found.issues, *post.issues, *pre.issues, *footprints.issues, *tiles.issues]
    return Plan(
        run=run,
        bundle=bundle,
        hazard_model=None,
        aoi=aoi,
        footprints=footprints,
        id_N=footprints.table["building_id"].to_numpy(object),
        zone_N=zone_N,
        polygon_N=polygon_N,
        assignment=assignment,
        views=assignment.views,
        units=units,
        area_cells=_area_cells(aoi, lattices),
        problems=tuple(sorted(set(problems), key=lambda p: (not p.retryable, p.kind, p.subject))),
        notes=(*found.notes, *tiles.notes, *stretch_notes(scene for scene, _ in used)),
        engine="",
        on_gpu=False,
        seconds_per_window=0.0,
        tiles=tiles,
    )


def used_scenes(units: Sequence[Unit], views: Sequence[View]) -> list[tuple[Scene, Grid]]:
    """Every scene that units read, with each grid it is read on; once."""
    used: dict[tuple[str, Grid], Scene] = {}
    for unit in units:
        for scene in (views[unit.view].post, views[unit.view].pre):
            if scene is not None:
                used.setdefault((scene.id, unit.cell.grid), scene)
    return [(scene, grid) for (_, grid), scene in used.items()]


def _damage_bundle(run: RunFile, options: StorageOptions) -> Bundle:
    if run.models.damage is None:
        raise ConfigError("models.damage is null: name a bundle; nothing else is mapped yet")
    if run.models.landslide is not None:
        raise ConfigError("models.landslide is not supported by this version; leave it out")
    bundle = load_bundle(run.models.damage, options)
    if bundle.spec.task not in DAMAGE_TASKS:
        raise ConfigError(
            f"models.damage: bundle {bundle.spec.name} is for {bundle.spec.task}, expected one "
            f"for {' or '.join(DAMAGE_TASKS)}; name another, or see `quakestream bundle list`"
        )
    if bundle.spec.needs_pre and run.imagery.pre is None:
        raise ConfigError(
            f"bundle {bundle.spec.name} compares pre and post imagery: add imagery.pre.datetime"
        )
    return bundle


def _imagery(run: RunFile, spec: BundleSpec) -> ImagerySection:
    """What is searched for: a bundle that looks at post imagery alone needs no pre scenes."""
    return run.imagery if spec.needs_pre else run.imagery.model_copy(update={"pre": None})


def _inputs_notes(spec: BundleSpec, run: RunFile) -> Iterator[str]:
    """Hazard values the damage bundle takes and the run does not give.

    Raises:
        BundleError: if the bundle takes one in a unit it cannot be had in.
    """
    absent = inputs_not_given(spec, run.hazard)
    if absent:
        yield (
            f"models.damage {spec.name} takes {len(spec.hazard)} hazard values; the run gives no "
            f"{', '.join(absent)}: missing for every footprint"
        )


def _bounds(aoi: BaseGeometry) -> str:
    return ", ".join(f"{v:.4f}" for v in aoi.bounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probed:
    """Scenes of one epoch after a look at their headers."""

    scenes: list[Scene]
    lost: list[Scene]
    """What their headers kept from being used, as the catalogue describes them."""
    issues: list[Issue]


def _probed(scenes: Sequence[Scene], options: StorageOptions) -> _Probed:
    """Scenes with what their headers say; those that cannot be used become issues."""

    def one(scene: Scene) -> Scene | Issue:
        try:
            return probe(scene, options)
        except (InputError, StorageError) as error:
            retryable = isinstance(error, StorageError)
            return Issue(subject=scene.id, kind="scene", cause=str(error), retryable=retryable)

    with ThreadPoolExecutor(PROBES) as pool:
        done = list(pool.map(one, scenes))
    good = [s for s in done if isinstance(s, Scene)]
    return _Probed(
        scenes=good,
        lost=[s for s, d in zip(scenes, done, strict=True) if isinstance(d, Issue)],
        issues=[*(d for d in done if isinstance(d, Issue)), *extent_issues(good)],
    )


def _projected(footprints: Footprints) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    geometry_N = np.asarray(footprints.table.geometry.values, object)
    usable_N = ~np.asarray(footprints.invalid)
    point_N = np.asarray(footprints.representative, object)
    zone_N = zones_of(shapely.get_x(point_N), shapely.get_y(point_N))
    polygon_N = np.full(len(geometry_N), None, object)
    for epsg in np.unique(zone_N[usable_N]):
        here = usable_N & (zone_N == epsg)
        polygon_N[here] = project(geometry_N[here], int(epsg))
    return zone_N, polygon_N


def _assign(
    footprints: Footprints, post: _Probed, pre: _Probed, spec: BundleSpec, run: RunFile
) -> Assignment:
    """Views per footprint. Footprints that only coarser scenes show are set apart, and those
    that only scenes show which cannot be opened."""
    sharp_post, sharp_pre = (
        [s for s in epoch.scenes if (s.gsd_m or 0) <= MAX_SCALE * spec.gsd_m]
        for epoch in (post, pre)
    )
    groups = [sharp_post]
    if run.profile_settings.views == "all":
        groups += [[scene] for scene in sharp_post]  # the best view stays the first
    parts = [assign_views(footprints, g, sharp_pre, spec.needs_pre) for g in groups]
    assignment = Assignment.of(parts, np.asarray(footprints.invalid))
    reason_N = assignment.reason_N.copy()
    open_N = (assignment.views_N == 0) & ~np.asarray(footprints.invalid)
    for reason, more_post, more_pre in (
        ("read_error", [*post.scenes, *post.lost], [*pre.scenes, *pre.lost]),
        ("outside_model_scale", post.scenes, pre.scenes),
    ):
        if len(more_post) + len(more_pre) > len(sharp_post) + len(sharp_pre):
            there = assign_views(footprints, more_post, more_pre, spec.needs_pre)
            reason_N[open_N & (np.asarray(there.view_of_N) >= 0)] = reason
    return replace(assignment, reason_N=reason_N)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattices:
    """The lattice of each zone's grid."""

    spec: BundleSpec
    cell_windows: int

    def of(self, epsg: int) -> Lattice:
        return run_lattice(self.spec, Grid(epsg=epsg, gsd_m=self.spec.gsd_m), self.cell_windows)


def _area_cells(aoi: BaseGeometry, lattices: Callable[[int], Lattice]) -> tuple[Cell, ...]:
    parts = split_by_zone(aoi)
    return tuple(cell for epsg in sorted(parts) for cell in lattices(epsg).cells_over(parts[epsg]))


def _with_pick(run: RunFile, pick: EngineSpec) -> RunFile:
    """The run with the runtime and batch that were chosen: workers open that one, and commits
    are known by it."""
    picked = {"runtime": pick.runtime, "batch": pick.batch or None}
    execution = run.execution.model_copy(update=picked)
    return run.model_copy(update={"execution": execution})
