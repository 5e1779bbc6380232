"""The content of a finished run, for publishing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Issue, ScaleClass, View
from quakestream.storage import StorageOptions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LargeProduct:
    """A product of many objects, which are made one by one while they are written."""

    identity: str
    """Digest of the content, known without making it."""
    objects: Callable[[], Iterator[tuple[str, bytes]]]
    """Names and contents, one in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunProducts:
    """Everything that the products are made of. Nothing is open."""

    buildings: gpd.GeoDataFrame
    """One row per footprint, EPSG:4326, with the columns of `buildings.arrow_types`."""
    coverage: gpd.GeoDataFrame
    """One row per cell, EPSG:4326, with the columns of `coverage.COVERAGE_TYPES`."""
    landslides: gpd.GeoDataFrame | None = None
    """One row per landslide, EPSG:4326, with the columns of `landslides.LANDSLIDE_TYPES`; None in
    a run that looks for none."""
    prior: bytes | None = None
    """The landslide prior as a COG; None in a run that has none."""
    outputs: tuple[str, ...] = ()
    """Optional products that the run asks for."""
    large: Mapping[str, LargeProduct] = field(default_factory=dict)
    """Products that a kind makes, by their names in `outputs`."""
    issues: list[Issue] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)
    """Content of run.json; its `counts` are checked against the rows (law 3)."""
    classes: tuple[ScaleClass, ...]
    """Damage scale of the bundle, mildest first."""
    layers: tuple[str, ...] = ()
    """Names of the hazard-layer columns of `buildings`, without ShakeMap and VS30."""
    aoi: BaseGeometry | None = None
    """The area of interest, EPSG:4326."""
    admin: gpd.GeoDataFrame | None = None
    """Administrative units for summary.csv; None: 500 m squares."""
    admin_id: str = ""
    """The column of `admin` with the names of units."""
    admin_code: str | None = None
    """The column of `admin` with their codes, which keep units of one name apart."""
    verification: Mapping[str, bytes] = field(default_factory=dict)
    """`verification.json` and `answers.csv` of a map that was corrected by spot checks."""
    pictures: tuple[Mapping[str, Any], ...] | None = None
    """Pictures of the page where they are there already; None: they are read from the views."""
    views: list[View] = field(default_factory=list)
    """The views of the buildings, for the previews."""
    storage: StorageOptions = field(default_factory=StorageOptions)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(c.label for c in self.classes)
