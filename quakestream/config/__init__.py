"""The run file: its strict schema, profiles, JSON Schema and a commented example."""

from quakestream.config.fields import LAYER_MARK, aoi_bbox, aoi_kind, is_uri, parse_interval
from quakestream.config.loading import open_run, parse_run, run_schema
from quakestream.config.profiles import PROFILES, Profile
from quakestream.config.sections import (
    DEFAULT_DAMAGE_MODEL,
    EpochFilter,
    EventSection,
    ExecutionSection,
    FootprintsSection,
    HazardSection,
    ImagerySection,
    ModelsSection,
    RunFile,
    SummarySection,
)
from quakestream.config.terrain import TerrainSection

__all__ = [
    "LAYER_MARK",
    "DEFAULT_DAMAGE_MODEL",
    "PROFILES",
    "EpochFilter",
    "EventSection",
    "ExecutionSection",
    "FootprintsSection",
    "HazardSection",
    "ImagerySection",
    "ModelsSection",
    "Profile",
    "RunFile",
    "SummarySection",
    "TerrainSection",
    "aoi_bbox",
    "aoi_kind",
    "is_uri",
    "open_run",
    "parse_interval",
    "parse_run",
    "run_schema",
]
