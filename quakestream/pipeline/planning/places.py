"""Places: units of several jobs over the same ground, which are read together.

Jobs of one lattice share their cells. Windows of another bundle lie on another lattice, so that
its cells are other squares. A unit of it joins the unit of the first job whose cell holds the
middle of its own, where both see the same post-event scene at the same GSD: the blocks of the
scene are then fetched and decoded once for both.
"""

from collections.abc import Sequence

import numpy as np

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
    anchors: dict[tuple[str, float, int, int, int], list[tuple[int, Unit]]] = {}
    places: list[list[tuple[int, Unit]]] = []
    sides = _sides(jobs)
    for (view, cell), parts in exact.items():
        place = anchors.get((views[view].post.id, *_square(cell, sides)))
        if place is None or parts[0][0] == place[0][0]:
            anchors[(views[view].post.id, *_square(cell, sides))] = place = []
            places.append(place)
        place.extend(parts)
    order = {post: n for n, post in enumerate(dict.fromkeys(views[v].post.id for v, _ in exact))}

    def from_north(place: list[tuple[int, Unit]]) -> tuple[int, int, int, float, float]:
        unit = place[0][1]
        west, _, _, north = unit.cell.grid.bounds(unit.cell.core)
        square = _square(unit.cell, sides)
        return order[views[unit.view].post.id], unit.cell.epsg, square[2], west, -north

    return tuple(tuple(place) for place in sorted(places, key=from_north))


def _sides(jobs: Sequence[Job]) -> dict[float, int]:
    """Side of a place by GSD: that of the first job's cells, pixels."""
    sides: dict[float, int] = {}
    for job in jobs:
        for unit in job.units[:1]:
            sides.setdefault(unit.cell.gsd_m, unit.cell.size_px)
    return sides


def _square(cell: Cell, sides: dict[float, int]) -> tuple[float, int, int, int]:
    """The square of the first job's cells that holds the middle of a cell."""
    side = sides[cell.gsd_m]
    middle = cell.size_px // 2
    row, col = cell.core.row + middle, cell.core.col + middle
    return cell.gsd_m, cell.epsg, row // side, col // side


def place_km2(units: Sequence[Unit], cell_windows: int) -> float:
    """Ground that the units of a place score, km².

    Ground that several jobs of one lattice score counts once; of several lattices, the one that
    covers most counts.
    """
    by_cell: dict[Cell, list[Unit]] = {}
    for unit in units:
        by_cell.setdefault(unit.cell, []).append(unit)
    of_lattice: dict[tuple[float, int], float] = {}
    for cell, parts in by_cell.items():
        side_m = cell.size_px / cell_windows * cell.gsd_m
        windows = distinct_windows([unit.window_W2 for unit in parts])
        key = (cell.gsd_m, cell.size_px)
        of_lattice[key] = of_lattice.get(key, 0.0) + windows * side_m**2 / 1e6
    return max(of_lattice.values())


def units_at_once(jobs: Sequence[Job]) -> tuple[int, ...]:
    """How many units of each job a place holds at most, for the statement of memory."""
    sides = _sides(jobs)
    most = []
    for job in jobs:
        ratio = [sides[u.cell.gsd_m] / u.cell.size_px for u in job.units[:1]]
        most.append(int(np.ceil(ratio[0]) ** 2) if ratio else 1)
    return tuple(most)
