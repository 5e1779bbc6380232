"""What a run is told that finds no image after the event: what was searched, and what is there."""

from shapely.geometry.base import BaseGeometry

from quakestream.catalog import SearchResult, find_items, search
from quakestream.catalog.documents import Harvest
from quakestream.catalog.passed_over import PassedOver
from quakestream.config import EpochFilter, ImagerySection, RunFile
from quakestream.errors import NoImageryError, StorageError

WAITS = "`quakestream watch` waits for the first image"


def no_imagery(
    run: RunFile, aoi: BaseGeometry, harvest: Harvest, result: SearchResult
) -> NoImageryError:
    """The error for a search without a post scene in the AOI.

    Services were asked for the dates of the run alone. They are asked once more, for any date.
    """
    imagery, limits = run.imagery, run.imagery.post
    passed, items, more = result.passed_over, len(harvest.items), ""
    if harvest.of_service:
        try:
            harvest = find_items(imagery, aoi, run.storage_options, any_time=True)
        except StorageError:
            pass  # the search itself has worked, and its counts are said
        else:
            passed = search(imagery, aoi, run.storage_options, harvest=harvest).passed_over
            items, more = len(harvest.items), " or more" if harvest.is_cut else ""
    there = f"{items:,}{more} item{'' if items == 1 else 's'} in the catalogue"
    inside = f"{passed.in_aoi:,} of them in the AOI"
    reasons = ", ".join(passed.reasons(limits))
    got = (f"{there}, {inside}" + (f": {reasons}" if reasons else "")) if items else there
    places = passed.places()
    return NoImageryError(
        "no post-event scene in the AOI",
        run.aoi,
        expected=_searched(imagery, aoi),
        got=f"{got}; {places}" if places else got,
        remedy=f"{_remedy(passed, limits)}; {WAITS}",
    )


def _searched(imagery: ImagerySection, aoi: BaseGeometry) -> str:
    """What was searched for, in words."""
    limits = imagery.post
    catalog = imagery.catalog if isinstance(imagery.catalog, str) else ", ".join(imagery.catalog)
    bounds = ", ".join(f"{v:.4f}" for v in aoi.bounds)
    parts = [f"a scene of {catalog} in {bounds} at {limits.datetime}"]
    if limits.max_cloud is not None:
        parts.append(f"max_cloud {limits.max_cloud:g}")
    if limits.max_off_nadir is not None:
        parts.append(f"max_off_nadir {limits.max_off_nadir:g}")
    return " with ".join([parts[0], " and ".join(parts[1:])] if parts[1:] else parts)


def _remedy(passed: PassedOver, limits: EpochFilter) -> str:
    """What to change, as far as the catalogue tells."""
    crs = "its CRS" if passed.outside == 1 else "their CRS"
    if not passed.in_aoi:
        return f"check the AOI and imagery.catalog{f', and {crs}' if passed.outside else ''}"
    filters = [
        *(["raise imagery.post.max_cloud"] if passed.clouds else []),
        *(["raise imagery.post.max_off_nadir"] if passed.angles_deg else []),
    ]
    places = [f"check {crs}, or the AOI"] if passed.outside else []
    dates = ["check imagery.post.datetime"] if passed.times or not (filters or places) else []
    return " or ".join([*filters, *dates, *places])
