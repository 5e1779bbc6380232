"""The sections of a run file, as frozen values. What each key means stands in its description."""

import datetime as dt
import hashlib
import json
import re
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from quakestream.config.fields import (
    SCHEMES,
    Aoi,
    Instant,
    Interval,
    ModelRef,
    Place,
    Places,
    checked_place,
    parse_interval,
)
from quakestream.config.profiles import (
    Profile,
    ProfileName,
    Views,
    profile_settings,
)
from quakestream.storage import StorageOptions

DEFAULT_DAMAGE_MODEL = "damage-turkiye-2023"

_CREDENTIAL = re.compile(
    r"(^|_)(key|keys|secret|secrets|token|password|passwd|pass|pwd|credential|credentials|sas"
    r"|username|connection_string|key_id|access_key_id|auth|authorization)($|_)",
    re.IGNORECASE,
)
_COLUMN = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")
# Columns of buildings.parquet that a hazard layer of the same name would overwrite. Those of
# ShakeMap and VS30 are not among them: a layer may stand in for a file that there is not.
_RESERVED = frozenset(
    [
        "building_id",
        "geometry",
        "bbox",
        "status",
        "reason",
        "damage",
        "damage_label",
        "evidence",
        "confidence",
        "uncertainty",
        "valid_fraction",
        "scene_post",
        "scene_pre",
        "acquired_post",
        "views",
        "shift_m",
        "shift_quality",
        "hazard_missing",
        "model",
        "model_digest",
        "engine",
        "run_id",
        "pre_post_difference",
    ]
)


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        # An error may hold what must not be shown: a secret written into the run file.
        hide_input_in_errors=True,
    )


class Event(Section):
    """The earthquake."""

    id: str = Field(min_length=1, description="Name of the event, as in the ShakeMap or your own")
    time: Instant = Field(description="Origin time with its zone: what is before it is pre")


class EpochFilter(Section):
    """Which scenes of the catalogue may show one epoch."""

    datetime: Interval = Field(
        description="STAC interval of acquisition times; a date alone is the whole UTC day, "
        "`..` is open"
    )
    max_cloud: float | None = Field(
        default=None, ge=0, le=100, description="Cloudiest scene to use, percent"
    )
    max_off_nadir: float | None = Field(
        default=None, ge=0, le=90, description="Most oblique scene to use, degrees"
    )

    @property
    def start(self) -> dt.datetime:
        """First instant, UTC; the earliest there is when the interval is open."""
        return parse_interval(self.datetime)[0]

    @property
    def end(self) -> dt.datetime:
        """Last instant, UTC; the latest there is when the interval is open."""
        return parse_interval(self.datetime)[1]


class ImagerySection(Section):
    """Where the scenes are and which of them to use."""

    catalog: str | list[str] = Field(
        description="STAC catalogue, API or item collection, or a list of GeoTIFFs"
    )
    asset: str = Field(default="visual", min_length=1, description="Asset of an item that is read")
    post: EpochFilter = Field(description="Scenes after the event")
    pre: EpochFilter | None = Field(
        default=None, description="Scenes before the event; left out for post-only models"
    )
    views: Views = Field(
        default="best",
        description="best: each building from its best view; all: from every view of it. "
        "The profile sets it where it is left out",
    )
    store: Place | None = Field(
        default=None, description="Tile store of `quakestream tile`, read instead of the scenes"
    )

    @field_validator("catalog", mode="plain", json_schema_input_type=str | list[str])
    @classmethod
    def _catalog_places(cls, value: Any, info: ValidationInfo) -> str | list[str]:
        places = [value] if isinstance(value, str) else value
        if not isinstance(places, list) or not places or not all(type(p) is str for p in places):
            raise ValueError("expected a path or URI, or a list of GeoTIFFs")
        resolved = [checked_place(place, info) for place in places]
        return resolved[0] if isinstance(value, str) else resolved


class FootprintsSection(Section):
    """The buildings that are asked about."""

    path: Place = Field(description="Vector file of building outlines, any format and CRS")
    id: str = Field(default="id", min_length=1, description="Column with the stable id")


class HazardSection(Section):
    """Shaking, site condition and proxy layers: what the papers call metadata."""

    shakemaps: Places = Field(
        default_factory=list, description="ShakeMap grid.xml files, one per event"
    )
    vs30: Place | None = Field(
        default=None, description="VS30 in m/s: a raster, or CSV with lon, lat, vs30"
    )
    layers: dict[str, Place] = Field(
        default_factory=dict,
        description="Further rasters by the column name they get: dpm, sar_vv, sar_vh, ... One "
        "named mmi, pga_g, pgv_cm_s, psa03_g, psa10_g, psa30_g or vs30_m_s, in that unit, fills "
        "that column where no ShakeMap or VS30 file has a value",
    )

    @field_validator("layers")
    @classmethod
    def _names_are_columns(cls, layers: dict[str, str]) -> dict[str, str]:
        for name in layers:
            if not _COLUMN.match(name):
                raise ValueError(
                    f"layer name {name!r} cannot be a column; use letters, digits and _"
                )
            if name in _RESERVED or name.startswith("p_"):
                raise ValueError(f"layer name {name!r} is a column of the product; choose another")
        return layers


