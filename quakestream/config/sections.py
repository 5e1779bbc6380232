"""The sections of a run file, as frozen values. Each key has a description."""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from quakestream.config.columns import RESERVED
from quakestream.config.fields import (
    SCHEMES,
    Aoi,
    AssetNames,
    BandOrder,
    Instant,
    Interval,
    ModelRef,
    Outputs,
    Place,
    Places,
    checked_place,
    parse_interval,
)
from quakestream.config.problems import Loc, RunText
from quakestream.config.profiles import (
    FAST_DAMAGE_MODEL,
    SURE_DAMAGE_MODEL,
    Profile,
    ProfileName,
    Views,
    profile_settings,
)
from quakestream.config.section import Section
from quakestream.config.shares import AUTO, Share, ShareLayer
from quakestream.config.terrain import TerrainSection
from quakestream.errors import ConfigError
from quakestream.redaction import names_secret
from quakestream.storage import StorageOptions

DEFAULT_DAMAGE_MODEL = FAST_DAMAGE_MODEL
"""The damage bundle of a run file that names neither a bundle nor a profile."""

_ENVIRONMENT = (
    "set credentials in the environment (for s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, or a "
    "profile)"
)
_COLUMN = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")


class EventSection(Section):
    """The earthquake."""

    id: str = Field(min_length=1, description="Name of the event: the ShakeMap's or your own")
    time: Instant = Field(description="Origin time with its zone; scenes before it are pre-event")


class EpochFilter(Section):
    """Scenes of the catalogue that may show one epoch."""

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
    bands: BandOrder = Field(
        default=None, description="Bands of these scenes, where the epochs differ"
    )

    @property
    def start(self) -> dt.datetime:
        """First instant, UTC; the earliest possible one where the interval is open."""
        return parse_interval(self.datetime)[0]

    @property
    def end(self) -> dt.datetime:
        """Last instant, UTC; the latest possible one where the interval is open."""
        return parse_interval(self.datetime)[1]


class ImagerySection(Section):
    """The scenes: where they are and which ones are used."""

    catalog: str | list[str] = Field(
        description="STAC catalogue, API or item collection, or a list of GeoTIFFs"
    )
    asset: AssetNames = Field(
        default="visual",
        description="Asset with red, green and blue. Models of reflectance find their bands by "
        "name in all assets of an item. A list: only these assets are used; for red, green and "
        "blue the first one that an item has",
    )
    bands: BandOrder = Field(
        default=None,
        description="Numbers (from 1) of the red, green and blue band, such as [3, 2, 1]. Left "
        "out: the STAC item decides, else the file",
    )
    post: EpochFilter = Field(description="Scenes after the event")
    pre: EpochFilter | None = Field(
        default=None, description="Scenes before the event; leave out for post-only models"
    )
    views: Views = Field(
        default="best",
        description="best: each building in its best view; all: in every view of it. "
        "Left out: the profile decides",
    )
    store: Place | None = Field(
        default=None,
        description="Tile store made by `quakestream tile`, read instead of the scenes",
    )

    @property
    def assets(self) -> tuple[str, ...]:
        """Assets for red, green and blue; the first that an item has is read."""
        return (self.asset,) if isinstance(self.asset, str) else self.asset

    @property
    def only_assets(self) -> tuple[str, ...]:
        """Assets that hold the bands of models of reflectance; empty: any may."""
        return () if isinstance(self.asset, str) else self.asset

    @field_validator("catalog", mode="plain", json_schema_input_type=str | list[str])
    @classmethod
    def _catalog_places(cls, value: Any, info: ValidationInfo) -> str | list[str]:
        places = [value] if isinstance(value, str) else value
        if not isinstance(places, list) or not places or not all(type(p) is str for p in places):
            raise ConfigError("wrong value", expected="a path or URI, or a list of GeoTIFFs")
        resolved = [checked_place(place, info) for place in places]
        return resolved[0] if isinstance(value, str) else resolved


