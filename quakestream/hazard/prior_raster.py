"""The landslide prior as a cloud-optimised GeoTIFF, and a summary of it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from quakestream.domain import Issue, Window
from quakestream.errors import HazardError
from quakestream.fusion.nowicki_jessee import SlideCoverage
from quakestream.hazard.frames import PixelFrame
from quakestream.hazard.horn import pixel_sizes
from quakestream.hazard.interpolation import Floats
from quakestream.hazard.landslide_prior import (
    NO_CTI,
    NO_LANDCOVER,
    NO_LITHOLOGY,
    NO_SLOPE,
    UNKNOWN_LANDCOVER,
    UNKNOWN_LITHOLOGY,
    LandslidePrior,
)
from quakestream.hazard.tiled_layers import OpenLayer
from quakestream.raster.datasets import new_cog

THRESHOLDS = (0.01, 0.05, 0.1)
"""Coverages above which ground is counted."""
MODEL = "Nowicki Jessee et al. (2018)"
_BLOCK_PX = 512
"""Side of the blocks in which the prior is made."""
_UNIT = "share of ground, 0 to 1"


@dataclass(slots=True, kw_only=True)
class PriorSummary:
    """What a landslide prior says, as far as it was read."""

    pixels: int = 0
    """Pixels with a coverage."""
    max_coverage: float = 0.0
    assessed_km2: float = 0.0
    """Ground with a coverage."""
    expected_km2: float = 0.0
    """Ground that slides by the prior: the sum of coverage times area."""
    above_km2: dict[float, float]
    """Ground whose coverage is above each threshold."""

    @classmethod
    def empty(cls) -> "PriorSummary":
        return cls(above_km2=dict.fromkeys(THRESHOLDS, 0.0))

    def add(self, found: SlideCoverage, area_km2_YX: Floats) -> None:
        """Counts one block."""
        known = np.isfinite(found.coverage)
        if not known.any():
            return
        coverage, area = found.coverage[known], area_km2_YX[known]
        self.pixels += int(known.sum())
        self.max_coverage = max(self.max_coverage, float(coverage.max()))
        self.assessed_km2 += float(area.sum())
        self.expected_km2 += float((coverage * area).sum())
        for threshold in self.above_km2:
            self.above_km2[threshold] += float(area[coverage > threshold].sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorRaster:
    """A written landslide prior."""

    cog: bytes
    """A COG of two bands, coverage and its standard deviation, float32, NaN without a value."""
    summary: PriorSummary
    bounds: tuple[float, float, float, float]
    """West, south, east, north in the CRS of the raster."""
    crs: str
    issues: tuple[Issue, ...]
    """Assumptions about the files, and shaken ground without a coverage."""
    attention: bool
    """True where a file has values without a meaning, or does not cover the shaken ground."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriorArea:
    """The ground whose prior is made."""

    boxes_N4: Floats
    """West, south, east, north (EPSG:4326)."""
    name: str
    """For messages: `the ShakeMap`."""

    def covered(self, frame: PixelFrame) -> float:
        """Share of the ground that a raster covers; a rim of a pixel does not count."""
        asked = covered = 0
        for window in frame.box_windows(self.boxes_N4):
            inner = window.grown(-1) if min(window.shape) > 2 else window
            asked += inner.height * inner.width
            part = frame.inside(inner)
            covered += part.height * part.width
        return covered / max(asked, 1)


