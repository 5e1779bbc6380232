"""What the landslide prior says beside the images: in slides, in cells, and as a raster."""

from dataclasses import replace
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.domain import BundleSpec, Issue
from quakestream.errors import InputError, QuakestreamError, StorageError
from quakestream.fusion.landslide import combined
from quakestream.hazard.dem_files import try_version
from quakestream.hazard.landslide_prior import LandslidePrior, PriorInputs, open_prior
from quakestream.hazard.prior_raster import MODEL, PriorArea, PriorRaster, prior_raster
from quakestream.outputs.coverage import EVIDENCE, KIND, LANDSLIDES, P_PRIOR
from quakestream.pipeline.planning.plan import Plan
from quakestream.pipeline.result.context import KindProducts
from quakestream.storage import fingerprint
from quakestream.tiling.antimeridian import bounds_of

SPACING_DEG = 0.001
"""Distance between the points of an outline at which the prior is looked up: half its pixels."""
MOST_POINTS = 20
"""Points along each side of an outline, at most."""
SCORED = ("scored", "partly_scored")
"""Status of cells that an image model has looked at."""


def with_prior(products: KindProducts, plan: Plan) -> KindProducts:
    """The products of a run with the landslide prior, where the run names its layers.

    Slides get `p_prior`. Where the bundle states the share of ground that slid in its training,
    their probability is that of image and prior together. Cells of landslides get `p_prior`, too,
    and the evidence that there is. A prior that cannot be made is an issue.
    """
    inputs = PriorInputs.of_run(plan.run.hazard, plan.run.terrain)
    if inputs is None:
        return products
    try:
        with open_prior(inputs, plan.run.storage_options) as prior:
            area = PriorArea(boxes_N4=np.array([bounds_of(plan.aoi)]), name="the AOI")
            raster = prior_raster(prior, area)
            slides, coverage = products.landslides, products.coverage
            if slides is not None:
                slides = slides_with_prior(slides, prior, _slide_spec(plan))
            if coverage is not None and KIND in coverage.columns:
                coverage = cells_with_prior(coverage, prior)
    except (InputError, StorageError) as error:
        issue = Issue.of_error(error, error.where, "terrain", "there is no landslide prior")
        return replace(products, issues=(*products.issues, issue))
    return replace(
        products,
        landslides=slides,
        coverage=coverage,
        prior=raster.cog,
        record={**products.record, "landslide_prior": _record(plan, inputs, raster)},
        issues=(*products.issues, *raster.issues),
    )


def slides_with_prior(
    slides: gpd.GeoDataFrame, prior: LandslidePrior, spec: BundleSpec
) -> gpd.GeoDataFrame:
    """Slides with what the prior says of their ground, and with both together."""
    p_prior_N = mean_prior(slides.geometry.to_numpy(), prior)
    out = slides.assign(p_prior=p_prior_N)
    if not spec.prior:
        return out
    image_N = slides["probability"].to_numpy(np.float64)
    both = combined(image_N, p_prior_N, spec.prior[-1])
    return out.assign(
        probability=both.p_N,
        p_image=image_N,
        image_share=both.image_share_N,
        evidence=both.evidence_N,
    )


def cells_with_prior(coverage: gpd.GeoDataFrame, prior: LandslidePrior) -> gpd.GeoDataFrame:
    """Cells with the prior of those of landslides, and the evidence that there is of each."""
    slid_N = (coverage[KIND] == LANDSLIDES).to_numpy()
    p_prior_N = np.full(len(coverage), np.nan)
    p_prior_N[slid_N] = mean_prior(coverage.geometry.to_numpy()[slid_N], prior)
    imaged_N = slid_N & coverage["status"].isin(SCORED).to_numpy()
    known_N = np.isfinite(p_prior_N)
    evidence_N = np.select(
        [imaged_N & known_N, imaged_N, known_N],
        np.array(["image+prior", "image", "prior"], object),
        np.array(None, object),
    )
    return coverage.assign(**{P_PRIOR: p_prior_N, EVIDENCE: evidence_N})


def mean_prior(outline_N: NDArray[np.object_], prior: LandslidePrior) -> NDArray[np.float64]:
    """Mean coverage of the ground of outlines (EPSG:4326); NaN where there is none.

    Raises:
        HazardError: if a layer cannot be read.
    """
    if not len(outline_N):
        return np.empty(0)
    points = [_points(outline) for outline in outline_N]
    number_P = np.repeat(np.arange(len(points)), [len(p) for p in points])
    lon_P, lat_P = np.concatenate(points).T
    found_P = prior.at(lon_P, lat_P).coverage
    known_P = np.isfinite(found_P)
    count_N = np.bincount(number_P[known_P], minlength=len(points))
    total_N = np.bincount(number_P[known_P], found_P[known_P], minlength=len(points))
    return np.where(count_N > 0, total_N / np.maximum(count_N, 1), np.nan)


def _points(outline: BaseGeometry) -> NDArray[np.float64]:
    """Points inside an outline, in each of its parts, shape (points, 2)."""
    found = [shapely.get_coordinates(shapely.point_on_surface(outline))]
    for part in shapely.get_parts(outline):
        west, south, east, north = part.bounds
        across, up = (
            min(MOST_POINTS, int((high - low) / SPACING_DEG))
            for low, high in ((west, east), (south, north))
        )
        if across * up < 2:
            continue
        x, y = np.meshgrid(
            west + (east - west) * (np.arange(across) + 0.5) / across,
            south + (north - south) * (np.arange(up) + 0.5) / up,
        )
        inside = shapely.contains_xy(part, x, y)
        found.append(np.column_stack([x[inside], y[inside]]))
    return np.concatenate(found)


def _slide_spec(plan: Plan) -> BundleSpec:
    return next(j.bundle.spec for j in plan.jobs if j.bundle.spec.task == "landslide")


def _record(plan: Plan, inputs: PriorInputs, raster: PriorRaster) -> dict[str, Any]:
    """`landslide_prior` of run.json: what it says of the AOI, and its files."""
    files = {
        name: place
        for name in ("lithology", "landcover", "cti", "stddev", "gradient", "dem")
        if (place := getattr(inputs, name)) is not None
    }
    if inputs.gradient is not None:
        files.pop("dem", None)  # it is not used
    summary = raster.summary
    return {
        "model": MODEL,
        "max_coverage": round(summary.max_coverage, 5),
        "assessed_km2": round(summary.assessed_km2, 3),
        "expected_km2": round(summary.expected_km2, 4),
        "above_km2": {f"{t:g}": round(km2, 3) for t, km2 in summary.above_km2.items()},
        "shakemaps": list(inputs.shakemaps),
        "layers": {name: {"uri": uri, "etag": _etag(plan, uri)} for name, uri in files.items()},
    }


def _etag(plan: Plan, uri: str) -> str:
    try:
        return fingerprint(uri, plan.run.storage_options)
    except (QuakestreamError, OSError):
        return try_version(uri, plan.run.storage_options)
