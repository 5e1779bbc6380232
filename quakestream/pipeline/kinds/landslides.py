"""Landslides: a network scores the pixels of the ground, and pixels become parts of polygons.

A unit commits the parts of slides that lie on its ground, with whole-numbered sums and the lines
where they touch its border. When the run is reduced, parts join to the slides of the uncut ground.
Windows that several views show in part are committed pixel by pixel instead, and their parts are
found once the views are put together.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Quality, Window
from quakestream.engines import Batch, Engine, probabilities
from quakestream.errors import QuakestreamError
from quakestream.hazard.terrain import uncovered_issue
from quakestream.outputs.layout import SLIDE_COMMITS
from quakestream.outputs.rasters import NODATA, STEPS
from quakestream.pipeline.kinds.base import Kind, MemoryNeeds
from quakestream.pipeline.kinds.ground import ground_units, window_outlines
from quakestream.pipeline.kinds.rasters import WINDOWS_AT_ONCE
from quakestream.pipeline.kinds.slopes import STEEP_DEG, max_slopes, slope_steps
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
from quakestream.raster.outlines import ScoredGround, find_parts
from quakestream.reduce.polygons import PART_COLUMNS, BorderRuns, PolygonParts
from quakestream.storage import StorageOptions, Store
from quakestream.tiling import Lattice, foreign_ground

if TYPE_CHECKING:
    from quakestream.pipeline.result.context import KindProducts, RunContext

LEAST_AREA_M2 = 100.0
LEAST_PIXELS = 4
"""Polygons with less area or fewer pixels are no product."""
RUN_FIELDS = tuple(BorderRuns.__dataclass_fields__)
NO_WINDOW = -1
"""Row of the lattice in rows that are parts."""
LAYERS = 3
"""Probability, its deviation and slope: what is known of each pixel."""
DEVIATION_COPIES = 3
"""Memory of an engine whose graph states a deviation: its decoder holds several passes at once.

