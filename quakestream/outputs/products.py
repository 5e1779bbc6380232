"""What a finished run hands to `publish`."""

from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd

from quakestream.domain import Issue, ScaleClass, View
from quakestream.outputs.rasters import ScoreRasters
from quakestream.storage import StorageOptions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunProducts:
    """Everything the products are made of. Nothing is open."""

    buildings: gpd.GeoDataFrame
    """One row per footprint, EPSG:4326, with the columns of `buildings.arrow_schema`."""
    coverage: gpd.GeoDataFrame
    """One row per cell, EPSG:4326, with the columns of `coverage.COVERAGE_TYPES`."""
    rasters: ScoreRasters | None = None
    """Probability rasters; None where the run does not ask for them."""
    issues: list[Issue] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    """What becomes run.json; `counts` in it is checked against the rows (law 3)."""
    classes: tuple[ScaleClass, ...]
    """The bundle's damage scale, mildest first."""
    layers: tuple[str, ...] = ()
    """Names of the hazard-layer columns of `buildings`, beyond the ShakeMap's and VS30."""
    admin: gpd.GeoDataFrame | None = None
    """Administrative units for summary.csv; None means 500 m squares."""
    admin_id: str = ""
    """The column of `admin` that names a unit."""
    views: list[View] = field(default_factory=list)
    """The scene pairs that buildings were judged from, for the previews."""
    storage: StorageOptions = field(default_factory=StorageOptions)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(c.label for c in self.classes)
