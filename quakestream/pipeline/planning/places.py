"""Places: units of several jobs over the same ground, which are read together.

Jobs of one GSD share their cells, though the windows of each bundle lie on a lattice of their own.
Units of two jobs on one cell that see the same post-event scene are one place: the scene is then
fetched and decoded once for both, whatever else each of them reads.
"""

from collections.abc import Iterable, Sequence

from quakestream.domain import View
from quakestream.pipeline.kinds.units import Unit, distinct_windows
from quakestream.pipeline.planning.jobs import Job
from quakestream.tiling import Cell

CellUnits = tuple[tuple[int, Unit], ...]
"""Units of one place, each with the index of its job."""


def units_by_place(jobs: Sequence[Job], views: Sequence[View]) -> tuple[CellUnits, ...]:
    """The units of all jobs by place.

    Places of one bundle come in the order of the first job that has each; those of several, from
    north to south, so that neighbours are read one after the other.
    """
    exact: dict[tuple[int, Cell], list[tuple[int, Unit]]] = {}
    for n, job in enumerate(jobs):
        for unit in job.units:
            exact.setdefault((unit.view, unit.cell), []).append((n, unit))
    if len({job.bundle.digest for job in jobs}) < 2:
        return tuple(tuple(parts) for parts in exact.values())
    places: list[list[tuple[int, Unit]]] = []
    known: dict[tuple[str, Cell], list[tuple[int, Unit]]] = {}
    for (view, cell), parts in exact.items():
        place = known.get((views[view].post.id, cell))
        if place is None or parts[0][0] == place[0][0]:
            known[views[view].post.id, cell] = place = []
            places.append(place)
        place.extend(parts)
    order = {post: n for n, post in enumerate(dict.fromkeys(views[v].post.id for v, _ in exact))}

    def from_north(place: list[tuple[int, Unit]]) -> tuple[int, int, float, int, int]:
        unit = place[0][1]
        cell = unit.cell
        return order[views[unit.view].post.id], cell.epsg, cell.gsd_m, cell.row, cell.col

    return tuple(tuple(place) for place in sorted(places, key=from_north))


def place_km2(parts: Iterable[tuple[Job, Unit]]) -> float:
    """Ground that the units of a place score, km².

    Ground that several jobs of one lattice score counts once; of several lattices, the one that
    covers most counts.
    """
    of_side: dict[float, list[Unit]] = {}
    for job, unit in parts:
        lattice = job.kind.lattice(job.bundle.spec, unit.cell.grid, 1)
        of_side.setdefault(lattice.core_px * unit.cell.gsd_m, []).append(unit)
    return max(
        distinct_windows([unit.window_W2 for unit in units]) * side_m**2 / 1e6
        for side_m, units in of_side.items()
    )
