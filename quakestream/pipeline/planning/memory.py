"""What memory a run will need at its peak, stated before it starts (law 7)."""

from collections.abc import Sequence
from dataclasses import dataclass

from quakestream.bundles import Bundle
from quakestream.config import Profile
from quakestream.pipeline.kinds.base import Kind
from quakestream.pipeline.work.readahead import held_cells
from quakestream.pipeline.work.scenes import READERS_SHARE_MB

BASE_MB = 480.0
"""Interpreter, libraries (OpenVINO among them) and GDAL's caches of one local process."""
RAY_DAEMONS_MB = 450.0
RAY_WORKER_MB = 350.0
"""One Ray worker with the libraries, before it holds pixels."""
BYTES_PER_FOOTPRINT = 9_000
"""Outline twice (EPSG:4326 and zone), ids, sums and the row of the product."""
BYTES_PER_CELL = 2_500
ENGINE_MB_PER_MPX = 700.0
"""Activations of a window in ONNX Runtime, per million pixels of the window; of the order
of 64 channels of float32 at full resolution, several alive at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStatement:
    """Peak resident memory on one machine, MB, by what takes it."""

    base_mb: float
    engine_mb: float
    pixels_mb: float
    """Cells being read, waiting and being scored: constant in scenes, AOI and footprints."""
    tables_mb: float

    @property
    def peak_mb(self) -> float:
        return self.base_mb + self.engine_mb + self.pixels_mb + self.tables_mb


def state_memory(
    jobs: Sequence[tuple[Kind, Bundle]],
    settings: Profile,
    *,
    footprints: int,
    cells: int,
    on_ray: bool = False,
) -> MemoryStatement:
    """The statement for one machine.

    Args:
        on_ray: whether Ray's daemons and one worker per engine run beside the driver.
    """
    engines = (settings.engines or 1) if on_ray else 1
    needs = [kind.memory(bundle.spec, settings.cell_windows) for kind, bundle in jobs]
    # Each reader holds a cell as read and as stacked; one more waits, one is scored.
    # Jobs of one bundle share what is read. It is counted for each all the same: results that
    # wait for their commit are not counted, and measured peaks leave no room (benchmarks/LOG.md).
    cell_bytes = sum(need.copies * need.cell_bytes for need in needs)
    pixels = engines * held_cells(settings.readers) * cell_bytes
    stacked = max(need.stacked_bytes for need in needs)
    base_mb = BASE_MB + engines * READERS_SHARE_MB
    if on_ray:
        base_mb += RAY_DAEMONS_MB + engines * RAY_WORKER_MB
    engine_mb: dict[str, float] = {}
    for need, (_, bundle) in zip(needs, jobs, strict=True):
        weights_mb = len(bundle.graph) * 3 / 1e6
        needed_mb = weights_mb + ENGINE_MB_PER_MPX * need.engine_px / 1e6
        engine_mb[bundle.digest] = max(engine_mb.get(bundle.digest, 0.0), needed_mb)
    return MemoryStatement(
        base_mb=base_mb,
        engine_mb=engines * sum(engine_mb.values()),
        pixels_mb=(pixels + stacked) / 1e6,
        tables_mb=(footprints * BYTES_PER_FOOTPRINT + cells * BYTES_PER_CELL) / 1e6,
    )
