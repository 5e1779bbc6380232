"""The plan: everything is checked and chosen before the first pixel is read."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.bundles import Bundle
from quakestream.catalog import (
    AdminUnits,
    FootprintRequest,
    Footprints,
    building_doubts,
    read_admin,
    read_aoi,
    read_footprints,
)
from quakestream.config import RunFile
from quakestream.domain import BundleSpec, Issue, ScaleClass, Scene, View
from quakestream.engines.machine import usable_cores
from quakestream.hazard import inputs_not_given
from quakestream.pipeline.kinds.units import PlanInputs, Unit, ViewTable
from quakestream.pipeline.planning.area import area_cells, covered_area, ground_km2
from quakestream.pipeline.planning.assignment import (
    Assignment,
    assign,
    coarse_notes,
    not_used,
    sharp,
)
from quakestream.pipeline.planning.capacity import (
    Capacity,
    Fleet,
    Load,
    Rates,
    around_s,
    predict,
    readers_wanted,
)
from quakestream.pipeline.planning.checks import check_files_exist
from quakestream.pipeline.planning.elevation import find_dem
from quakestream.pipeline.planning.engine import EngineFacts, PickEngine, pick_engine
from quakestream.pipeline.planning.imagery import FoundImagery, find_imagery
from quakestream.pipeline.planning.jobs import Job, RunBundles, lattices, make_jobs
from quakestream.pipeline.planning.memory import MemoryStatement, state_memory
from quakestream.pipeline.planning.places import (
    CellUnits,
    place_km2,
    units_by_place,
)
from quakestream.pipeline.planning.reading_order import ReadingOrder
from quakestream.pipeline.planning.scenes import used_scenes
from quakestream.pipeline.result.evidence import HazardModel, hazard_model
from quakestream.pipeline.work.scenes import header_notes, stretch_notes
from quakestream.raster.tiles import TileSurvey, survey_tiles
from quakestream.tiling import Cell, project, split_by_zone, zones_of
from quakestream.tiling.antimeridian import HALF_TURN


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Plan:
    """What a run will do. It holds footprints and units, and no pixels."""

    run: RunFile
    jobs: tuple[Job, ...]
    """The first job judges footprints, in a run that judges any."""
    hazard_model: HazardModel | None
    """The bundle of `models.hazard`. Its evidence is added when sums become verdicts."""
    aoi: BaseGeometry
    """EPSG:4326."""
    footprints: Footprints
    id_N: NDArray[np.object_]
    """Ids of the footprints, as text. An array gives them out faster than a table."""
    zone_N: NDArray[np.int64]
    """EPSG code of the UTM zone that owns each footprint."""
    polygon_N: NDArray[np.object_]
    """Outlines in their zone's CRS; None where the geometry is invalid."""
    assignment: Assignment
    views: tuple[View, ...]
    """Views of all jobs; those of the assignment come first."""
    area_cells: tuple[Cell, ...]
    """Cells whose cores partition the AOI."""
    problems: tuple[Issue, ...]
    """Problems of the inputs, worst first."""
    notes: tuple[str, ...]
    tiles: TileSurvey
    """What the tile store holds of the scenes in use."""
    admin: AdminUnits | None = None
    """Units of summary.csv; None: 500 m squares."""
    order: ReadingOrder = field(default_factory=ReadingOrder)
    """What is read first."""
    lost_tiles: tuple[Scene, ...] = ()
    """Tiles of acquisitions that could not be read when they were prepared."""
    not_used: tuple[str, ...] = ()
    """Images after the event that could be opened, and that show no building better."""

    def __repr__(self) -> str:
        return (
            f"<plan {self.run.event.id}: {len(self.footprints.table):,} footprints, "
            f"AOI of {self.aoi_km2:.2f} km², {len(self.units):,} cells, "
            f"{len(self.problems)} problems>"
        )

    @property
    def judges(self) -> bool:
        """True if a job judges footprints."""
        return self.run.models.damage is not None

    @property
    def first(self) -> Job:
        """The job that judges footprints; in a run that judges none, that of landslides."""
        return self.jobs[0]

    @property
    def bundle(self) -> Bundle:
        """The bundle of the first job."""
        return self.first.bundle

    @property
    def classes(self) -> tuple[ScaleClass, ...]:
        """The damage scale; empty in a run that judges no footprints."""
        return self.bundle.spec.classes if self.judges else ()

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Units of all jobs."""
        return tuple(unit for job in self.jobs for unit in job.units)

    @cached_property
    def cell_units(self) -> tuple[CellUnits, ...]:
        """Units by place: those over the same ground, which are read together."""
        return self.order.ordered(units_by_place(self.jobs, self.views))

    def groups(self) -> list[tuple[CellUnits, ...]]:
        """Commit groups: cells that are committed together. The plan alone decides them."""
        size = self.run.profile_settings.group_cells
        cells = self.cell_units
        return [cells[i : i + size] for i in range(0, len(cells), size)]

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Cells that will be read."""
        return tuple(dict.fromkeys(u.cell for u in self.units))

    @property
    def windows(self) -> int:
        """Windows or crops to score."""
        return sum(u.scored for u in self.units)

    @cached_property
    def aoi_km2(self) -> float:
        """Ground of the AOI, km²."""
        return ground_km2(self.aoi)

    @cached_property
    def covered_km2(self) -> float:
        """Ground of the AOI within the outlines of the images in use, km².

        Models that compare two images need both there. It counts once, however many views show it.
        """
        return ground_km2(covered_area(self.aoi, self.views))

    @cached_property
    def km2(self) -> float:
        """Ground that will be scored, km², in whole windows, once for each view.

        Windows reach beyond the AOI, and ground without footprints is not scored: it may be more
        or less than `covered_km2`. It counts the cores of the lattice's windows that hold a
        footprint or the middle of a crop; ground that several jobs score counts once.
        """
        return sum(place_km2((self.jobs[n], u) for n, u in parts) for parts in self.cell_units)

    @property
    def mpx(self) -> float:
        """Pixels to read, millions, all epochs, with halos and with what lies between crops.

        Where several jobs read a cell, the job that reads most counts: windows are shared.
        """
        return sum(_most_px(self.jobs, parts) for parts in self.cell_units) / 1e6

    @property
    def read_bytes(self) -> int:
        """Decoded bytes to read."""
        spec = self.bundle.spec
        return round(self.mpx * 1e6) * len(spec.bands) * np.dtype(spec.dtype).itemsize

    @cached_property
    def load(self) -> Load:
        """The amount of work."""
        return Load(
            cells=len(self.cell_units),
            groups=len(self.groups()),
            windows=self.windows,
            mpx=self.mpx,
            km2=self.km2,
            footprints=sum(len(u.footprint_F) for u in self.units),
        )

    @property
    def rates(self) -> Rates:
        """Speed of the stages: scoring as timed here, reading as assumed of a core."""
        settings = self.run.profile_settings
        score_s = sum(
            job.engine.seconds_per_window * unit.scored for job in self.jobs for unit in job.units
        )
        return Rates(
            score_s=score_s / max(self.windows, 1),
            score_cores=0.0 if self.on_gpu else settings.threads or usable_cores(),
            footprint_s=self.first.kind.footprint_s,
            startup_s=self._around_s(),
        )

    def _around_s(self) -> float:
        """Time before the first cell and after the last one."""
        files = {part.id: part for view in self.views for part in view.files}.values()
        # nothing is measured of scenes of physical values
        mpx = sum(math.prod(part.shape or (0, 0)) for part in files if not part.layers) / 1e6
        rows = len(self.footprints.table)
        return around_s(scenes=len(files), mpx=mpx, footprints=rows, cores=usable_cores())

    @property
    def acquisitions(self) -> int:
        """Acquisitions of both epochs in use: scenes, with the tiles of one counted once."""
        return len({scene.id for view in self.views for scene in view.scenes})

    @property
    def scenes(self) -> int:
        """Scenes in use, tile by tile."""
        return len({part.id for view in self.views for part in view.files})

    @property
    def engine(self) -> str:
        """Runtime and version of the first job."""
        return self.first.engine.name

    @property
    def on_gpu(self) -> bool:
        """True where every engine computes on a GPU."""
        return all(job.engine.on_gpu for job in self.jobs)

    @property
    def readers_wanted(self) -> int:
        """Reading cores that keep one engine busy, if it had a device of its own."""
        return readers_wanted(self.load, self.rates)

    def capacity(self, *, price_per_hour: float | None = None) -> Capacity:
        """Time, limit and price on this machine. For other fleets, use `predict` and `rates`."""
        here = Fleet(
            cores=usable_cores(),
            engines=self.run.profile_settings.engines or 1,
            price_per_hour=price_per_hour,
        )
        return predict(self.load, self.rates, here)

    @property
    def seconds(self) -> float:
        """Expected time on this machine."""
        return self.capacity().seconds

    @property
    def limited_by(self) -> str:
        return self.capacity().limited_by

    def memory(self, backend: str = "local") -> MemoryStatement:
        """Peak memory on one machine, with backend `local` or `ray`."""
        return state_memory(
            [(job.kind, job.bundle) for job in self.jobs],
            self.run.profile_settings,
            footprints=len(self.footprints.table),
            cells=len(self.area_cells),
            on_ray=backend == "ray",
        )


