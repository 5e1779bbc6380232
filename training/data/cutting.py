"""Cuts shards of a store out of runs, on any worker, with the reader that inference uses.

A worker holds the chips of one shard and the pixels of one cell, whatever the size of the scenes.
"""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Quality
from quakestream.pipeline.kinds.crop_reading import CellCrops, read_crops
from quakestream.pipeline.work.scenes import OpenScenes, opener
from quakestream.pipeline.work.tasks import UnitTask, WorkerSpec
from quakestream.raster.owners import inside
from quakestream.reduce.verdict import MIN_PIXELS, MIN_VALID_FRACTION
from quakestream.tiling import crop_windows
from training.data.filters import TileFilter
from training.data.store_writer import StoreWriter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardCrops:
    """Crops of one cell that belong to one shard."""

    run: int
    """Index of the run in the job."""
    task: UnitTask
    row_F: NDArray[np.int64]
    """Row of each footprint in the job's table of candidates, which is the number of its chip."""

    def some(self, start: int, stop: int) -> "ShardCrops":
        """The crops of footprints start..stop."""
        task, some = self.task, slice(start, stop)
        return ShardCrops(
            run=self.run,
            row_F=self.row_F[some],
            task=replace(
                task,
                shifts=task.shifts[some],
                building_F=task.building_F[some],
                polygon_F=task.polygon_F[some],
                hazard_FM=task.hazard_FM[some],
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChipShardTask:
    """One shard to cut and write. Nothing in it is open."""

    shard: int
    parts: tuple[ShardCrops, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CutJob:
    """What every worker needs, sent once."""

    workers: tuple[WorkerSpec, ...]
    """One per run; their bundles name the crop."""
    writer: StoreWriter
    tile_filter: TileFilter | None = None


@dataclass(slots=True)
class ShardReport:
    """Results for the footprints of a shard."""

    rows: list[int] = field(default_factory=list)
    """Rows of the candidates whose chips were written."""
    valid_fraction: list[float] = field(default_factory=list)
    """Share of each footprint that was seen."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Number of footprints without a chip, by reason."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Scenes that could not be read, and the cause; once each."""
    mpx: float = 0.0


def cut_shard(task: ChipShardTask, job: CutJob) -> ShardReport:
    """Reads the crops of a shard and writes it. Read errors are reported, not raised.

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
        with closing(OpenScenes(opener(spec), spec.options)) as scenes:
            for part in (p for p in task.parts if p.run == run):
                bundle = spec.jobs[0].bundle.spec
                crops = read_crops(part.task, bundle.window_px, scenes)
                first = task.shard * meta.shard_chips
                _place(crops, part, pixels, first, report, (job, bundle))
    job.writer.write(task.shard, pixels)
    return report


def _place(
    cell: CellCrops,
    part: ShardCrops,
    pixels: dict[str, NDArray[Any]],
    first: int,
    report: ShardReport,
    context: tuple[CutJob, BundleSpec],
) -> None:
    """Copies the crops of a cell to their places and counts those that are dropped."""
    job, spec = context
    reason_F, fraction_F = _reasons(cell)
    grid = part.task.cell.grid
    windows = crop_windows(_bounds(part.task), grid, spec.window_px)
    for start in range(0, len(cell), cell.chunk):
        crops = cell.crops[start : start + cell.chunk]
        footprints = np.array([crop.footprint for crop in crops])
        batch = cell.batch(start, start + len(crops))
        if job.tile_filter is not None:
            _filter(job.tile_filter, batch.images, batch.statistics, reason_F, footprints)
        good = np.array([reason_F[f] is None for f in footprints], np.bool_)
        place = part.row_F[footprints[good]] - first
        for epoch in job.writer.meta.epochs:
            pixels[epoch][place] = batch.images[epoch][good]
        for f, chip in zip(footprints[good].tolist(), place.tolist(), strict=True):
            pixels["inside"][chip] = inside(part.task.polygon_F[f], grid, windows[f])
    usable_F = np.array([reason is None for reason in reason_F], np.bool_)
    report.rows += part.row_F[usable_F].tolist()
    report.valid_fraction += fraction_F[usable_F].tolist()
    report.dropped.update(str(reason) for reason in reason_F[~usable_F])
    report.mpx += cell.mpx
    for failure in cell.failures:
        if failure.subject not in {subject for subject, _ in report.failures}:
            report.failures.append((failure.subject, failure.cause))


def _reasons(cell: CellCrops) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """Reason why a footprint would not be assessed (None if it would), and its share seen."""
    pixels_FQ = cell.sums.pixels_FQ
    total_F = pixels_FQ.sum(axis=1)
    fraction_F = pixels_FQ[:, Quality.VALID] / np.maximum(total_F, 1)
    reason_F = np.full(len(total_F), None, object)
    worst_F = pixels_FQ[:, 1:].argmax(axis=1) + 1
    unseen = np.flatnonzero(fraction_F < MIN_VALID_FRACTION)
    reason_F[unseen] = [Quality(int(q)).name.lower() for q in worst_F[unseen]]
    reason_F[total_F < MIN_PIXELS] = "too_small"
    reason_F[cell.sums.failed_F] = "read_error"
    return reason_F, fraction_F


def _filter(
    rule: TileFilter,
    images: Any,
    statistics: Any,
    reason_F: NDArray[np.object_],
    footprints: NDArray[np.int64],
) -> None:
    """Adds the reasons of a filter.

    A pixel in exactly the mean colour of its scene counts as unseen, because the reader fills gaps
    with that colour.
    """
    for epoch, counts_NBYX in images.items():
        mean_NB = np.rint(statistics[f"{epoch}_mean_NB"]).astype(np.uint8)
        seen_NYX = (counts_NBYX != mean_NB[:, :, None, None]).any(axis=1)
        for f, reason in zip(footprints.tolist(), rule.reasons(counts_NBYX, seen_NYX), strict=True):
            if reason_F[f] is None and reason is not None:
                reason_F[f] = f"filter:{reason}"


def _bounds(task: UnitTask) -> NDArray[np.float64]:
    return np.array([polygon.bounds for polygon in task.polygon_F], np.float64).reshape(-1, 4)