class FootprintsSection(Section):
    """The buildings to assess."""

    path: Place = Field(description="Vector file of building outlines, any format and CRS")
    id: str | None = Field(
        default=None,
        min_length=1,
        description="Column with the stable id; fid: the file's feature numbers; auto: a digest "
        "of the outline. Left out: the column id, and auto where there is none",
    )
    layer: str | None = Field(
        default=None, min_length=1, description="Layer to read where the file holds several"
    )


class HazardSection(Section):
    """Shaking, site condition and proxy layers; the papers call them metadata."""

    shakemaps: Places = Field(
        default_factory=list,
        description="ShakeMap grid.xml files, also as .gz or .zip, one per event",
    )
    vs30: Place | None = Field(
        default=None, description="VS30 in m/s: a raster, or CSV with lon, lat, vs30"
    )
    layers: dict[str, Place] = Field(
        default_factory=dict,
        description="Further rasters by column name: dpm, sar_vv, sar_vh, ... A raster named "
        "mmi, pga_g, pgv_cm_s, psa03_g, psa10_g, psa30_g or vs30_m_s, in that unit, fills that "
        "column where no ShakeMap or VS30 file has a value",
    )

    @field_validator("layers")
    @classmethod
    def _names_are_columns(cls, layers: dict[str, str]) -> dict[str, str]:
        for name in layers:
            if not _COLUMN.match(name):
                raise ConfigError(
                    "layer name cannot be a column",
                    expected="letters, digits and _",
                    got=repr(name),
                )
            if name in RESERVED or name.startswith("p_"):
                raise ConfigError(
                    "layer name is a column of the product",
                    got=repr(name),
                    remedy="choose another name",
                )
        return layers


class ModelsSection(Section):
    """The model bundles: names of shipped bundles, or paths and URIs."""

    damage: ModelRef | None = Field(
        default=DEFAULT_DAMAGE_MODEL,
        description="Damage per building; null: none. Left out: the profile decides, "
        f"{FAST_DAMAGE_MODEL} with rapid, {SURE_DAMAGE_MODEL} with the others",
    )
    landslide: ModelRef | None = Field(default=None, description="Landslides per pixel")
    hazard: ModelRef | None = Field(
        default=None,
        description="Damage from the values of `hazard` alone, a bundle of task hazard. Its "
        "log-odds are added to those of the image, and every building with a value gets "
        "p_hazard_*. A damage bundle that takes hazard values itself gets p_hazard_* only",
    )
    share: Share = Field(
        default=AUTO,
        description="Share of destroyed buildings that probabilities assume, where the damage "
        "bundle is calibrated. auto: estimated in each unit of summary.csv; a number between 0 "
        "and 1: that share everywhere; {layer: NAME}: the shares in a raster of hazard.layers",
    )


class RoadsSection(Section):
    """Roads, whose metres under landslides are counted."""

    path: Place = Field(description="Vector file of lines, any format and CRS")
    layer: str | None = Field(
        default=None, min_length=1, description="Layer to read where the file holds several"
    )


class SummarySection(Section):
    """Units of summary.csv; left out: 500 m squares."""

    admin: Place = Field(description="Polygons of districts or provinces")
    layer: str | None = Field(
        default=None, min_length=1, description="Layer to read where the file holds several"
    )
    id: str = Field(default="name", min_length=1, description="Column with the name of a unit")
    pcode: str | None = Field(
        default=None,
        min_length=1,
        description="Column with the code of a unit (P-code); units of one name stay apart by it",
    )


