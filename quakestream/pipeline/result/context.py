"""What products are made from, and what a kind makes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Issue
from quakestream.hazard import HazardTable
from quakestream.outputs.products import LargeProduct
from quakestream.pipeline.planning.jobs import Job
from quakestream.pipeline.planning.plan import Plan
from quakestream.pipeline.result.evidence import HazardEvidence

ViewFailures = dict[tuple[int, int], str]
"""Why a view cannot be used in a zone, by view index and EPSG code."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FootprintHazard:
    """What is known of the footprints without imagery."""

    table: HazardTable
    evidence: HazardEvidence | None
    """What the bundle of `models.hazard` says; None where the run names none."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unread:
    """What an interim map lacks, since the run has not read it yet."""

    footprint_N: NDArray[np.bool_]
    """True for footprints of which some unit is not read."""
    cells: frozenset[str]
    """Ids of the cells of the job of which some unit is not read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunContext:
    """A run after its last commit, or what it has committed so far."""

    plan: Plan
    job: Job
    """The job whose commits are reduced."""
    hazard: FootprintHazard
    view_failures: ViewFailures
    constants: dict[str, str]
    """Columns that are the same in every row: `model`, `model_digest`, `engine`, `run_id`."""
    unread: Unread | None = None
    """None for a finished map."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KindProducts:
    """What one kind publishes. A run joins those of its jobs."""

    buildings: gpd.GeoDataFrame | None = None
    coverage: gpd.GeoDataFrame | None = None
    landslides: gpd.GeoDataFrame | None = None
    large: Mapping[str, LargeProduct] = field(default_factory=dict)
    """Products that a run file asks for, by their names in `outputs`."""
    prior: bytes | None = None
    """The landslide prior as a COG."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """What they add to run.json."""
    issues: tuple[Issue, ...] = ()
