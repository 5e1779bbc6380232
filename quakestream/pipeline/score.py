"""The score stage: an engine's sums, added to what the read stage counted."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.engines import Engine
from quakestream.errors import QuakestreamError
from quakestream.pipeline.assemble import Failure, UnitPixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitResult:
    """One (cell, view), read and scored: small, and all that is kept of its pixels."""

    key: str
    cell_id: str
    view_id: str
    building_F: tuple[str, ...]
    pixels_FQ: NDArray[np.int64]
    sum_FC: NDArray[np.int64]
    change_F: NDArray[np.int64]
    shift_m_F: NDArray[np.float32]
    shift_quality_F: NDArray[np.float32]
    shift_pixels_F: NDArray[np.int64]
    failure_F: tuple[str | None, ...]
    """`read_error` or `model_error` for footprints with a part in a failed window."""
    failures: tuple[Failure, ...]
    quality_Q: NDArray[np.int64]
    shift_m: float
    windows: int
    mpx: float
    read_s: float
    score_s: float

    @property
    def complete(self) -> bool:
        return not self.failures


def score_unit(pixels: UnitPixels, engine: Engine, classes: int) -> UnitResult:
    """Scores one cell. An engine's failure marks its footprints, and ends nothing."""
    began = time.perf_counter()
    task, sums = pixels.task, pixels.sums
    failures = list(pixels.failures)
    failure_F: list[str | None] = [("read_error" if bad else None) for bad in sums.failed_F]
    sum_FC = np.zeros((len(task.building_F), classes), np.int64)
    try:
        if len(pixels.batch):
            sum_RC = engine.score(pixels.batch, pixels.owner_NYX).sum_RC
            assert sum_RC is not None
            sum_FC = sums.per_footprint(sum_RC)
    except (QuakestreamError, MemoryError) as error:
        failures += [
            Failure(row=r, col=c, kind="model_error", cause=str(error), subject=task.cell.id)
            for r, c in task.window_W2.tolist()
        ]
        failure_F = [f or "model_error" for f in failure_F]
    gsd_m = task.cell.gsd_m
    return UnitResult(
        key=task.key,
        cell_id=task.cell.id,
        view_id=task.view_id,
        building_F=task.building_F,
        pixels_FQ=sums.pixels_FQ,
        sum_FC=sum_FC,
        change_F=sums.change_F,
        shift_m_F=np.array([s.metres(gsd_m) for s in sums.shift_F], np.float32),
        shift_quality_F=np.array([s.quality for s in sums.shift_F], np.float32),
        shift_pixels_F=sums.shift_pixels_F,
        failure_F=tuple(failure_F),
        failures=tuple(failures),
        quality_Q=sums.quality_Q,
        shift_m=float(np.median([s.metres(gsd_m) for s in task.shift_W])),
        windows=len(task.window_W2),
        mpx=pixels.mpx,
        read_s=pixels.seconds,
        score_s=time.perf_counter() - began,
    )