def _most_px(jobs: Sequence[Job], parts: CellUnits) -> int:
    """Pixels of the job that reads most of a place, all epochs."""
    read_px = dict.fromkeys((n for n, _ in parts), 0)
    for n, unit in parts:
        read_px[n] += unit.read_px * len(jobs[n].bundle.spec.epochs)
    return max(read_px.values())


def make_plan(run: RunFile, pick: PickEngine = pick_engine) -> Plan:
    """Checks and chooses everything a run needs.

    It reads headers and vector files. Of pixels it takes no more than a coarse look at scenes of
    16 bits.

    Args:
        pick: picks an engine where engines will run, which may be on another machine.

    Raises:
        RequestError: the request itself is wrong.
    """
    check_files_exist(run)
    bundles = RunBundles.of(run)
    hazard = hazard_model(run, None if bundles.damage is None else bundles.damage.spec)
    notes: tuple[str, ...] = ()
    if bundles.damage is not None:
        damage = bundles.damage.spec
        notes = (*_inputs_notes(damage, run), *_event_note(damage, run))
    admin = read_admin(run.summary, run.storage_options)
    plan = plan_for(run, bundles)
    engines: dict[str, EngineFacts] = {}
    for job in plan.jobs:
        if job.bundle.digest not in engines:
            engines[job.bundle.digest] = pick(job.bundle, run.profile_settings)
    return replace(
        plan,
        jobs=tuple(replace(job, engine=engines[job.bundle.digest]) for job in plan.jobs),
        hazard_model=hazard,
        admin=admin,
        notes=(
            *plan.notes,
            *(hazard.notes if hazard else ()),
            *notes,
            *(note for facts in engines.values() for note in facts.notes),
        ),
    )


