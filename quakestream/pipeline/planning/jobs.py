"""The jobs of a run: which kinds score it, with which bundles, and their units."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from quakestream.bundles import Asked, Bundle, load_bundle
from quakestream.config import RunFile
from quakestream.config.shares import AUTO
from quakestream.domain import BundleSpec, Grid, Issue, Scene
from quakestream.engines import EngineSpec
from quakestream.errors import ConfigError, HazardError, StorageError
from quakestream.hazard.dem_files import try_version
from quakestream.pipeline.kinds.base import Kind
from quakestream.pipeline.kinds.landslides import LandslideKind
from quakestream.pipeline.kinds.table import DAMAGE_KINDS, LANDSLIDE_KINDS, PRODUCT_KINDS
from quakestream.pipeline.kinds.units import LatticeOf, PlanInputs, Unit
from quakestream.pipeline.planning.engine import EngineFacts
from quakestream.tiling import Lattice

NO_ENGINE = EngineFacts(spec=EngineSpec(runtime=""), name="", on_gpu=False, seconds_per_window=0.0)
"""For plans that nothing scores: training cuts its chips from one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """A kind of scoring with its bundle and its units."""

    kind: Kind
    bundle: Bundle
    units: tuple[Unit, ...]
    posts: tuple[Scene, ...] = ()
    """Post-event scenes that the bundle can use, whether a unit reads them or not."""
    engine: EngineFacts = NO_ENGINE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunBundles:
    """The bundles of a run that score images, each checked against the run."""

    damage: Bundle | None = None
    landslide: Bundle | None = None

    @classmethod
    def of(cls, run: RunFile) -> "RunBundles":
        """Loads and checks them.

        Raises:
            RequestError: one cannot be used.
        """
        models = run.models
        damage = _named(run, "damage", models.damage, DAMAGE_KINDS)
        landslide = _named(run, "landslide", models.landslide, LANDSLIDE_KINDS)
        if damage is not None:
            _check_damage(run, damage.spec)
        if models.share != AUTO:
            _check_share(None if damage is None else damage.spec)
        if landslide is not None:
            _check_landslide(landslide.spec)
        return cls(damage=damage, landslide=landslide)

    @property
    def specs(self) -> tuple[BundleSpec, ...]:
        """Manifests, that of the damage bundle first."""
        return tuple(b.spec for b in (self.damage, self.landslide) if b is not None)


def _named(run: RunFile, key: str, name: str | None, tasks: Iterable[str]) -> Bundle | None:
    """The bundle of a key of `models`, if it names one."""
    if name is None:
        return None
    asked = Asked(where=run.where_of("models", key), tasks=frozenset(tasks))
    return load_bundle(name, run.storage_options, asked)


def _check_damage(run: RunFile, spec: BundleSpec) -> None:
    if spec.task not in DAMAGE_KINDS:
        raise ConfigError(
            f"bundle {spec.name} does not judge damage",
            "models.damage",
            expected=f"a bundle of task {' or '.join(DAMAGE_KINDS)}",
            got=spec.task,
            remedy="name another one; `quakestream bundle list` shows them",
        )
    if spec.needs_pre and run.imagery.pre is None:
        raise ConfigError(
            f"bundle {spec.name} compares pre and post imagery",
            "imagery.pre",
            remedy="add imagery.pre.datetime",
        )


def _check_share(spec: BundleSpec | None) -> None:
    """Raises ConfigError where a share is stated and no model can be told it."""
    if spec is None:
        raise ConfigError(
            "a share is stated and there is no damage model",
            "models.share",
            remedy="leave models.share out",
        )
    if spec.calibration is None:
        raise ConfigError(
            f"bundle {spec.name} has no calibration, so it cannot be told a share of destroyed "
            "buildings",
            "models.share",
            remedy="leave models.share out, or name a calibrated bundle; `quakestream bundle show` "
            "says which one is",
        )


def _check_landslide(spec: BundleSpec) -> None:
    if spec.task not in LANDSLIDE_KINDS:
        raise ConfigError(
            f"bundle {spec.name} does not find landslides",
            "models.landslide",
            expected=f"a bundle of task {' or '.join(LANDSLIDE_KINDS)}",
            got=spec.task,
            remedy="name another one; `quakestream bundle list` shows them",
        )


def make_jobs(
    run: RunFile, bundles: RunBundles, inputs_of: Mapping[str, PlanInputs]
) -> Iterator[Job]:
    """The job that judges footprints, that of landslides, and those that products ask for.

    Args:
        inputs_of: what units are made from, by the digest of a bundle.

    Raises:
        ConfigError: no bundle of the run can make a product that it asks for.
    """
    kinds: list[tuple[Kind, Bundle]] = []
    damage, landslide = bundles.damage, bundles.landslide
    if damage is not None:
        kinds.append((DAMAGE_KINDS[damage.spec.task], damage))
        for product, kind in PRODUCT_KINDS.items():
            if product not in run.outputs:
                continue
            if damage.spec.task in kind.tasks:
                kinds.append((kind, damage))
            elif landslide is None:
                raise _no_such_product(product, kind, damage.spec)
    if landslide is not None:
        kinds.append((landslide_kind(run, LANDSLIDE_KINDS[landslide.spec.task]), landslide))
    first, of_first = kinds[0]
    for kind, bundle in kinds:
        inputs = inputs_of[bundle.digest]
        if bundle is not of_first and bundle.spec.gsd_m == of_first.spec.gsd_m:
            inputs = replace(inputs, cells_of=lattices(run, first, of_first.spec))
        yield _job(run, kind, bundle, inputs)


def _job(run: RunFile, kind: Kind, bundle: Bundle, inputs: PlanInputs) -> Job:
    """A kind with its units. An elevation model that cannot be used is an issue and left out."""
    lattice_of = lattices(run, kind, bundle.spec)
    try:
        units = kind.units(inputs, bundle.spec, lattice_of)
    except (HazardError, StorageError) as error:
        if not isinstance(kind, LandslideKind) or kind.dem is None:
            raise
        then = "every window is looked at, and slopes are not known"
        inputs.issues.append(Issue.of_error(error, kind.dem, "terrain", then))
        kind = replace(kind, dem=None)
        units = kind.units(inputs, bundle.spec, lattice_of)
    return Job(kind=kind, bundle=bundle, units=units, posts=inputs.post)


def landslide_kind(run: RunFile, kind: LandslideKind) -> Kind:
    """The kind of landslides with what the run gives it."""
    kind = replace(kind, keeps_scores="scores" in run.outputs, options=run.storage_options)
    if run.terrain is None or not run.terrain.elevation:
        return kind
    dem = run.terrain.elevation
    version = try_version(dem, run.storage_options)
    return replace(kind, dem=dem, dem_version=version, least_slope_deg=run.terrain.least_slope_deg)


def _no_such_product(product: str, kind: Kind, spec: BundleSpec) -> ConfigError:
    return ConfigError(
        f"{product} cannot be made with bundle {spec.name}",
        "outputs",
        expected=f"a bundle of task {' or '.join(kind.tasks)} in models.damage",
        got=spec.task,
        remedy=f"leave {product} out, or name another bundle",
    )


def lattices(run: RunFile, kind: Kind, spec: BundleSpec) -> LatticeOf:
    """The kind's lattice on each zone's grid."""
    cell_windows = run.profile_settings.cell_windows

    def lattice_of(epsg: int) -> Lattice:
        return kind.lattice(spec, Grid(epsg=epsg, gsd_m=spec.gsd_m), cell_windows)

    return lattice_of
