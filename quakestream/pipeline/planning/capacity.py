"""Predicts the time, the limit and the cost of a run on a fleet, from measured rates.

Stages on separate devices run at the same time, and the slowest one sets the pace. Stages that
share cores add up: reading and scoring do if the engine runs on the CPU.
"""

import math
from dataclasses import dataclass, replace

from quakestream.tiling import Lattice

READ_MPX_PER_S = 50.0
"""Megapixels of JPEG scenes that a core reads and prepares a second, without footprints.

It is assumed until a rate is measured; `python -m benchmarks.capacity` measures it: 75 on an AMD
EPYC, about half of that on an older Xeon.
"""
STARTUP_S = 4.5
"""Time to start, to open an engine and to write a map of a few buildings: 3.5 to 6 s."""
SCENE_S = 0.6
"""Time per scene besides its size: its header, its statistics, its previews."""
PREPARE_S = 0.02
"""Core time per megapixel of a scene for its statistics and masks, read from an overview."""
PUBLISH_S = 0.00013
"""Time per footprint to reduce and publish. These figures hold measured runs of 447 to 38,144
footprints on 2 to 14 scenes of up to 1,062 Mpx within 20 % (benchmarks/results)."""
CELL_S = 0.002
"""Worker time per cell besides pixels: sums, and a share of a commit."""
DRIVER_S = 0.0002
"""Driver time per cell: its key, its task, its report."""
GROUP_S = 0.005
"""Driver time per commit group on Ray, measured by `python -m benchmarks.cluster`."""
RAY_STARTUP_S = 8.0
"""Time to start Ray and an engine on a machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Measured speed of the stages, for one core and one engine."""

    read_mpx_per_s: float = READ_MPX_PER_S
    """Megapixels, all bands, that a core reads and prepares for an engine in a second."""
    score_s: float
    """Engine time per window or crop."""
    score_cores: float
    """CPU cores that an engine keeps busy; 0 for an engine on a GPU."""
    footprint_s: float
    """Core time per footprint of a cell, besides pixels."""
    cell_s: float = CELL_S
    """Core time per cell, besides pixels and footprints."""
    driver_s: float = DRIVER_S
    """Driver time per cell. The driver has one core in any fleet."""
    group_s: float = 0.0
    """Driver time per commit group."""
    startup_s: float = 0.0

    def on_ray(self) -> "Rates":
        """Rates of the same stages on Ray, if this run starts it."""
        return replace(self, group_s=GROUP_S, startup_s=self.startup_s + RAY_STARTUP_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The amount of work in a run."""

    cells: int
    groups: int
    """Commit groups."""
    windows: int
    """Windows or crops."""
    mpx: float
    """Megapixels to read, all epochs."""
    km2: float
    """Ground to score."""
    footprints: int = 0
    """Footprints, counted once for each cell that they touch."""

    @property
    def group_windows(self) -> float:
        return self.windows / max(self.groups, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Machines of one kind."""

    nodes: int = 1
    cores: float = 1.0
    """CPU cores per node."""
    engines: int = 1
    """Engines per node."""
    price_per_hour: float | None = None
    """Price per node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The predicted run of a load on a fleet."""

    load: Load
    fleet: Fleet
    read_s: float
    """Time to read if nothing else runs."""
    score_s: float
    """Time to score: on the share of cores that engines take, or that of engines on GPUs."""
    engine_s: float
    """Engine time, with whole commit groups. Idle cores do not make it shorter."""
    driver_s: float
    """Time of the driver."""
    shared: bool
    """True if reading and scoring share the cores."""
    startup_s: float

    @property
    def stream_s(self) -> float:
        """Time from the first cell to the last one."""
        stages = self.read_s + self.score_s if self.shared else max(self.read_s, self.score_s)
        return max(stages, self.engine_s, self.driver_s)

    @property
    def seconds(self) -> float:
        return self.startup_s + self.stream_s

    @property
    def limited_by(self) -> str:
        """The stage that limits the stream: `reading`, `scoring` or `driver`."""
        stages = {"reading": self.read_s, "scoring": self.score_s}
        slowest = max(stages, key=lambda name: stages[name])
        together = sum(stages.values()) if self.shared else stages[slowest]
        if self.engine_s > max(together, self.driver_s):
            return "scoring"
        return "driver" if self.driver_s > together else slowest

    @property
    def map_km2_per_h(self) -> float:
        """Ground scored in an hour of mapping, as `km2_per_h` of run.json."""
        return self.load.km2 / self.stream_s * 3600 if self.stream_s else 0.0

    @property
    def km2_per_h(self) -> float:
        """Ground scored in an hour of the whole command."""
        return self.load.km2 / self.seconds * 3600 if self.seconds else 0.0

    @property
    def cost(self) -> float | None:
        price = self.fleet.price_per_hour
        return None if price is None else self.fleet.nodes * price * self.seconds / 3600


def around_s(*, scenes: int, mpx: float, footprints: int, cores: float) -> float:
    """Time of a run before its first cell and after its last one, on one machine.

    Args:
        scenes: files of all views.
        mpx: their megapixels, at full resolution.
    """
    return STARTUP_S + scenes * SCENE_S + mpx * PREPARE_S / cores + footprints * PUBLISH_S


def predict(load: Load, rates: Rates, fleet: Fleet) -> Capacity:
    """Predicts a run. Reading and scoring spread over all nodes; there is one driver."""
    cores, engines = fleet.nodes * fleet.cores, fleet.nodes * fleet.engines
    read_core_s = (
        load.mpx / rates.read_mpx_per_s
        + load.footprints * rates.footprint_s
        + load.cells * rates.cell_s
    )
    engine_s = math.ceil(load.groups / engines) * load.group_windows * rates.score_s
    shared = rates.score_cores > 0
    return Capacity(
        load=load,
        fleet=fleet,
        read_s=read_core_s / cores,
        score_s=load.windows * rates.score_s * rates.score_cores / cores if shared else engine_s,
        engine_s=engine_s,
        driver_s=load.cells * rates.driver_s + load.groups * rates.group_s,
        shared=shared,
        startup_s=rates.startup_s,
    )


def nodes_for(load: Load, rates: Rates, node: Fleet, hours: float) -> int | None:
    """The smallest number of nodes that finishes in time; None if no number does."""
    most = max(load.groups, 1)
    if predict(load, rates, replace(node, nodes=most)).seconds > hours * 3600:
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if predict(load, rates, replace(node, nodes=middle)).seconds <= hours * 3600:
            high = middle
        else:
            low = middle + 1
    return low


def readers_wanted(load: Load, rates: Rates) -> int:
    """Reading cores that keep one engine busy, if it has a device of its own."""
    alone = Fleet(nodes=1, cores=1.0, engines=1)
    capacity = predict(load, replace(rates, score_cores=0.0), alone)
    if not capacity.score_s:
        return 1
    return max(1, math.ceil(capacity.read_s / capacity.score_s))


def load_of_area(
    km2: float, *, lattice: Lattice, epochs: int, group_cells: int, footprints_per_km2: float = 0.0
) -> Load:
    """The load of an area if every window is read and scored."""
    windows = math.ceil(km2 / lattice.km2(1))
    cells = math.ceil(windows / lattice.cell_windows**2)
    return Load(
        cells=cells,
        groups=math.ceil(cells / group_cells),
        windows=windows,
        mpx=windows * lattice.window_px**2 * epochs / 1e6,
        km2=km2,
        footprints=round(km2 * footprints_per_km2),
    )