def plan_for(run: RunFile, bundles: RunBundles) -> Plan:
    """What a run reads for its bundles, with no engine to score it.

    Training cuts its chips from this plan, so that a model sees at inference what it saw in
    training.

    Raises:
        RequestError: the request itself is wrong.
    """
    options, damage = run.storage_options, bundles.damage
    aoi = read_aoi(run.aoi, options)
    dem = find_dem(run, aoi, bundles.specs)
    run = dem.run
    footprints = _footprints(run, aoi)
    imagery = find_imagery(run, aoi, bundles.specs)
    zone_N, polygon_N = _projected(footprints)
    footprints = _doubted(footprints, zone_N, polygon_N)
    assignment = _assignment(run, damage, footprints, imagery)
    zones = split_by_zone(aoi)
    table = ViewTable(assignment.views)
    issues: list[Issue] = []
    told: list[str] = []
    inputs = PlanInputs(
        zone_N=zone_N,
        polygon_N=polygon_N,
        footprint_A=assignment.footprint_A,
        view_A=assignment.view_A,
        area_of_zone=zones,
        post=(),
        pre=(),
        views=table,
        issues=issues,
        notes=told,
    )
    jobs = tuple(make_jobs(run, bundles, _inputs_by_bundle(inputs, bundles, imagery)))
    used = used_scenes((unit for job in jobs for unit in job.units), table.views)
    tiles = survey_tiles(run.imagery.store, [(s, g) for s, g in used if not s.layers], options)
    first = jobs[0]
    order = ReadingOrder.of(run, jobs, issues, told)
    scenes = [scene for scene, _ in used]
    notes = (*tiles.notes, *told, *_scene_notes(scenes, imagery, bundles.specs))
    return Plan(
        run=run,
        jobs=jobs,
        hazard_model=None,
        aoi=aoi,
        footprints=footprints,
        id_N=footprints.table["building_id"].to_numpy(object),
        zone_N=zone_N,
        polygon_N=polygon_N,
        assignment=assignment,
        views=table.views,
        area_cells=area_cells(zones, lattices(run, first.kind, first.bundle.spec), run.aoi),
        problems=_worst_first(
            [*imagery.issues, *footprints.issues, *dem.issues, *tiles.issues, *issues]
        ),
        notes=(*footprints.doubts, *footprints.notes, *imagery.notes, *dem.notes, *notes),
        tiles=tiles,
        order=order,
        not_used=not_used(imagery.of(damage.spec)[0], damage.spec, table.views) if damage else (),
    )


