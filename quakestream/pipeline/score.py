"""The score stage: an engine's sums, added to what the read stage counted."""

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Quality
from quakestream.engines import Engine, crop_shares
from quakestream.errors import QuakestreamError
from quakestream.pipeline.assemble import Failure, UnitPixels
from quakestream.pipeline.crops import CropPixels


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
    """`read_error` or `model_error` for footprints with a part in a failed window or crop."""
    failures: tuple[Failure, ...]
    quality_Q: NDArray[np.int64]
    shift_m: float
    windows: int
    """Windows, or crops."""
    km2: float
    mpx: float
    read_s: float
    score_s: float

    @property
    def complete(self) -> bool:
        return not self.failures


def score_unit(pixels: UnitPixels | CropPixels, engine: Engine, spec: BundleSpec) -> UnitResult:
    """Scores one cell. An engine's failure marks its footprints, and ends nothing."""
    began = time.perf_counter()
    task, sums = pixels.task, pixels.sums
    if isinstance(pixels, CropPixels):
        scored = _score_crops(pixels, engine, spec)
    else:
        scored = _score_windows(pixels, engine, spec)
    failure_F: list[str | None] = [("read_error" if bad else None) for bad in sums.failed_F]
    for footprint in scored.failed:
        failure_F[footprint] = failure_F[footprint] or "model_error"
    gsd_m = task.cell.gsd_m
    return UnitResult(
        key=task.key,
        cell_id=task.cell.id,
        view_id=task.view_id,
        building_F=task.building_F,
        pixels_FQ=sums.pixels_FQ,
        sum_FC=scored.sum_FC,
        change_F=sums.change_F,
        shift_m_F=np.array([s.metres(gsd_m) for s in sums.shift_F], np.float32),
        shift_quality_F=np.array([s.quality for s in sums.shift_F], np.float32),
        shift_pixels_F=sums.shift_pixels_F,
        failure_F=tuple(failure_F),
        failures=(*pixels.failures, *scored.failures),
        quality_Q=sums.quality_Q,
        shift_m=float(np.median([s.metres(gsd_m) for s in task.shift_W])),
        windows=len(task.shift_W),
        km2=task.km2,
        mpx=pixels.mpx,
        read_s=pixels.seconds,
        score_s=time.perf_counter() - began,
    )


@dataclass(slots=True)
class _Scored:
    """What an engine made of a cell."""

    sum_FC: NDArray[np.int64]
    failed: list[int] = field(default_factory=list)
    """Footprints it failed on."""
    failures: list[Failure] = field(default_factory=list)


def _score_windows(pixels: UnitPixels, engine: Engine, spec: BundleSpec) -> _Scored:
    """Sums over the pixels of each footprint; a failure is one of the whole cell."""
    task = pixels.task
    footprints = len(task.building_F)
    nothing = np.zeros((footprints, len(spec.classes)), np.int64)
    if not len(pixels.batch):
        return _Scored(sum_FC=nothing)
    try:
        sum_RC = engine.sums(pixels.batch, pixels.owner_NYX)
        return _Scored(sum_FC=pixels.sums.per_footprint(sum_RC))
    except (QuakestreamError, MemoryError) as error:
        failures = [
            Failure(row=r, col=c, kind="model_error", cause=str(error), subject=task.cell.id)
            for r, c in task.window_W2.tolist()
        ]
        return _Scored(sum_FC=nothing, failed=list(range(footprints)), failures=failures)


def _score_crops(pixels: CropPixels, engine: Engine, spec: BundleSpec) -> _Scored:
    """The rule for crops: a crop's probabilities, as whole numbers (p × 65535, rounded), count
    once for every valid pixel of its footprint.

    Sums of several views then add up exactly, each view weighs by what it saw of the
    footprint, and their share of the total is the probability, as it is for windows.
    """
    done = _Scored(sum_FC=np.zeros((len(pixels.task.building_F), len(spec.classes)), np.int64))
    todo = [
        (start, min(start + pixels.chunk, len(pixels)))
        for start in range(0, len(pixels), pixels.chunk)
    ]
    while todo:
        start, stop = todo.pop(0)
        try:
            _add_crops(done, pixels, (start, stop), engine, spec)
        except (QuakestreamError, MemoryError) as error:
            if stop - start > 1:  # which crops fail must not hang on what else was in the cell
                todo += [(n, n + 1) for n in range(start, stop)]
            else:
                _fail(done, pixels, start, str(error))
    return done


def _add_crops(
    done: _Scored, pixels: CropPixels, span: tuple[int, int], engine: Engine, spec: BundleSpec
) -> None:
    logits_NK = engine.score(pixels.batch(*span))
    finite_N = np.asarray(np.isfinite(logits_NK).all(axis=1))
    share_NC = crop_shares(np.where(finite_N[:, None], logits_NK, 0), spec)
    for n, crop in enumerate(pixels.crops[slice(*span)]):
        if finite_N[n]:
            valid = pixels.sums.pixels_FQ[crop.footprint, Quality.VALID]
            done.sum_FC[crop.footprint] = share_NC[n] * valid
        else:
            _fail(done, pixels, span[0] + n, f"{engine.name} gave no finite score")


def _fail(done: _Scored, pixels: CropPixels, place: int, cause: str) -> None:
    crop, task = pixels.crops[place], pixels.task
    _, window = crop.windows["post"]
    done.failed.append(crop.footprint)
    done.failures.append(
        Failure(
            row=window.row, col=window.col, kind="model_error", cause=cause, subject=task.cell.id
        )
    )