Measured with `landslide-rgb` (OpenVINO, 2 cores): 1,239 MB at the peak, 1,263 MB stated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandslideKind(PixelKind):
    """The kind behind `models.landslide`. It judges ground, not buildings."""

    name: str = "landslides"
    tasks: tuple[str, ...] = ("landslide",)
    footprint_s: float = 0.0
    commits: str = SLIDE_COMMITS
    keeps_scores: bool = False
    """True if the run asks for the probability of every pixel."""
    dem: str | None = None
    """Elevation raster; None: slopes are unknown, and every window is scored."""
    dem_version: str = ""
    """The store's version of that file."""
    least_slope_deg: float = 0.0
    """Slides on flatter ground are no product; without an elevation model all are."""
    options: StorageOptions = field(default_factory=StorageOptions)

    @property
    def key(self) -> str:
        return "".join(
            [
                "/landslides-1",
                "+scores" * self.keeps_scores,
                f"/{self.dem_version}" * bool(self.dem),
            ]
        )

    def units(
        self, inputs: PlanInputs, spec: BundleSpec, lattice_of: LatticeOf
    ) -> tuple[Unit, ...]:
        """Units over the windows of the AOI that a view shows, and that are steep enough.

        Windows whose slope is unknown are scored.

        Raises:
            HazardError: if the elevation model cannot be used.
            StorageError: if it cannot be fetched.
        """
        if self.dem is None:
            return tuple(ground_units(inputs, spec, lattice_of))
        slopes: list[NDArray[np.float32]] = []

        def steep(lattice: Lattice, window_N2: NDArray[np.int64]) -> NDArray[np.bool_]:
            outline_N = window_outlines(window_N2, lattice)
            slopes.append(max_slopes(outline_N, str(self.dem), self.options))
            return ~(slopes[-1] < STEEP_DEG)

        units = tuple(ground_units(inputs, spec, lattice_of, steep))
        if slopes:
            _tell(np.concatenate(slopes), self.dem, inputs)
        return units

    def read(self, task: UnitTask, job: JobSpec, reads: CellReads) -> "SlideGround":
        began = time.perf_counter()
        windows = read_windows(task, job, reads)
        lattice, spec = job.lattice(task.cell), job.bundle.spec
        good = [n for n, epochs in enumerate(windows.epochs) if epochs is not None]
        quality_NYX = np.zeros((len(good), lattice.core_px, lattice.core_px), np.uint8)
        for n, epochs in enumerate(e for e in windows.epochs if e is not None):
            cores = [p.core(spec.halo_px, lattice.core_px) for p in epochs.values()]
            quality_NYX[n] = worst_quality(core.quality_YX for core in cores)
        joint_W = task.joint_W
        if joint_W is None:
            joint_W = np.zeros(len(task.window_W2), np.bool_)
        slope_NYX, failures = self._slopes(task, task.window_W2[good], lattice, reads)
        return SlideGround(
            task=task,
            batch=windows.batch(task, spec),
            window_N2=task.window_W2[good],
            joint_N=joint_W[good],
            quality_NYX=quality_NYX,
            slope_NYX=slope_NYX,
            failures=(*windows.failures, *failures),
            mpx=windows.mpx,
            seconds=time.perf_counter() - began,
        )

    def _slopes(
        self, task: UnitTask, window_N2: NDArray[np.int64], lattice: Lattice, reads: CellReads
    ) -> tuple[NDArray[np.uint8], tuple[Failure, ...]]:
        """Slopes of the cores of windows; a failure where the elevation model cannot be read."""
        shape = (len(window_N2), lattice.core_px, lattice.core_px)
        unknown_NYX = np.full(shape, NODATA, np.uint8)
        if self.dem is None or not len(window_N2):
            return unknown_NYX, ()
        cores = [lattice.core(row, col) for row, col in window_N2.tolist()]
        try:
            terrain = reads.scenes.terrain(self.dem)
            return np.stack(slope_steps(task.cell.grid, cores, terrain)), ()
        except (QuakestreamError, OSError, MemoryError) as error:
            reads.scenes.forget_terrain(self.dem)
            row, col = window_N2[0].tolist()
            failure = Failure(
                row=row, col=col, kind="read_error", cause=str(error), subject=self.dem
            )
            return unknown_NYX, (failure,)

    def score(self, pixels: Any, engine: Engine, job: JobSpec) -> "SlideResult":
        began = time.perf_counter()
        ground: SlideGround = pixels
        task, spec = ground.task, job.bundle.spec
        layer_NBYX = np.full(
            (len(ground.batch), LAYERS, *ground.quality_NYX.shape[1:]), NODATA, np.uint8
        )
        failures: tuple[Failure, ...] = ()
        try:
            for start in range(0, len(ground.batch), WINDOWS_AT_ONCE):
                stop = min(start + WINDOWS_AT_ONCE, len(ground.batch))
                logits_NKYX = engine.score(ground.batch.part(start, stop))
                layer_NBYX[start:stop, :2] = core_layers(logits_NKYX, spec)
        except (QuakestreamError, MemoryError) as error:
            failures = model_failures(task, str(error))
            layer_NBYX[:] = NODATA
        layer_NBYX[:, 2] = ground.slope_NYX
        layer_NBYX.transpose(0, 2, 3, 1)[ground.quality_NYX != Quality.VALID] = NODATA
        kept_N = ground.joint_N | self.keeps_scores
        return SlideResult(
            task=task,
            failures=(*ground.failures, *failures),
            quality_Q=quality_counts(ground.quality_NYX),
            mpx=ground.mpx,
            read_s=ground.seconds,
            score_s=time.perf_counter() - began,
            parts=window_parts(
                ground.window_N2[~ground.joint_N],
                layer_NBYX[~ground.joint_N],
                job.lattice(task.cell),
                spec,
            ),
            window_N2=ground.window_N2[kept_N],
            joint_N=ground.joint_N[kept_N],
            layer_NBYX=layer_NBYX[kept_N],
        )

    def rows(self, results: "list[SlideResult]") -> pa.Table:
        """Parts of slides, and windows whose pixels are kept, unit by unit."""
        tables = [_rows_of(number, result) for number, result in enumerate(results)]
        return pa.concat_tables(tables)

    def memory(self, spec: BundleSpec, cell_windows: int) -> MemoryNeeds:
        """As for windows, with the layers of a cell and the logits of some windows."""
        windows = window_memory(spec, cell_windows)
        logits_bytes = WINDOWS_AT_ONCE * spec.window_px**2 * 4 * 4
        # layers twice, labels and flat indices of the pixels of slides
        layer_bytes = cell_windows**2 * spec.core_px**2 * (2 * LAYERS + 40)
        return MemoryNeeds(
            cell_bytes=windows.cell_bytes,
            copies=windows.copies,
            stacked_bytes=logits_bytes + layer_bytes,
            engine_px=windows.engine_px * (DEVIATION_COPIES if spec.deviation else 1),
        )

    def publish(
        self, store: Store, commits: Iterable[str], keys: set[str], context: "RunContext"
    ) -> "KindProducts":
        from quakestream.pipeline.result.landslides import landslide_products  # the driver's

        return landslide_products(store, commits, keys, context, self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideGround:
    """A unit as its engine takes it."""

    task: UnitTask
    batch: Batch
    """The windows that could be read, N of them."""
    window_N2: NDArray[np.int64]
    """Lattice (row, col) of those windows."""
    joint_N: NDArray[np.bool_]
    """True for windows that other views show a part of, too."""
    quality_NYX: NDArray[np.uint8]
    """A `Quality` for each pixel of their cores."""
    slope_NYX: NDArray[np.uint8]
    """Slope in steps, `NODATA` where it is unknown."""
    failures: tuple[Failure, ...]
    mpx: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideResult(UnitResult):
    """One unit as parts of slides, and as pixels where they are kept."""

    parts: PolygonParts
    window_N2: NDArray[np.int64]
    """Lattice (row, col) of the windows whose pixels are kept."""
    joint_N: NDArray[np.bool_]
    """True for those among them whose parts are found later."""
    layer_NBYX: NDArray[np.uint8]
    """Probability, deviation and slope in steps, `NODATA` for none."""


def _tell(slope_N: NDArray[np.float32], dem: str, inputs: PlanInputs) -> None:
    """Says how many windows are scored and why, and names a DEM that does not cover them all."""
    flat, count = int((slope_N < STEEP_DEG).sum()), len(slope_N)
    unknown = int(np.isnan(slope_N).sum())
    text = f"landslides: {count - flat:,} of {count:,} windows are looked at, {flat:,} are flatter "
    text += f"than {STEEP_DEG:g}° everywhere"
    if unknown:
        text += f", {unknown:,} have no slope and are looked at, too"
    inputs.notes.append(text)
    if (issue := uncovered_issue(dem, slope_N)) is not None:
        inputs.issues.append(issue)


def threshold_steps(spec: BundleSpec) -> int:
    """The probability from which a pixel belongs to a slide, in steps."""
    return int(np.ceil(spec.thresholds.balanced * STEPS - 1e-6))


def least_pixels(spec: BundleSpec) -> int:
    """Pixels of the smallest slide that is a product."""
    return max(LEAST_PIXELS, int(np.ceil(LEAST_AREA_M2 / spec.gsd_m**2)))


def core_layers(logits_NKYX: NDArray[np.float32], spec: BundleSpec) -> NDArray[np.uint8]:
    """Probability and deviation on the cores of windows in whole steps, shape (N, 2, Y, X)."""
    core = slice(spec.halo_px, spec.halo_px + spec.core_px)
    core_KNYX = np.moveaxis(logits_NKYX[:, :, core, core], 1, 0)
    p_P = probabilities(core_KNYX.reshape(len(core_KNYX), -1), spec)[-1]
    values = [p_P]
    values.append(core_KNYX[-1].reshape(-1) if spec.deviation else np.full_like(p_P, np.nan))
    out_BP = np.full((2, p_P.size), NODATA, np.uint8)
    for layer, value_P in enumerate(values):
        finite_P = np.isfinite(value_P)
        out_BP[layer, finite_P] = np.rint(value_P[finite_P].clip(0, 1) * STEPS).astype(np.uint8)
    return np.moveaxis(out_BP.reshape(2, *core_KNYX.shape[1:]), 0, 1)


def window_parts(
    window_N2: NDArray[np.int64],
    layer_NBYX: NDArray[np.uint8],
    lattice: Lattice,
    spec: BundleSpec,
) -> PolygonParts:
    """The parts of slides on the cores of some windows of one cell."""
    if not len(window_N2):
        return PolygonParts.empty()
    size, grid = lattice.core_px, lattice.grid
    low, high = window_N2.min(axis=0), window_N2.max(axis=0) + 1
    rows, cols = ((high - low) * size).tolist()
    outer = Window(row=int(low[0]) * size, col=int(low[1]) * size, height=rows, width=cols)
    layer_BYX = np.full((LAYERS, *outer.shape), NODATA, np.uint8)
    ground_YX = np.zeros(outer.shape, np.bool_)
    for (row, col), window_BYX in zip(window_N2.tolist(), layer_NBYX, strict=True):
        inside = lattice.core(row, col).slices_in(outer)
        layer_BYX[:, *inside] = window_BYX
        ground_YX[inside] = True
    scored = ScoredGround(
        grid=grid,
        window=outer,
        ground_YX=ground_YX,
        p_YX=layer_BYX[0],
        deviation_YX=layer_BYX[1],
        slope_YX=layer_BYX[2],
        foreign_YX=foreign_ground(grid, outer),
    )
    return find_parts(scored, threshold_steps(spec), least_pixels(spec))


def _rows_of(number: int, result: SlideResult) -> pa.Table:
    """Rows of one unit: its parts, then its windows."""
    parts, windows = result.parts, len(result.window_N2)
    window_N2 = np.concatenate([np.full((len(parts), 2), NO_WINDOW, np.int64), result.window_N2])
    none = np.zeros(windows, np.int64)
    columns: dict[str, Any] = {
        "cell": np.full(len(window_N2), number, np.int32),
        "row": window_N2[:, 0],
        "col": window_N2[:, 1],
        "joint": np.concatenate([np.zeros(len(parts), np.bool_), result.joint_N]),
    }
    for name in PART_COLUMNS:
        columns[name] = np.concatenate([getattr(parts, name), none])
    outlines = [*shapely.to_wkb(parts.outline_N), *[None] * windows]
    columns["outline"] = pa.array(outlines, pa.large_binary())
    columns["runs"] = pa.array([*_run_bytes(parts), *[None] * windows], pa.large_binary())
    scores = [None] * len(parts) + [layer_BYX[0].tobytes() for layer_BYX in result.layer_NBYX]
    more = [None] * len(parts) + [
        layer_BYX[1:].tobytes() if joint else None
        for layer_BYX, joint in zip(result.layer_NBYX, result.joint_N.tolist(), strict=True)
    ]
    columns["scores"] = pa.array(scores, pa.large_binary())
    columns["more"] = pa.array(more, pa.large_binary())
    return pa.table(columns)


def _run_bytes(parts: PolygonParts) -> list[bytes]:
    """The runs of each part as bytes: whole numbers, the columns of `RUN_FIELDS`."""
    columns_T = np.stack([getattr(parts.runs, name) for name in RUN_FIELDS], axis=1)
    ends = np.searchsorted(parts.runs.part_T, np.arange(len(parts) + 1))
    return [columns_T[ends[n] : ends[n + 1]].tobytes() for n in range(len(parts))]


_: type[Kind] = LandslideKind
