"""How long, how many machines, what price: a model from measured stage rates, held to real runs.

Rates are measured on the smallest mosaic, each stage on its own with as many threads as there
are cores; where the engine is a CPU, what counts is processor time, since the stages share it.
The model then says how long larger mosaics take, on the local loop and on Ray, and the runs say
how wrong it was. The same model and rates give the time and the machines for the ground that
was affected in Türkiye in 2023.
"""

import itertools
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import main
from benchmarks.mosaic import make_mosaic
from benchmarks.streams import PreparedRun, stream
from quakestream.engines import open_engine
from quakestream.pipeline.backends.local import LocalBackend
from quakestream.pipeline.backends.protocol import Backend
from quakestream.pipeline.backends.ray_backend import RayBackend
from quakestream.pipeline.planning.capacity import (
    Capacity,
    Fleet,
    Load,
    Rates,
    load_of_area,
    nodes_for,
    predict,
    readers_wanted,
)
from quakestream.pipeline.work import ledger
from quakestream.pipeline.work.readahead import ThreadReaders
from quakestream.storage import open_store

SIZES = {"1x": (2, 2), "2x": (4, 2), "4x": (4, 4), "8x": (8, 4)}
QUICK = ("1x", "2x")
ON_RAY = ("2x", "4x")
THIN = 16
"""One footprint in so many, to tell what a footprint costs from what a pixel does."""
HELD = 6
"""Cells kept to time the engine on."""
SCORE_S = 12.0
AFFECTED_KM2 = 350_000.0
FOOTPRINTS_PER_KM2 = 10.0
"""Assumed: 3.5 million buildings."""
HOURS = 24.0
PRICE_PER_HOUR = 0.10
"""Of a machine like this one, two cores of a cloud, any currency."""