def prior_raster(prior: LandslidePrior, area: PriorArea | None = None) -> PriorRaster:
    """Makes the prior of some ground, block by block.

    Args:
        area: the ground; None: all ground under the ShakeMaps.

    Raises:
        HazardError: if a layer cannot be used, or no ground has a coverage.
    """
    area = area or PriorArea(boxes_N4=prior.shaking.boxes_N4, name="the ShakeMap")
    window = prior.window(area.boxes_N4)
    if not window.height:
        raise HazardError(
            f"slopes do not cover {area.name}",
            prior.slope.like.uri,
            expected=f"a raster of {area.name}",
            got=f"{area.name} at {_boxes(area)}",
            remedy="give a layer of the event's region",
        )
    frame = prior.frame
    transform = frame.transform @ Affine.translation(window.col - frame.turn_px, window.row)
    profile = {
        "count": 2,
        "dtype": "float32",
        "height": window.height,
        "width": window.width,
        "crs": frame.crs.to_wkt(),
        "transform": transform,
        "nodata": np.nan,
    }
    summary = PriorSummary.empty()
    with tempfile.TemporaryDirectory(prefix="quakestream-") as folder:
        path = Path(folder) / "prior.tif"
        options = {"COMPRESS": "DEFLATE", "PREDICTOR": "YES", "BLOCKSIZE": 512}
        with new_cog(path, profile, **options) as dataset:
            _describe(dataset, prior)
            _fill(dataset, prior, window, summary)
        cog = path.read_bytes()
    if not summary.pixels:
        raise HazardError(
            "no ground has a landslide prior",
            prior.slope.like.uri,
            expected="layers that cover the shaken ground",
            got=_lacks(prior) or "no shaking on the slopes",
        )
    corners = [transform @ (0, 0), transform @ (window.width, window.height)]
    (west, north), (east, south) = corners
    issues = tuple(_missing_issues(prior, area))
    return PriorRaster(
        cog=cog,
        summary=summary,
        bounds=(min(west, east), min(south, north), max(west, east), max(south, north)),
        crs=frame.crs.to_string(),
        issues=(*prior.issues, *issues),
        attention=bool(issues),
    )


def _fill(dataset: Any, prior: LandslidePrior, window: Window, summary: PriorSummary) -> None:
    frame = prior.frame
    for top in range(0, window.height, _BLOCK_PX):
        for left in range(0, window.width, _BLOCK_PX):
            block = Window(
                row=window.row + top,
                col=window.col + left,
                height=min(_BLOCK_PX, window.height - top),
                width=min(_BLOCK_PX, window.width - left),
            )
            found = prior.read(block)
            sizes = pixel_sizes(frame.transform, frame.crs, block)
            summary.add(found, np.abs(sizes.area_m2_YX) / 1e6)
            place = ((top, top + block.height), (left, left + block.width))
            bands = np.stack([found.coverage, found.std]).astype(np.float32)
            dataset.write(bands, window=place)


def _describe(dataset: Any, prior: LandslidePrior) -> None:
    """Names and units of the bands, and what they were made of."""
    dataset.set_band_description(1, "coverage")
    dataset.set_band_description(2, "std")
    dataset.units = (_UNIT, _UNIT)
    events = [one.shakemap for one in prior.shaking.maps]
    dataset.update_tags(
        MODEL=MODEL,
        SHAKEMAP=", ".join(f"{event.event_id} version {event.version}" for event in events),
        MEANING="share of ground that slides in the earthquake; a prior from shaking and terrain, "
        "without any image",
    )


def _missing_issues(prior: LandslidePrior, area: PriorArea) -> list[Issue]:
    """Shaken ground without a coverage, but for water, which has no topographic index."""
    causes = [
        (layer.uri, f"{cause} in {prior.missing[cause]:,} shaken pixels")
        for cause, layer in _layers(prior).items()
        if prior.missing[cause] and cause != NO_CTI
    ]
    for layer in dict.fromkeys(_layers(prior).values()):
        share = area.covered(layer.frame)
        if share < 1:
            causes.append((layer.uri, f"covers {share:.0%} of {area.name}"))
    return [Issue(subject=uri, kind="terrain", cause=cause) for uri, cause in causes]


def _layers(prior: LandslidePrior) -> dict[str, OpenLayer]:
    """The layer that a missing input belongs to."""
    lithology, landcover = prior.lithology.layer, prior.landcover.layer
    return {
        NO_CTI: prior.cti.layer,
        NO_SLOPE: prior.slope.like,
        UNKNOWN_LITHOLOGY: lithology,
        UNKNOWN_LANDCOVER: landcover,
        NO_LITHOLOGY: lithology,
        NO_LANDCOVER: landcover,
    }


def _lacks(prior: LandslidePrior) -> str:
    return ", ".join(f"{cause} in {n:,} pixels" for cause, n in prior.missing.items() if n)


def _boxes(area: PriorArea) -> str:
    boxes = [", ".join(f"{edge:g}" for edge in box) for box in area.boxes_N4]
    return "; ".join(boxes)
