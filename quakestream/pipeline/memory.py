"""What a run will need at its peak, said before it starts (law 7)."""

import os
from dataclasses import dataclass

from quakestream.bundles import Bundle
from quakestream.config import Profile

BASE_MB = 420.0
"""Interpreter, libraries and GDAL's caches of one local process."""
RAY_DAEMONS_MB = 600.0
RAY_WORKER_MB = 350.0
"""One Ray worker with the libraries, before it holds pixels."""
RAY_BATCHES_ALIVE = 8
"""Batches of cells in readers, in the object store and in an engine, pickled copies counted."""
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
    bundle: Bundle, settings: Profile, footprints: int, cells: int, backend: str = "local"
) -> MemoryStatement:
    """The statement for one machine: one process (`local`), or Ray's on as many CPUs as here."""
    spec = bundle.spec
    windows = settings.cell_windows**2
    cell_bytes = windows * spec.window_px**2 * (len(spec.bands) * len(spec.epochs) + 8)
    if backend == "ray":
        workers = (os.cpu_count() or 1) + settings.engines + 1
        base_mb = BASE_MB + RAY_DAEMONS_MB + workers * RAY_WORKER_MB
        pixels = RAY_BATCHES_ALIVE * settings.batch_cells * cell_bytes
    else:
        base_mb = BASE_MB
        # each reader holds a cell as read and as stacked; one more waits, one is scored
        pixels = (settings.readers + 2) * 2 * cell_bytes
    return MemoryStatement(
        base_mb=base_mb,
        engine_mb=len(bundle.graph) * 3 / 1e6 + ENGINE_MB_PER_MPX * spec.window_px**2 / 1e6,
        pixels_mb=pixels / 1e6,
        tables_mb=(footprints * BYTES_PER_FOOTPRINT + cells * BYTES_PER_CELL) / 1e6,
    )