def run(quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    root = Path(tempfile.gettempdir()) / "quakestream-mosaics"
    sizes = {name: SIZES[name] for name in (QUICK if quick else SIZES)}
    with tempfile.TemporaryDirectory() as scratch:
        thin_file = make_mosaic(root / "1x", across=2, down=2, every=THIN)
        thin = PreparedRun.of(thin_file, Path(scratch) / "thin")
        opened = {}
        for name, (across, down) in sizes.items():
            run_file = make_mosaic(root / name, across=across, down=down)
            opened[name] = PreparedRun.of(run_file, Path(scratch) / name)
        smallest = opened["1x"]
        rates = measured_rates(smallest, thin)
        rows = _checked({n: o for n, o in opened.items() if n != "1x"}, rates, LocalBackend())
        with RayBackend() as backend:
            on_ray = _ray_rates(smallest, rates, backend)
            chosen = {n: o for n, o in opened.items() if n in ON_RAY}
            rows += _checked(chosen, on_ray, backend)
    settings = {"sizes": list(sizes), "held_cells": HELD, "price_per_hour": PRICE_PER_HOUR}
    metrics = {
        "rates": {k: round(v, 6) for k, v in asdict(rates).items()},
        "readers_wanted": readers_wanted(smallest.plan.load, rates),
        "rows": rows,
        "worst_error": round(max(abs(r["error"]) for r in rows), 3),
        "turkiye": country(smallest, rates.on_ray(), AFFECTED_KM2),
    }
    return settings, metrics


def measured_rates(opened: PreparedRun, thin: PreparedRun) -> Rates:
    """Speed of each stage on this machine, all cores at work on it.

    Args:
        thin: the same pixels with few footprints: what a footprint costs is the difference.
    """
    cores = os.cpu_count() or 1
    cpu = time.process_time()
    groups = list(opened.groups())
    driver_s = time.process_time() - cpu
    cells = [cell for group in groups for cell in group.cells]
    readers = ThreadReaders(opened.spec)
    pixels_s, footprint_s = _apart(opened, thin, cores)
    began = time.perf_counter()
    job = opened.spec.jobs[0]
    engine = open_engine(
        job.bundle, runtime=job.engine.runtime, threads=opened.spec.threads, batch=job.engine.batch
    )
    startup_s = time.perf_counter() - began
    held = [readers.read(cell)[0] for cell in cells[:: max(1, len(cells) // HELD)]]
    results = [job.kind.score(pixels, engine, job) for pixels in held]
    windows, began, cpu = 0, time.perf_counter(), time.process_time()
    for pixels in itertools.cycle(held):
        windows += job.kind.score(pixels, engine, job).windows
        if time.perf_counter() - began > SCORE_S:
            break
    score_s, score_cpu_s = time.perf_counter() - began, time.process_time() - cpu
    began = time.perf_counter()
    store = open_store(opened.spec.ledger_uri, opened.spec.options)
    ledger.commit(store, job.kind.commits, results, job.kind.rows(results))
    return Rates(
        read_mpx_per_s=1 / pixels_s,
        footprint_s=footprint_s,
        score_s=score_s / windows,
        score_cores=min(score_cpu_s / score_s, cores),
        cell_s=(time.perf_counter() - began) / len(results),
        driver_s=driver_s / len(cells),
        startup_s=startup_s,
    )


def _apart(dense: PreparedRun, thin: PreparedRun, cores: int) -> tuple[float, float]:
    """Core seconds for a million pixels and for a footprint, from two runs that differ in both."""
    took, mpx, footprints = [], [], []
    for opened in (thin, dense):
        cells = [cell for group in opened.groups() for cell in group.cells]
        read = ThreadReaders(opened.spec).read
        with ThreadPoolExecutor(cores) as pool:
            for _ in pool.map(read, cells[:cores]):  # opens the scenes
                pass
            began = time.process_time()  # what waits leaves its core to the engine
            for _ in pool.map(read, cells):
                pass
            took.append(time.process_time() - began)
        mpx.append(opened.plan.load.mpx)
        footprints.append(opened.plan.load.footprints)
    pixels_s, footprint_s = np.linalg.solve(np.column_stack([mpx, footprints]), took)
    return float(pixels_s), max(0.0, float(footprint_s))


def _ray_rates(opened: PreparedRun, rates: Rates, backend: Backend) -> Rates:
    """The same rates with what starting a stream on Ray costs: a run of the smallest mosaic, less
    what the model gives it."""
    took = stream(opened, backend).wall_s
    stages = predict(opened.plan.load, rates, _here()).stream_s
    return replace(rates, startup_s=max(rates.startup_s, took - stages))


def _checked(
    opened: dict[str, PreparedRun], rates: Rates, backend: Backend
) -> list[dict[str, Any]]:
    """Each size as predicted and as it was."""
    rows = []
    for name, one in opened.items():
        expected = predict(one.plan.load, rates, _here())
        took = stream(one, backend)
        rows.append(
            {
                "size": name,
                "backend": backend.name,
                "cells": took.cells,
                "mpx": round(one.plan.mpx, 1),
                "predicted_s": round(expected.seconds, 2),
                "measured_s": round(took.wall_s, 2),
                "error": round(expected.seconds / took.wall_s - 1, 3),
                **_processor(expected, took.driver_s, backend),
                "limited_by": expected.limited_by,
                "km2_per_h": round(one.plan.km2 / took.wall_s * 3600, 1),
            }
        )
    return rows


def _processor(expected: Capacity, driver_s: float, backend: Backend) -> dict[str, float]:
    """Processor time, which others on the machine disturb least; of one process only."""
    if backend.name != "local" or not expected.shared:
        return {}
    core_s = (expected.read_s + expected.score_s) * expected.fleet.cores + expected.driver_s
    return {
        "predicted_core_s": round(core_s, 2),
        "measured_core_s": round(driver_s, 2),
        "core_error": round(core_s / driver_s - 1, 3),
    }


def _here() -> Fleet:
    return Fleet(nodes=1, cores=os.cpu_count() or 1, engines=1)


def country(opened: PreparedRun, rates: Rates, km2: float) -> dict[str, Any]:
    """An area of which every window is scored, on machines like this one."""
    spec = opened.plan.bundle.spec
    cell = opened.plan.units[0].cell
    load: Load = load_of_area(
        km2,
        lattice=opened.spec.jobs[0].lattice(cell),
        epochs=len(spec.epochs),
        group_cells=16,
        footprints_per_km2=FOOTPRINTS_PER_KM2,
    )
    node = replace(_here(), price_per_hour=PRICE_PER_HOUR)
    nodes = nodes_for(load, rates, node, HOURS)
    one = predict(load, rates, node)
    told: dict[str, Any] = {
        "km2": km2,
        "gsd_m": spec.gsd_m,
        "cells": load.cells,
        "mpx": round(load.mpx),
        "km2_per_h_per_node": round(one.km2_per_h, 1),
        "limited_by": one.limited_by,
        "hours_on_one": round(one.seconds / 3600, 1),
        "hours": HOURS,
        "nodes": nodes,
    }
    if nodes is not None:
        fleet = predict(load, rates, replace(node, nodes=nodes))
        told |= {"cost": round(fleet.cost or 0.0, 2), "driver_s": round(fleet.driver_s)}
    return told


if __name__ == "__main__":
    main("capacity", run)
