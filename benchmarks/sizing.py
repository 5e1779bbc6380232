"""The sizing guide of deploy/README.md, out of the rates that `benchmarks.capacity` measured.

    python -m benchmarks.sizing

A machine with more cores is taken as several like the measured one. Reading and scoring share
its cores, and every window of the area is scored.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quakestream.bundles import load_bundle
from quakestream.domain import Grid
from quakestream.pipeline.planning.capacity import (
    Fleet,
    Load,
    Rates,
    around_s,
    load_of_area,
    predict,
)
from quakestream.tiling import Lattice

RESULT = Path(__file__).parent / "results" / "capacity.json"
AREAS_KM2 = (1_000, 20_000, 100_000, 350_000)
CORES = (8, 32, 128)
PRICE_PER_CORE_HOUR = 0.05
"""Assumed, any currency: what clouds ask for a core on demand. Spot machines cost about a third."""
CELL_WINDOWS = 4
GROUP_CELLS = 16
FOOTPRINTS_PER_KM2 = 10.0
SCENE_KM2 = 64.0
"""Assumed: scenes of 16,384 pixels a side at 0.5 m."""


def table() -> str:
    """The guide, as Markdown."""
    result = json.loads(RESULT.read_text())
    lines = [
        "| km² | Gpx read | worker cores | time | cost of the workers |",
        "|---|---|---|---|---|",
    ]
    for area_km2 in AREAS_KM2:
        lines += _rows(result, area_km2)
    return "\n".join(lines)


def _rows(result: dict[str, Any], area_km2: float) -> Iterator[str]:
    """A line of the table for each number of cores."""
    measured = result["machine"]["cores"]
    rates = Rates(**{k: v for k, v in result["metrics"]["rates"].items() if k != "batch_s"})
    load = _load(area_km2)
    for cores in CORES:
        fleet = Fleet(nodes=cores // measured, cores=measured, engines=1)
        seconds = predict(load, rates.on_ray(), fleet).seconds + around_s(
            scenes=round(2 * area_km2 / SCENE_KM2),
            mpx=load.mpx,
            footprints=load.footprints,
            cores=cores,
        )
        hours, minutes = divmod(round(seconds / 60), 60)
        cost = seconds / 3600 * cores * PRICE_PER_CORE_HOUR
        gpx = f"{load.mpx / 1e3:,.0f}"
        yield f"| {area_km2:,} | {gpx} | {cores} | {hours}:{minutes:02} h | {cost:.2f} |"


def _load(area_km2: float) -> Load:
    """An area before and after, as the default bundle reads it."""
    spec = load_bundle("damage-turkiye-2023").spec
    lattice = Lattice(
        grid=Grid(epsg=32637, gsd_m=spec.gsd_m),
        window_px=spec.window_px,
        halo_px=spec.halo_px,
        cell_windows=CELL_WINDOWS,
    )
    return load_of_area(
        area_km2,
        lattice=lattice,
        epochs=len(spec.epochs),
        group_cells=GROUP_CELLS,
        footprints_per_km2=FOOTPRINTS_PER_KM2,
    )


if __name__ == "__main__":
    print(table())
