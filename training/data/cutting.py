"""Shards of a store cut out of runs: on any worker, with the reader inference uses.

What is on a worker is a shard's chips and one cell's pixels, whatever the scenes' size.
"""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Quality
from quakestream.pipeline.crops import CropPixels, read_crops
from quakestream.pipeline.scenes import OpenScenes, opener
from quakestream.pipeline.tasks import UnitTask, WorkerSpec
from quakestream.raster.owners import inside
from quakestream.reduce.verdict import MIN_PIXELS, MIN_VALID_FRACTION
from quakestream.tiling import crop_windows
from training.data.filters import TileFilter
from training.data.store_writer import StoreWriter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Crops of one cell that belong to one shard."""

    run: int
    """Which of the job's runs."""
    task: UnitTask
    row_F: NDArray[np.int64]
    """The row of each footprint in the job's table of candidates, which is its chip."""

    def some(self, start: int, stop: int) -> "Part":
        """Footprints start..stop."""
        task, some = self.task, slice(start, stop)
        return Part(
            run=self.run,
            row_F=self.row_F[some],
            task=replace(
                task,
                shift_W=task.shift_W[some],
                building_F=task.building_F[some],
                polygon_F=task.polygon_F[some],
                hazard_FM=task.hazard_FM[some],
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardTask:
    """One shard to cut and write. Nothing in it is open."""

    shard: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CutJob:
    """What every worker is told once."""

    workers: tuple[WorkerSpec, ...]
    """One a run; their bundles name the crop."""
    writer: StoreWriter
    tile_filter: TileFilter | None = None


@dataclass(slots=True)
class ShardReport:
    """What became of a shard's footprints."""

    kept: list[int] = field(default_factory=list)
    """Rows of the candidates whose chip was written."""
    valid_fraction: list[float] = field(default_factory=list)
    """Share of the footprint that was seen, of each."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Footprints without a chip, by reason."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Scenes that could not be read, and why; once each."""
    mpx: float = 0.0


def cut_shard(task: ShardTask, job: CutJob) -> ShardReport:
    """Reads a shard's crops and writes it. What cannot be read is reported, never raised.

    Raises:
        StorageError: if the shard cannot be written.
    """
    meta = job.writer.meta
    count = min(meta.shard_chips, meta.chips - task.shard * meta.shard_chips)
    pixels: dict[str, NDArray[Any]] = {
        name: np.zeros((count, *shape), np.bool_ if name == "inside" else np.uint8)
        for name, shape in meta.arrays.items()
    }
    report = ShardReport()
    runs = sorted({part.run for part in task.parts})
    for run in runs:
        spec = job.workers[run]
        with closing(OpenScenes(opener(spec))) as scenes:
            for part in (p for p in task.parts if p.run == run):
                found = read_crops(part.task, spec.bundle.spec, scenes, 0.0)
                first = task.shard * meta.shard_chips
                _place(found, part, pixels, first, report, (job, spec.bundle.spec))
    job.writer.write(task.shard, pixels)
    return report


def _place(
    found: CropPixels,
    part: Part,
    pixels: dict[str, NDArray[Any]],
    first: int,
    report: ShardReport,
    told: tuple[CutJob, BundleSpec],
) -> None:
    """Puts a cell's crops in their places and notes those that have none."""
    job, spec = told
    reason_F, fraction_F = _reasons(found)
    grid = part.task.cell.grid
    windows = crop_windows(_bounds(part.task), grid, spec.window_px)
    for start in range(0, len(found), found.chunk):
        crops = found.crops[start : start + found.chunk]
        footprints = np.array([crop.footprint for crop in crops])
        batch = found.batch(start, start + len(crops))
        if job.tile_filter is not None:
            _filter(job.tile_filter, batch.images, batch.statistics, reason_F, footprints)
        good = np.array([reason_F[f] is None for f in footprints], np.bool_)
        place = part.row_F[footprints[good]] - first
        for epoch in job.writer.meta.epochs:
            pixels[epoch][place] = batch.images[epoch][good]
        for f, chip in zip(footprints[good].tolist(), place.tolist(), strict=True):
            pixels["inside"][chip] = inside(part.task.polygon_F[f], grid, windows[f])
    kept = np.array([reason is None for reason in reason_F], np.bool_)
    report.kept += part.row_F[kept].tolist()
    report.valid_fraction += fraction_F[kept].tolist()
    report.dropped.update(str(reason) for reason in reason_F[~kept])
    report.mpx += found.mpx
    for failure in found.failures:
        if failure.subject not in {subject for subject, _ in report.failures}:
            report.failures.append((failure.subject, failure.cause))


def _reasons(found: CropPixels) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """Why a footprint would not be assessed, None where it would; share of it that was seen."""
    pixels_FQ = found.sums.pixels_FQ
    total_F = pixels_FQ.sum(axis=1)
    fraction_F = pixels_FQ[:, Quality.VALID] / np.maximum(total_F, 1)
    reason_F = np.full(len(total_F), None, object)
    worst_F = pixels_FQ[:, 1:].argmax(axis=1) + 1
    unseen = np.flatnonzero(fraction_F < MIN_VALID_FRACTION)
    reason_F[unseen] = [Quality(int(q)).name.lower() for q in worst_F[unseen]]
    reason_F[total_F < MIN_PIXELS] = "too_small"
    reason_F[found.sums.failed_F] = "read_error"
    return reason_F, fraction_F


def _filter(
    rule: TileFilter,
    images: Any,
    statistics: Any,
    reason_F: NDArray[np.object_],
    footprints: NDArray[np.int64],
) -> None:
    """Adds the filter's reasons. A pixel in exactly its scene's mean colour was not seen: that
    is what the reader fills gaps with."""
    for epoch, counts_NBYX in images.items():
        mean_NB = np.rint(statistics[f"{epoch}_mean_NB"]).astype(np.uint8)
        seen_NYX = (counts_NBYX != mean_NB[:, :, None, None]).any(axis=1)
        for f, reason in zip(footprints.tolist(), rule.reasons(counts_NBYX, seen_NYX), strict=True):
            if reason_F[f] is None and reason is not None:
                reason_F[f] = f"filter:{reason}"


def _bounds(task: UnitTask) -> NDArray[np.float64]:
    return np.array([polygon.bounds for polygon in task.polygon_F], np.float64).reshape(-1, 4)
