"""Rasters of scores: the probabilities of a pixel model over the whole AOI, as COGs.

A pixel's score is a function of its position and of the views there. Rasters are cut into squares
that are fixed to the grid, so that no cell size shows in them.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Quality
from quakestream.engines import Batch, Engine, probabilities
from quakestream.errors import QuakestreamError
from quakestream.outputs.layout import RASTER_COMMITS, SCORES
from quakestream.outputs.rasters import NODATA, STEPS, RasterBand, RasterProduct
from quakestream.pipeline.kinds.base import Kind, MemoryNeeds
from quakestream.pipeline.kinds.ground import ground_units
from quakestream.pipeline.kinds.units import LatticeOf, PlanInputs, Unit
from quakestream.pipeline.kinds.window_reading import (
    PixelKind,
    model_failures,
    read_windows,
    window_memory,
)
from quakestream.pipeline.work.quality import quality_counts, worst_quality
from quakestream.pipeline.work.read import CellReads
from quakestream.pipeline.work.results import Failure, UnitResult
from quakestream.pipeline.work.tasks import JobSpec, UnitTask
from quakestream.storage import Store

if TYPE_CHECKING:
    from quakestream.pipeline.result.context import KindProducts, RunContext

WINDOWS_AT_ONCE = 8
"""Windows whose logits are held at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterKind(PixelKind):
    """The kind behind `outputs: [scores]`. It has no footprints."""

    name: str = "rasters"
    key: str = "/rasters-1"
    footprint_s: float = 0.0
    commits: str = RASTER_COMMITS
    tasks: tuple[str, ...] = ("segmentation",)

    def units(
        self, inputs: PlanInputs, spec: BundleSpec, lattice_of: LatticeOf
    ) -> tuple[Unit, ...]:
        """Units over every window of the AOI that a view shows."""
        return tuple(replace(u, joint_W=None) for u in ground_units(inputs, spec, lattice_of))

    def read(self, task: UnitTask, job: JobSpec, reads: CellReads) -> "CellGround":
        began = time.perf_counter()
        windows = read_windows(task, job, reads)
        lattice, spec = job.lattice(task.cell), job.bundle.spec
        good = [n for n, epochs in enumerate(windows.epochs) if epochs is not None]
        quality_NYX = np.zeros((len(good), lattice.core_px, lattice.core_px), np.uint8)
        for n, epochs in enumerate(e for e in windows.epochs if e is not None):
            cores = [p.core(spec.halo_px, lattice.core_px) for p in epochs.values()]
            quality_NYX[n] = worst_quality(core.quality_YX for core in cores)
        return CellGround(
            task=task,
            batch=windows.batch(task, spec),
            window_N2=task.window_W2[good],
            quality_NYX=quality_NYX,
            failures=windows.failures,
            mpx=windows.mpx,
            seconds=time.perf_counter() - began,
        )

    def score(self, pixels: Any, engine: Engine, job: JobSpec) -> "RasterResult":
        began = time.perf_counter()
        ground: CellGround = pixels
        spec, core_px = job.bundle.spec, job.bundle.spec.core_px
        shape = (len(ground.batch), len(spec.classes), core_px, core_px)
        score_NCYX = np.full(shape, NODATA, np.uint8)
        failures: tuple[Failure, ...] = ()
        try:
            for start in range(0, len(ground.batch), WINDOWS_AT_ONCE):
                stop = min(start + WINDOWS_AT_ONCE, len(ground.batch))
                logits_NKYX = engine.score(ground.batch.part(start, stop))
                score_NCYX[start:stop] = core_steps(logits_NKYX, spec)
        except (QuakestreamError, MemoryError) as error:
            failures = model_failures(ground.task, str(error))
            score_NCYX[:] = NODATA
        hidden_NYX = ground.quality_NYX != Quality.VALID
        score_NCYX.transpose(0, 2, 3, 1)[hidden_NYX] = NODATA
        return RasterResult(
            task=ground.task,
            failures=(*ground.failures, *failures),
            quality_Q=quality_counts(ground.quality_NYX),
            mpx=ground.mpx,
            read_s=ground.seconds,
            score_s=time.perf_counter() - began,
            window_N2=ground.window_N2,
            score_NCYX=score_NCYX,
        )

    def rows(self, results: "list[RasterResult]") -> pa.Table:
        """A row per window: its place, and its scores class by class as bytes."""
        sizes = [len(r.window_N2) for r in results]
        window_N2 = np.concatenate([r.window_N2 for r in results])
        scores = [window.tobytes() for r in results for window in r.score_NCYX]
        return pa.table(
            {
                "cell": np.repeat(np.arange(len(results), dtype=np.int32), sizes),
                "row": window_N2[:, 0],
                "col": window_N2[:, 1],
                "scores": pa.array(scores, pa.large_binary()),
            }
        )

    def memory(self, spec: BundleSpec, cell_windows: int) -> MemoryNeeds:
        """As for windows, with the scores of a cell and the logits of some windows."""
        windows = window_memory(spec, cell_windows)
        logits_bytes = WINDOWS_AT_ONCE * spec.window_px**2 * 4 * (len(spec.classes) + 1)
        scores_bytes = cell_windows**2 * spec.core_px**2 * len(spec.classes)
        return MemoryNeeds(
            cell_bytes=windows.cell_bytes + scores_bytes,
            copies=windows.copies,
            stacked_bytes=logits_bytes,
            engine_px=windows.engine_px,
        )

    def publish(
        self, store: Store, commits: Iterable[str], keys: set[str], context: "RunContext"
    ) -> "KindProducts":
        from quakestream.pipeline.result.rasters import raster_products  # the driver's

        bands = tuple(
            RasterBand(name=label, description=f"probability of {label}", scale=1.0 / STEPS)
            for label in context.job.bundle.spec.labels
        )
        product = RasterProduct(name="scores", prefix=SCORES, bands=bands)
        return raster_products(store, commits, keys, context, product)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellGround:
    """A unit as its engine takes it."""

    task: UnitTask
    batch: Batch
    """The windows that could be read, N of them."""
    window_N2: NDArray[np.int64]
    """Lattice (row, col) of those windows."""
    quality_NYX: NDArray[np.uint8]
    """A `Quality` for each pixel of their cores."""
    failures: tuple[Failure, ...]
    mpx: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RasterResult(UnitResult):
    """One unit as a raster."""

    window_N2: NDArray[np.int64]
    """Lattice (row, col) of the windows that could be read."""
    score_NCYX: NDArray[np.uint8]
    """Probability of each class in `STEPS` steps on the windows' cores, `NODATA` for none."""


def core_steps(logits_NKYX: NDArray[np.float32], spec: BundleSpec) -> NDArray[np.uint8]:
    """Class probabilities of the cores of windows in whole steps, shape (N, C, Y, X)."""
    core = slice(spec.halo_px, spec.halo_px + spec.core_px)
    core_KNYX = np.moveaxis(logits_NKYX[:, :, core, core], 1, 0)
    p_CP = probabilities(core_KNYX.reshape(len(core_KNYX), -1), spec)
    finite_CP = np.isfinite(p_CP)
    step_CP = np.full(p_CP.shape, NODATA, np.uint8)
    step_CP[finite_CP] = np.rint(p_CP[finite_CP] * STEPS).astype(np.uint8)
    return np.moveaxis(step_CP.reshape(len(p_CP), *core_KNYX.shape[1:]), 0, 1)


_: type[Kind] = RasterKind
