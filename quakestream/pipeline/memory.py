"""What a run will need at its peak, said before it starts (law 7)."""

import os
from dataclasses import dataclass

from quakestream.bundles import Bundle
from quakestream.config import Profile
from quakestream.domain import BundleSpec
from quakestream.engines import PIXELS_AT_ONCE
from quakestream.pipeline.backends.joined import held_cells
from quakestream.pipeline.crops import CHUNK_PX
from quakestream.pipeline.scenes import READERS_SHARE_MB
from quakestream.pipeline.tasks import CROP_LATTICE_PX

BASE_MB = 480.0
"""Interpreter, libraries (OpenVINO among them) and GDAL's caches of one local process."""
RAY_DAEMONS_MB = 450.0
RAY_WORKER_MB = 350.0
"""One Ray worker with the libraries, before it holds pixels."""
RAY_BATCHES_ALIVE = 8
"""Split: batches of cells in readers, in the object store and in an engine, copies counted."""
BYTES_PER_FOOTPRINT = 9_000
"""Outline twice (EPSG:4326 and zone), ids, sums and the row of the product."""
BYTES_PER_CELL = 2_500
ENGINE_MB_PER_MPX = 700.0
"""Activations of a window in ONNX Runtime, per million pixels of the window; of the order
of 64 channels of float32 at full resolution, several alive at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStatement:
    """Peak resident memory on one machine, MB, and what it is made of."""

    base_mb: float
    engine_mb: float
    pixels_mb: float
    """Cells being read, waiting and being scored: constant in scenes, AOI and footprints."""
    tables_mb: float

    @property
    def peak_mb(self) -> float:
        return self.base_mb + self.engine_mb + self.pixels_mb + self.tables_mb


def state_memory(
    bundle: Bundle, settings: Profile, footprints: int, cells: int, stream: str = "local"
) -> MemoryStatement:
    """The statement for one machine: one process (`local`), or Ray's on as many CPUs as here,
    `split` or `joined`."""
    spec = bundle.spec
    cell_bytes = _cell_bytes(spec, settings.cell_windows)
    engines = (settings.engines or 1) if stream != "local" else 1
    cores = os.cpu_count() or 1
    # each reader holds a cell as read and as stacked; one more waits, one is scored
    copies = 1 if spec.task == "building" else 2  # crops are stacked a few at a time
    pixels = held_cells(settings.readers) * copies * cell_bytes
    processes = cores if stream == "split" else engines
    base_mb = BASE_MB + processes * READERS_SHARE_MB
    if stream != "local":
        # split: readers, engines, and a worker that waits for a task; joined: engines alone
        workers = cores + engines + 1 if stream == "split" else engines
        base_mb += RAY_DAEMONS_MB + workers * RAY_WORKER_MB
        pixels *= engines
    if stream == "split":
        pixels = RAY_BATCHES_ALIVE * settings.batch_cells * cell_bytes
    engine_mb = len(bundle.graph) * 3 / 1e6 + ENGINE_MB_PER_MPX * _engine_px(spec) / 1e6
    return MemoryStatement(
        base_mb=base_mb,
        engine_mb=engines * engine_mb,
        pixels_mb=(pixels + _stacked_bytes(spec)) / 1e6,
        tables_mb=(footprints * BYTES_PER_FOOTPRINT + cells * BYTES_PER_CELL) / 1e6,
    )


def _cell_bytes(spec: BundleSpec, cell_windows: int) -> int:
    """A cell as it waits for its engine. Crops are slices of windows that together are no
    larger than the cell with half a crop around it, however many buildings stand there."""
    seen = len(spec.bands) * len(spec.epochs) + 8
    if spec.task == "building":
        return (cell_windows * CROP_LATTICE_PX + spec.window_px) ** 2 * seen
    return cell_windows**2 * spec.window_px**2 * seen


def _stacked_bytes(spec: BundleSpec) -> int:
    """Crops as an engine takes them."""
    return CHUNK_PX * len(spec.bands) * len(spec.epochs) if spec.task == "building" else 0


def _engine_px(spec: BundleSpec) -> int:
    """Pixels an engine works on at a time: a window, or the crops that it takes at once."""
    return max(spec.window_px**2, PIXELS_AT_ONCE) if spec.task == "building" else spec.window_px**2
