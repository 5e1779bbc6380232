"""Rates of the stages alone: reading without an engine, scoring without a reader.

`python -m benchmarks.stages RUN.yaml` prints one JSON object; other benchmarks run it in a
process of its own, beside the whole run they compare it with.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT
from benchmarks.streams import PreparedRun
from quakestream.engines import Engine, open_engine
from quakestream.pipeline.kinds.landslides import SlideGround
from quakestream.pipeline.kinds.rasters import WINDOWS_AT_ONCE
from quakestream.pipeline.kinds.windows import CellWindows
from quakestream.pipeline.work.readahead import ReadAhead, ThreadReaders

CELLS = 24
"""Cells that are read and scored; spread over the run."""
HELD = 4
"""Cells kept in memory to be scored again."""


def stage_rates(run_file: Path, cells: int = CELLS) -> dict[str, Any]:
    """Read alone and score alone, measured in another process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stages", str(run_file), str(cells)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(run_file: str, cells: int) -> dict[str, Any]:
    """Rates in millions of scored pixels (cores of windows, one epoch) a second."""
    with tempfile.TemporaryDirectory() as scratch:
        opened = PreparedRun.of(Path(run_file), Path(scratch))
        return _rates(opened, cells)


def _rates(opened: PreparedRun, cells: int) -> dict[str, Any]:
    tasks = [cell for group in opened.groups() for cell in group.cells]
    chosen = np.linspace(0, len(tasks) - 1, min(cells, len(tasks))).round().astype(int)
    cells_read = [tasks[n] for n in dict.fromkeys(chosen.tolist())]
    settings, bundle = opened.plan.run.profile_settings, opened.plan.bundle.spec
    spec = opened.spec
    job = spec.jobs[0]
    engine = open_engine(
        job.bundle, runtime=job.engine.runtime, threads=spec.threads, batch=job.engine.batch
    )
    core_px = (bundle.window_px - 2 * bundle.halo_px) ** 2
    windows = sum(len(part.window_W2) for cell in cells_read for part in cell.parts)
    kept: list[CellWindows | SlideGround] = []

    def read() -> None:
        ahead = ReadAhead(ThreadReaders(spec), readers=settings.readers)
        with closing(ahead), closing(ahead.cells(cells_read)) as stream:
            for (pixels,) in stream:
                if len(kept) < HELD and isinstance(pixels, CellWindows | SlideGround):
                    kept.append(pixels)

    def score() -> int:
        scored = 0
        while scored < windows:
            for pixels in kept:
                _score(engine, pixels)
                scored += len(pixels.batch)
        return scored

    with _clock() as reading:
        read()
    _score(engine, kept[0])
    with _clock() as scoring:
        scored = score()
    return {
        "engine": engine.name,
        "cores": os.cpu_count(),
        "windows": windows,
        "read": _row(reading(), windows * core_px),
        "score": _row(scoring(), scored * core_px),
    }


def _score(engine: Engine, pixels: CellWindows | SlideGround) -> None:
    """Scores the windows of a unit as its kind does."""
    if isinstance(pixels, CellWindows):
        engine.sums(pixels.batch, pixels.owner_NYX)
        return
    for start in range(0, len(pixels.batch), WINDOWS_AT_ONCE):
        engine.score(pixels.batch.part(start, start + WINDOWS_AT_ONCE))


def _row(taken: tuple[float, float], pixels: int) -> dict[str, float]:
    wall_s, cpu_s = taken
    return {
        "mpx_per_s": round(pixels / 1e6 / wall_s, 3),
        "cpu_s_per_mpx": round(cpu_s / (pixels / 1e6), 5),
    }


@contextmanager
def _clock() -> Iterator[Callable[[], tuple[float, float]]]:
    """Wall and processor time of what happens inside."""
    wall, cpu = time.perf_counter(), time.process_time()
    taken: list[float] = []
    yield lambda: (taken[0], taken[1])
    taken += [time.perf_counter() - wall, time.process_time() - cpu]


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
