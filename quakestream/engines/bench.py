"""Times runtimes on a bundle: throughput, latency and memory, each in a process of its own."""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quakestream.bundles import load_bundle
from quakestream.domain import BundleSpec
from quakestream.engines.base import Batch, Engine
from quakestream.engines.choice import Rate, open_checked
from quakestream.engines.machine import usable_cores
from quakestream.engines.runtimes import open_engine, runtime_named
from quakestream.errors import EngineError

CROPS = 64
"""Crops of a batch where none is asked for; of windows it is twice the threads."""
ROWS = 4096
LEAST_RUNS = 5
_BUILDING_PX, _EVERY_PX = 16, 32
"""Side of a building and of the square it stands in: a quarter of the ground is owned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What is timed."""

    bundle: str
    """Name, path or URI."""
    runtime: str
    batch: int = 0
    """Items of the engine's runs, which it is given enough of to keep every thread busy; where
    it has no choice of them, what it is given at once. 0 for what suits the device."""
    threads: int = 0
    seconds: float = 3.0
    """Least time a figure is taken over."""
    checked: bool = True
    """Whether the runtime has to be the same model as the reference first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one runtime does with one size of batch."""

    runtime: str
    engine: str
    """Runtime, version and device."""
    batch: int
    """Windows, crops or rows it was given at once."""
    run: int
    """Items of its own runs; 0 where it has no choice of it."""
    threads: int
    per_s: float
    """Windows, crops or rows a second."""
    mpx_per_s: float | None
    """Pixels of windows or crops, halos too, once for all epochs; none without imagery."""
    km2_per_h: float | None
    """Ground of windows' cores at the bundle's GSD; none for crops, whose ground is theirs."""
    latency_p50_ms: float
    """Of what it was given at once."""
    latency_p95_ms: float
    open_s: float
    """Loading and compiling."""
    peak_mb: float
    """Of a process that does nothing else."""


def time_apart(request: BenchRequest) -> Timing:
    """Times in a fresh process, so that memory is the runtime's own.

    Raises:
        QuakestreamError: whatever opening or scoring raises there.
        EngineError: if the process dies.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(time_here, request).result()
        except (OSError, RuntimeError) as error:
            if isinstance(error, EngineError):
                raise
            raise EngineError(f"{request.runtime}: its process died: {error!r}") from error


def time_here(request: BenchRequest) -> Timing:
    """Times in this process; memory is its peak so far."""
    bundle = load_bundle(request.bundle)
    began = time.perf_counter()
    compared = request.checked and runtime_named(request.runtime).is_model
    opened = open_checked if compared else open_engine
    engine = opened(bundle, runtime=request.runtime, threads=request.threads, batch=request.batch)
    open_s = time.perf_counter() - began
    spec, threads = bundle.spec, request.threads or usable_cores()
    usual = {"building": CROPS, "hazard": ROWS}.get(spec.task, 2 * threads)
    given = max(request.batch, usual) if engine.batch else request.batch or usual
    batch = Batch.of(bundle.golden, spec).repeated(given)
    lasted_T = durations(engine, spec, batch, request.seconds)
    per_s = len(batch) * len(lasted_T) / float(lasted_T.sum())
    pixels = bool(spec.epochs)
    windows = spec.scores_pixels
    return Timing(
        runtime=request.runtime,
        engine=engine.name,
        batch=len(batch),
        run=engine.batch,
        threads=threads,
        per_s=round(per_s, 2),
        mpx_per_s=round(per_s * spec.window_px**2 / 1e6, 3) if pixels else None,
        km2_per_h=round(per_s * 3600 * (spec.core_px * spec.gsd_m) ** 2 / 1e6) if windows else None,
        latency_p50_ms=round(1e3 * float(np.quantile(lasted_T, 0.5)), 2),
        latency_p95_ms=round(1e3 * float(np.quantile(lasted_T, 0.95)), 2),
        open_s=round(open_s, 2),
        peak_mb=round(_peak_mb()),
    )


def best_rates(timed: Iterable[tuple[BenchRequest, Timing]]) -> dict[str, Rate]:
    """The best figure of each runtime. Its batch is what the engine ran, not what was asked of
    it; none where none was asked for."""
    best: dict[str, Rate] = {}
    for request, timing in timed:
        known = best.get(timing.runtime)
        if known is None or timing.per_s > known.per_s:
            batch = timing.run if request.batch else 0
            best[timing.runtime] = Rate(per_s=timing.per_s, batch=batch)
    return best


def durations(
    engine: Engine, spec: BundleSpec, batch: Batch, seconds: float
) -> NDArray[np.float64]:
    """Seconds of each scoring of a batch, after one that is not counted, over at least so long.

    Windows are scored as a run scores them: pixels summed by owner.
    """
    run: Callable[[], object] = partial(engine.score, batch)
    if spec.scores_pixels:
        run = partial(engine.sums, batch, owners(spec, len(batch)))
    run()
    lasted: list[float] = []
    while len(lasted) < LEAST_RUNS or sum(lasted) < seconds:
        began = time.perf_counter()
        run()
        lasted.append(time.perf_counter() - began)
    return np.array(lasted)


def owners(spec: BundleSpec, windows: int) -> NDArray[np.int32]:
    """Square buildings in rows over the cores of windows, each with an owner of its own."""
    core = spec.core_px
    place = np.arange(core)
    inside = place % _EVERY_PX < _BUILDING_PX
    streets = -(-core // _EVERY_PX)
    number_YX = (place // _EVERY_PX)[:, None] * streets + place // _EVERY_PX
    one_YX = np.where(inside[:, None] & inside, number_YX, -1)
    first_N = np.arange(windows) * streets**2
    return np.where(one_YX >= 0, one_YX + first_N[:, None, None], -1).astype(np.int32)


def _peak_mb() -> float:
    """Largest resident set of this process. On Linux not by getrusage, which counts what the
    parent held when this process was started."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
