"""How long a run takes on which machines, and what limits it, from rates that were measured.

A stage that has devices of its own runs beside the others: the slowest of them gives the pace.
Stages that share the same cores add up: where the engine is a CPU, reading and scoring do.
"""

import math
from dataclasses import dataclass, replace

from quakestream.tiling import Lattice

READ_MPX_PER_S = 75.0
"""What a core reads and makes ready for an engine, but for footprints: JPEG scenes.
Assumed until a rate is measured; `python -m benchmarks.capacity` measures it."""
CELL_S = 0.002
"""What a cell costs its worker besides its pixels: sums, its share of a commit."""
DRIVER_S = 0.0002
"""What a cell costs the driver: its key, its task, its report."""
GROUP_S = 0.005
"""What a commit group costs the driver on Ray (`python -m benchmarks.cluster`)."""
RAY_STARTUP_S = 8.0
"""Ray on a machine without it, and an engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Measured speed of the stages. One core, one engine."""

    read_mpx_per_s: float = READ_MPX_PER_S
    """Millions of pixels, all bands, read by a core and made ready for an engine."""
    score_s: float
    """An engine's time for one window, or crop."""
    score_cores: float
    """Cores an engine keeps busy meanwhile; 0 for one on a GPU."""
    footprint_s: float
    """What a core spends on each footprint of a cell, besides pixels."""
    cell_s: float = CELL_S
    driver_s: float = DRIVER_S
    """The driver's time for a cell: it has one core, whatever the fleet."""
    group_s: float = 0.0
    """The driver's time for a batch."""
    startup_s: float = 0.0

    def on_ray(self) -> "Rates":
        """The same stages on Ray, started by this run."""
        return replace(self, group_s=GROUP_S, startup_s=self.startup_s + RAY_STARTUP_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What there is to do."""

    cells: int
    groups: int
    """Commit groups."""
    windows: int
    """Windows, or crops."""
    mpx: float
    """To read, millions of pixels, all epochs."""
    km2: float
    footprints: int = 0
    """Once for each cell they reach into."""

    @property
    def group_windows(self) -> float:
        return self.windows / max(self.groups, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Machines of one kind."""

    nodes: int = 1
    cores: float = 1.0
    """Of one node."""
    engines: int = 1
    """On one node."""
    price_per_hour: float | None = None
    """Of one node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a fleet makes of a load."""

    load: Load
    fleet: Fleet
    read_s: float
    """Reading, if nothing else went on."""
    score_s: float
    """Scoring: its share of the cores where it takes any, else the engines' own time."""
    engine_s: float
    """The engines' own time, the last batches counted whole: they cannot be faster, however
    many cores are idle."""
    driver_s: float
    shared: bool
    """True where reading and scoring share the cores."""
    startup_s: float

    @property
    def stream_s(self) -> float:
        """The stream, from its first cell to its last."""
        stages = self.read_s + self.score_s if self.shared else max(self.read_s, self.score_s)
        return max(stages, self.engine_s, self.driver_s)

    @property
    def seconds(self) -> float:
        return self.startup_s + self.stream_s

    @property
    def limited_by(self) -> str:
        """`reading`, `scoring` or `driver`: what to have more of."""
        stages = {"reading": self.read_s, "scoring": self.score_s}
        slowest = max(stages, key=lambda name: stages[name])
        together = sum(stages.values()) if self.shared else stages[slowest]
        if self.engine_s > max(together, self.driver_s):
            return "scoring"
        return "driver" if self.driver_s > together else slowest

    @property
    def km2_per_h(self) -> float:
        return self.load.km2 / self.seconds * 3600 if self.seconds else 0.0

    @property
    def cost(self) -> float | None:
        price = self.fleet.price_per_hour
        return None if price is None else self.fleet.nodes * price * self.seconds / 3600


def predict(load: Load, rates: Rates, fleet: Fleet) -> Capacity:
    """The model. Reading and scoring spread over all nodes; the driver is one."""
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
    """The smallest number of such nodes that does it in time; None where none does."""
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
    """Reading cores that keep one engine busy, if it had its own device."""
    alone = Fleet(nodes=1, cores=1.0, engines=1)
    capacity = predict(load, replace(rates, score_cores=0.0), alone)
    if not capacity.score_s:
        return 1
    return max(1, math.ceil(capacity.read_s / capacity.score_s))


def load_of_area(
    km2: float, *, lattice: Lattice, epochs: int, group_cells: int, footprints_per_km2: float = 0.0
) -> Load:
    """An area of which every window is read and scored."""
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