class ExecutionSection(Section):
    """Overrides of the profile, for tests and tuning only."""

    cell_windows: int | None = Field(default=None, ge=1, description="Side of a cell, windows")
    group_cells: int | None = Field(default=None, ge=1, description="Cells of a commit group")
    readers: int | None = Field(
        default=None, ge=1, description="Cells that are read at the same time"
    )
    engines: int | None = Field(
        default=None,
        ge=1,
        description="Engines that are open at the same time; left out: one per GPU, or per machine",
    )
    threads: int | None = Field(
        default=None, ge=0, description="Threads of one engine; 0: its runtime decides"
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        description="Windows or crops that an engine scores at once; left out: the batch measured "
        "by `engine bench --keep`, the built one, or the one that suits the device",
    )
    interim_s: float | None = Field(
        default=None,
        ge=0,
        description="Seconds between two maps of what is read so far, while the first map of an "
        "output is being made; 0: none; left out: 600",
    )
    runtime: str | None = Field(default=None, min_length=1, description="Runtime of the bundle")


class RunFile(Section):
    """A run. Paths are absolute or URIs; no file that it names was read."""

    event: EventSection = Field(description="The earthquake: its id and time")
    aoi: Aoi = Field(
        description="Vector file, or {path, layer} of one; WKT; or west,south,east,north in degrees"
    )
    imagery: ImagerySection = Field(description="The scenes: catalog and post, with pre for pairs")
    footprints: FootprintsSection | None = Field(
        default=None,
        description="The buildings: path of a vector file. Without models.damage none are needed",
    )
    hazard: HazardSection = Field(default_factory=HazardSection)
    terrain: TerrainSection | None = None
    models: ModelsSection = Field(default_factory=ModelsSection)
    summary: SummarySection | None = None
    roads: RoadsSection | None = None
    outputs: Outputs = Field(
        default=(),
        description=(
            "Products besides the GeoParquet files: scores, gpkg, fgb, kml, pmtiles, hxl, ems, "
            "pdf, stac"
        ),
    )
    profile: ProfileName = Field(
        default="rapid",
        description="The one dial. rapid: lists tonight. standard: numbers to publish, slower. "
        "exhaustive: every view of a building, slowest",
    )
    out: Place | None = Field(
        default=None, description="Folder or prefix of the map; --out overrides it"
    )
    storage: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Endpoints per protocol (s3, gs, az, http); never credentials",
    )
    execution: ExecutionSection = Field(default_factory=ExecutionSection)
    _source: str = PrivateAttr(default="")
    _lines: Mapping[Loc, int] = PrivateAttr(default_factory=dict)

    @field_validator("storage")
    @classmethod
    def _storage_holds_no_secret(cls, storage: dict[str, Any]) -> dict[str, Any]:
        for protocol, options in storage.items():
            if protocol not in SCHEMES:
                raise ConfigError(
                    "unknown protocol", protocol, f"one of {', '.join(SCHEMES)}", protocol
                )
            _refuse_secrets(options, protocol)
        return storage

    @model_validator(mode="after")
    def _models_have_what_they_judge(self) -> Self:
        if self.footprints is None and self.models.damage is not None:
            landslide = self.models.landslide or "NAME"
            raise ConfigError(
                "is required and missing",
                "footprints",
                remedy="add it: the buildings, path of a vector file; or, for landslides alone, "
                f"write models: {{damage: null, landslide: {landslide}}}",
            )
        if self.models.damage is None and self.models.landslide is None:
            raise ConfigError(
                "no model", "models", remedy="name a bundle for damage, for landslide, or for both"
            )
        return self

    @model_validator(mode="after")
    def _share_is_a_layer_of_the_run(self) -> Self:
        share = self.models.share
        if isinstance(share, ShareLayer) and share.layer not in self.hazard.layers:
            named = ", ".join(self.hazard.layers) or "none"
            raise ConfigError(
                "no such layer",
                "models.share.layer",
                expected=f"one of hazard.layers ({named})",
                got=repr(share.layer),
                remedy="name the raster of shares under hazard.layers",
            )
        return self

    @model_validator(mode="after")
    def _epochs_fit_the_event(self) -> Self:
        when = self.event.time
        if self.imagery.post.end < when:
            raise ConfigError(
                "interval ends before the event",
                "imagery.post.datetime",
                expected=f"scenes after event.time {when.isoformat()}",
                got=self.imagery.post.datetime,
                remedy="post scenes are taken after the event",
            )
        pre = self.imagery.pre
        if pre is not None and pre.start >= when:
            raise ConfigError(
                "interval begins after the event",
                "imagery.pre.datetime",
                expected=f"scenes before event.time {when.isoformat()}",
                got=pre.datetime,
                remedy="pre scenes are taken before the event",
            )
        return self

    def __repr__(self) -> str:
        return f"<run {self.event.id} of {self.source or 'a mapping'}, {self.digest()[:8]}>"

    @property
    def source(self) -> str:
        """Path or URI of the run file; empty where the run comes from no file."""
        return self._source

    def where_of(self, *loc: str) -> str:
        """Where a key stands: `run.yaml, line 6, models.damage`."""
        return RunText(source=self._source, content=None, lines=self._lines).where(loc)

    @property
    def storage_options(self) -> StorageOptions:
        """The endpoints, for opening stores."""
        return StorageOptions(protocols=self.storage)

    @property
    def profile_settings(self) -> Profile:
        """The settings of the profile with the overrides of `execution` and `imagery.views`."""
        overrides = self.execution.model_dump(exclude_none=True)
        return profile_settings(self.profile, {**overrides, "views": self.imagery.views})

    @property
    def named_profile(self) -> str | None:
        """The profile that the run file names; None where it leaves that to the default."""
        return self.profile if "profile" in self.model_fields_set else None

    def recorded(self) -> dict[str, Any]:
        """The request as `run.json` keeps it; `open_run` reads it back. It holds no credentials."""
        return self.model_dump(mode="json", exclude={"out"}, exclude_unset=True)

    def digest(self) -> str:
        """SHA-256 over all keys that decide the map.

        `out`, `execution` and the profile's name do not count. Intervals and times count by
        their meaning, paths as resolved. `outputs` counts only where it names a product, and
        `models.share` where it is not `auto`, so that runs from before the keys keep their
        digest.
        """
        excluded = {"out", "execution", "profile"} | (set() if self.outputs else {"outputs"})
        content = self.model_dump(mode="json", exclude=excluded)
        if self.footprints is not None:
            content["footprints"]["id"] = self.footprints.id or "id"
        for section, key in (("footprints", "layer"), ("summary", "layer"), ("summary", "pcode")):
            if content[section] is not None and content[section][key] is None:
                del content[section][key]
        for epoch in ("post", "pre"):
            filters: EpochFilter | None = getattr(self.imagery, epoch)
            if filters is not None:
                _drop_null(content["imagery"][epoch], "bands")
                interval = [filters.start.isoformat(), filters.end.isoformat()]
                content["imagery"][epoch]["datetime"] = interval
        _drop_null(content["imagery"], "bands")
        _drop_null(content, "roads")
        if self.models.share == AUTO:
            del content["models"]["share"]
        if self.terrain is not None:
            content["terrain"] = self.terrain.counted()
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _drop_null(section: dict[str, Any], key: str) -> None:
    """Drops a key without a value, so that runs from before the key keep their digest."""
    if section.get(key) is None:
        section.pop(key, None)


def _refuse_secrets(value: Any, where: str) -> None:
    """Raises ConfigError where a key, at any depth, or a URI holds a credential."""
    if isinstance(value, str) and "://" in value and urlsplit(value).password:
        raise ConfigError("URI holds a password", where, remedy=_ENVIRONMENT)
    if isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _refuse_secrets(inner, f"{where}.{number}")
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if names_secret(str(key)):
            raise ConfigError("key looks like a credential", f"{where}.{key}", remedy=_ENVIRONMENT)
        _refuse_secrets(inner, f"{where}.{key}")
