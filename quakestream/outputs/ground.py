"""Words for the ground of a run: what was asked for, what images cover, and what is scored.

docs/map.md defines these figures; `plan`, `status`, the report and run.json use the same ones.
"""

from collections.abc import Mapping
from typing import Any

from quakestream.outputs.numerals import flat_metrics, percent

WHOLE_WINDOWS = "whole windows, once for each view: not the area of the AOI"
"""What ground that is scored counts."""
_NAMES = {
    "aoi_km2": "AOI, km²",
    "covered_km2": "AOI covered by the images in use, km²",
    "km2": "ground that this run scored, km², in whole windows, once for each view",
    "mpx_read": "megapixels that this run read, all images, with the margins of windows",
    "prepare_s": "preparing scenes and pairs, s",
    "map_s": "mapping (reading, scoring, committing), s",
    "read_cpu_s": "reading, added up over threads, s",
    "score_s": "scoring, added up over engines, s",
    "km2_per_h": "km² scored in an hour of mapping",
    "planned_peak_mb": "memory, at most, of all processes, as planned, MB",
    "peak_rss_mb": "peak memory of one process, MB",
    "of": "which process",
}


def covered_text(aoi_km2: float, covered_km2: float) -> str:
    """`0.76 km², of which the images in use cover 0.53 km² (69 %)`."""
    whole = f"{aoi_km2:,.2f} km²"
    if covered_km2 >= aoi_km2 * (1 - 1e-6):
        return f"{whole}, all of it covered by the images in use"
    share = percent(covered_km2, aoi_km2)
    return f"{whole}, of which the images in use cover {covered_km2:,.2f} km² ({share})"


def rate_rows(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rates and memory of run.json, each with what it counts."""
    rates = dict(run.get("rates", {}))
    if rates.get("km2") == 0 and run.get("counts", {}).get("cells_resumed"):
        rates |= {"km2": "0 (earlier runs scored it all)", "km2_per_h": "–"}
    figures = flat_metrics({**rates, **run.get("memory", {})})
    return [(_NAMES.get(name, name), text) for name, text in figures]