def _assignment(
    run: RunFile, damage: Bundle | None, footprints: Footprints, imagery: FoundImagery
) -> Assignment:
    """The views of every footprint; none without a damage model."""
    if damage is None:
        return Assignment.none(len(footprints.table))
    all_views = run.profile_settings.views == "all"
    return assign(footprints, *imagery.of(damage.spec), damage.spec, all_views=all_views)


def _inputs_by_bundle(
    inputs: PlanInputs, bundles: RunBundles, imagery: FoundImagery
) -> dict[str, PlanInputs]:
    """What each bundle that judges images works on, by digest: scenes sharp enough for it."""
    found = {}
    for bundle in (bundles.damage, bundles.landslide):
        if bundle is not None:
            post, pre = (tuple(sharp(s.scenes, bundle.spec)) for s in imagery.of(bundle.spec))
            found[bundle.digest] = replace(inputs, post=post, pre=pre)
    return found


def _scene_notes(
    scenes: Sequence[Scene], imagery: FoundImagery, specs: Sequence[BundleSpec]
) -> tuple[str, ...]:
    """What the headers of scenes in use tell, and which scenes are too coarse for a bundle."""
    coarse = (note for spec in specs for note in coarse_notes(imagery.of(spec), spec))
    return (*stretch_notes(scenes), *header_notes(scenes), *coarse)


def _footprints(run: RunFile, aoi: BaseGeometry) -> Footprints:
    """The footprints of a run; none where it names no file."""
    given = run.footprints
    if given is None:
        return Footprints.none()
    request = FootprintRequest(uri=given.path, id_column=given.id, layer=given.layer)
    return read_footprints(request, aoi, run.storage_options)


def _doubted(
    footprints: Footprints, zone_N: NDArray[np.int64], polygon_N: NDArray[np.object_]
) -> Footprints:
    """Footprints with what speaks against their being buildings."""
    geometry_N = np.asarray(footprints.table.geometry.values, object)
    return replace(footprints, doubts=building_doubts(geometry_N, polygon_N, zone_N))


def _inputs_notes(spec: BundleSpec, run: RunFile) -> Iterator[str]:
    """Hazard values that the damage bundle takes and the run does not give.

    Raises:
        BundleError: the bundle takes a value in a unit that it cannot be converted to.
    """
    absent = inputs_not_given(spec, run.hazard)
    if absent:
        yield (
            f"models.damage {spec.name} takes {len(spec.hazard)} hazard values; the run gives no "
            f"{', '.join(absent)}: missing for every footprint"
        )


def _event_note(spec: BundleSpec, run: RunFile) -> Iterator[str]:
    """Says that a bundle was adapted to another event than the run's, or is not shown better."""
    if spec.forced:
        yield (
            f"models.damage {spec.name} was not shown to be better than the map it was made from: "
            "it was written because of --force, and its maps may expect too few destroyed buildings"
        )
    if spec.adapted_to not in (None, run.event.id):
        yield (
            f"models.damage {spec.name} was adapted to event {spec.adapted_to}, and this is "
            f"{run.event.id}: expect no more of it than of the model before it"
        )


def _worst_first(issues: Iterable[Issue]) -> tuple[Issue, ...]:
    return tuple(sorted(set(issues), key=lambda p: (not p.retryable, p.kind, p.subject)))


def _projected(footprints: Footprints) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    geometry_N = np.asarray(footprints.table.geometry.values, object)
    usable_N = ~np.asarray(footprints.invalid)
    point_N = np.asarray(footprints.representative, object)
    zone_N = zones_of(shapely.get_x(point_N), shapely.get_y(point_N))
    polygon_N = np.full(len(geometry_N), None, object)
    for epsg in np.unique(zone_N[usable_N]):
        here = usable_N & (zone_N == epsg)
        polygon_N[here] = _one_piece(project(geometry_N[here], int(epsg)), geometry_N[here])
    return zone_N, polygon_N


def _one_piece(
    projected_N: NDArray[np.object_], geometry_N: NDArray[np.object_]
) -> NDArray[np.object_]:
    """Projected outlines, those that are cut at 180° in one piece again."""
    bounds_N4 = shapely.bounds(geometry_N)
    for n in np.flatnonzero(bounds_N4[:, 2] - bounds_N4[:, 0] > HALF_TURN).tolist():
        projected_N[n] = shapely.union_all(shapely.get_parts(projected_N[n]), grid_size=1e-6)
    return projected_N
