"""Measures throughput, latency and memory of runtimes, each in its own process."""

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
"""Default number of crops in a batch. For windows it is twice the threads."""
ROWS = 4096
"""Default number of rows of hazard values in a batch."""
LEAST_RUNS = 5
_BUILDING_PX, _EVERY_PX = 16, 32
"""Sides of a building and of the square around it. A quarter of the pixels have an owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What to measure."""

    bundle: str
    """Name, path or URI."""
    runtime: str
    batch: int = 0
    """Items of every run; 0 for a number that suits the device.

    For runtimes with a fixed length of runs it is the number of items in a batch.
    """
    threads: int = 0
    seconds: float = 3.0
    """Shortest time of a measurement."""
    checked: bool = True
    """Whether to check first that the runtime is the same model as the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Speed and memory of one runtime with one size of batch."""

    runtime: str
    engine: str
    """Runtime, version and device."""
    batch: int
    """Windows, crops or rows of the batch that was scored."""
    run: int
    """Items of every run of the engine; 0 if the length of runs is fixed."""
    threads: int
    per_s: float
    """Windows, crops or rows a second."""
    mpx_per_s: float | None
    """Megapixels a second with halos, all epochs as one; None without imagery."""
    km2_per_h: float | None
    """Ground of windows' cores at the bundle's GSD, scoring alone; None for crops and rows."""
    latency_p50_ms: float
    """Time to score one batch."""
    latency_p95_ms: float
    open_s: float
    """Time to load and compile."""
    peak_mb: float
    """Peak memory of a process that does nothing else."""
    items: str = "windows"
    """What is scored: `windows`, `crops` or `rows`."""


def time_apart(request: BenchRequest) -> Timing:
    """Measures in a new process, so that memory is that of the runtime alone.

    Raises:
        QuakestreamError: opening or scoring raises it.
        EngineError: if the process dies.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(time_here, request).result()
        except (OSError, RuntimeError) as error:
            if isinstance(error, EngineError):
                raise
            raise EngineError(
                f"process of the benchmark died ({error!r})", f"runtime {request.runtime}"
            ) from error


def time_here(request: BenchRequest) -> Timing:
    """Measures in this process; memory is its peak so far."""
    bundle = load_bundle(request.bundle)
    began = time.perf_counter()
    is_model = request.checked and runtime_named(request.runtime).is_model
    open_it = open_checked if is_model else open_engine
    engine = open_it(bundle, runtime=request.runtime, threads=request.threads, batch=request.batch)
    open_s = time.perf_counter() - began
    spec, threads = bundle.spec, request.threads or usable_cores()
    kind = {"building": "crops", "hazard": "rows"}.get(spec.task, "windows")
    usual = {"crops": CROPS, "rows": ROWS}.get(kind, 2 * threads)
    items = max(request.batch, usual) if engine.batch else request.batch or usual
    batch = Batch.of(bundle.golden, spec).repeated(items)
    times_s = durations(engine, spec, batch, request.seconds)
    per_s = len(batch) * len(times_s) / float(times_s.sum())
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
        latency_p50_ms=round(1e3 * float(np.quantile(times_s, 0.5)), 2),
        latency_p95_ms=round(1e3 * float(np.quantile(times_s, 0.95)), 2),
        open_s=round(open_s, 2),
        peak_mb=round(_peak_mb()),
        items=kind,
    )


def best_rates(timings: Iterable[tuple[BenchRequest, Timing]]) -> dict[str, Rate]:
    """The best rate of each runtime.

    Its batch is the one that the engine ran, which may differ from the requested one. It is 0 if
    none was requested.
    """
    best: dict[str, Rate] = {}
    for request, timing in timings:
        known = best.get(timing.runtime)
        if known is None or timing.per_s > known.per_s:
            batch = timing.run if request.batch else 0
            best[timing.runtime] = Rate(per_s=timing.per_s, batch=batch)
    return best


def durations(
    engine: Engine, spec: BundleSpec, batch: Batch, seconds: float
) -> NDArray[np.float64]:
    """Seconds of each scoring of a batch, for at least `seconds` in all.

    The first scoring does not count. Windows are scored as in a run, with pixels summed by owner.
    """
    run: Callable[[], object] = partial(engine.score, batch)
    if spec.scores_pixels:
        run = partial(engine.sums, batch, owners(spec, len(batch)))
    run()
    times_s: list[float] = []
    while len(times_s) < LEAST_RUNS or sum(times_s) < seconds:
        began = time.perf_counter()
        run()
        times_s.append(time.perf_counter() - began)
    return np.array(times_s)


def owners(spec: BundleSpec, windows: int) -> NDArray[np.int32]:
    """Owners of pixels for square buildings in rows over the cores of windows."""
    core = spec.core_px
    place = np.arange(core)
    inside = place % _EVERY_PX < _BUILDING_PX
    streets = -(-core // _EVERY_PX)
    number_YX = (place // _EVERY_PX)[:, None] * streets + place // _EVERY_PX
    one_YX = np.where(inside[:, None] & inside, number_YX, -1)
    first_N = np.arange(windows) * streets**2
    return np.where(one_YX >= 0, one_YX + first_N[:, None, None], -1).astype(np.int32)


def _peak_mb() -> float:
    """Largest resident memory of this process, MB.

    On Linux getrusage includes the memory that the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