class TerrainSection(Section):
    """Elevation, for landslides."""

    dem: Place = Field(description="Elevation raster, metres")


class ModelsSection(Section):
    """Which bundles score: names of shipped ones, or paths and URIs."""

    damage: ModelRef | None = Field(
        default=DEFAULT_DAMAGE_MODEL, description="Damage per building; null for none"
    )
    landslide: ModelRef | None = Field(default=None, description="Landslides per pixel")
    hazard: ModelRef | None = Field(
        default=None,
        description="Damage from the values of `hazard` alone, a bundle of task hazard: added as "
        "log-odds to what the image says, and given as p_hazard_* for every building with a "
        "value; with a damage bundle that takes hazard values itself, only the latter",
    )


class SummarySection(Section):
    """Units of summary.csv; 500 m squares where the section is left out."""

    admin: Place = Field(description="Polygons of districts or provinces")
    id: str = Field(default="name", min_length=1, description="Column that names a unit")


class ExecutionSection(Section):
    """Overrides of what the profile sets; only for tests and tuning."""

    cell_windows: int | None = Field(default=None, ge=1, description="Side of a cell, windows")
    group_cells: int | None = Field(default=None, ge=1, description="Cells in one commit")
    readers: int | None = Field(default=None, ge=1, description="Cells read at the same time")
    engines: int | None = Field(
        default=None,
        ge=1,
        description="Engines open at the same time; left out: one per GPU, or per machine",
    )
    threads: int | None = Field(
        default=None, ge=0, description="Threads of one engine; 0: its runtime decides"
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        description="Windows or crops that an engine runs at once; left out: what was measured by "
        "`engine bench --keep`, was built, or suits the device",
    )
    runtime: str | None = Field(default=None, min_length=1, description="What runs the bundle")


class RunFile(Section):
    """A run, as asked for. Paths are absolute or URIs; nothing but the run file was read."""

    event: Event
    aoi: Aoi = Field(description="Vector file, WKT, or west,south,east,north in degrees")
    imagery: ImagerySection
    footprints: FootprintsSection
    hazard: HazardSection = Field(default_factory=HazardSection)
    terrain: TerrainSection | None = None
    models: ModelsSection = Field(default_factory=ModelsSection)
    summary: SummarySection | None = None
    outputs: tuple[str, ...] = Field(default=(), description="Further products: scores")
    profile: ProfileName = Field(default="rapid", description="The one dial: speed or thoroughness")
    out: Place | None = Field(default=None, description="Where the map goes; --out overrides it")
    storage: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Endpoints per protocol (s3, gs, az, http); never credentials",
    )
    execution: ExecutionSection = Field(default_factory=ExecutionSection)
    _source: str = PrivateAttr(default="")

    @field_validator("storage")
    @classmethod
    def _storage_holds_no_secret(cls, storage: dict[str, Any]) -> dict[str, Any]:
        for protocol, options in storage.items():
            if protocol not in SCHEMES:
                raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(SCHEMES)}")
            _refuse_secrets(options, f"storage.{protocol}")
        return storage

    @model_validator(mode="after")
    def _epochs_fit_the_event(self) -> Self:
        when = self.event.time
        if self.imagery.post.end < when:
            raise ValueError(
                f"imagery.post.datetime {self.imagery.post.datetime} ends before event.time "
                f"{when.isoformat()}; post scenes are taken after the event"
            )
        pre = self.imagery.pre
        if pre is not None and pre.start >= when:
            raise ValueError(
                f"imagery.pre.datetime {pre.datetime} begins after event.time "
                f"{when.isoformat()}; pre scenes are taken before the event"
            )
        return self

    @property
    def source(self) -> str:
        """Path or URI of the run file; empty when it was not read from one."""
        return self._source

    @property
    def storage_options(self) -> StorageOptions:
        """Endpoints, for whatever opens a store."""
        return StorageOptions(protocols=self.storage)

    @property
    def profile_settings(self) -> Profile:
        """What the profile sets, after the overrides of `execution`; `views` as it will be."""
        overrides = self.execution.model_dump(exclude_none=True)
        return profile_settings(self.profile, {**overrides, "views": self.imagery.views})

    def digest(self) -> str:
        """SHA-256 over what decides the map: all but `out`, `execution` and the profile's name.

        Intervals and times count by what they mean, paths as resolved.
        """
        content = self.model_dump(mode="json", exclude={"out", "execution", "profile"})
        if not self.outputs:  # runs of earlier versions keep their digest
            del content["outputs"]
        for epoch in ("post", "pre"):
            chosen: EpochFilter | None = getattr(self.imagery, epoch)
            if chosen is not None:
                interval = [chosen.start.isoformat(), chosen.end.isoformat()]
                content["imagery"][epoch]["datetime"] = interval
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _refuse_secrets(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", str(key))
        if _CREDENTIAL.search(snake):
            raise ValueError(
                f"{where}.{key} looks like a credential; credentials come from the environment "
                "(for s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, or a profile), never from "
                "the run file"
            )
        _refuse_secrets(inner, f"{where}.{key}")
