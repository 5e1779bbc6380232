"""The order in which ground is read: where most may have fallen or slid, first.

A long run publishes maps of what it has read so far. Places with buildings come first, those where
most buildings were shaken most before the others; then ground alone, where the landslide prior is
highest first. Both are ordered by squares of cells, so that neighbours are still read one after
the other. The order changes no verdict.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pyproj import Transformer

from quakestream.config import RunFile
from quakestream.domain import Issue
from quakestream.errors import InputError, StorageError
from quakestream.hazard import sample_hazard
from quakestream.hazard.interpolation import Floats
from quakestream.hazard.landslide_prior import PriorInputs, open_prior
from quakestream.pipeline.planning.jobs import Job
from quakestream.pipeline.planning.places import CellUnits
from quakestream.tiling import Cell

POINTS_ALONG = 4
"""Points along each side of a cell at which the prior is looked up."""
SQUARE_CELLS = 4
"""Side of the squares of cells that are read together."""
Square = tuple[int, float, int, int, int]
UNKNOWN = -1.0
"""Prior of cells without one: they are read last."""
MORE_PER_GRADE = 3.0
"""How many times more buildings count at one grade of intensity more."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadingOrder:
    """What the order of cells goes by; without anything, places keep their order."""

    prior_of_cell: Mapping[Cell, float] = field(default_factory=dict)
    """Share of ground that slides, by shaking and terrain; `UNKNOWN` where there is none."""
    shaken_of_cell: Mapping[Cell, float] = field(default_factory=dict)
    """Buildings of a cell, weighed by its intensity."""

    @classmethod
    def of(
        cls, run: RunFile, jobs: Iterable[Job], issues: list[Issue], notes: list[str]
    ) -> "ReadingOrder":
        """The order of a run, by its ShakeMaps and the layers of a landslide prior, if any.

        Args:
            issues: faults of the layers are added to it.
            notes: what the order is, is added to it.
        """
        shaken = _shaken(run, jobs, notes)
        inputs = PriorInputs.of_run(run.hazard, run.terrain)
        cells = {u.cell: None for job in jobs for u in job.units if not len(u.footprint_F)}
        if inputs is None or not cells:
            return cls(shaken_of_cell=shaken)
        try:
            with open_prior(inputs, run.storage_options) as prior:
                lon_NP, lat_NP = _points(list(cells))
                found = prior.at(lon_NP.ravel(), lat_NP.ravel()).coverage.reshape(lon_NP.shape)
        except (InputError, StorageError) as error:
            then = "ground is read without the landslide prior"
            issues.append(Issue.of_error(error, error.where, "terrain", then))
            return cls(shaken_of_cell=shaken)
        best_N = np.fmax.reduce(found, axis=1, initial=UNKNOWN)
        notes.append(_said(best_N))
        prior_of_cell = dict(zip(cells, best_N.tolist(), strict=True))
        return cls(prior_of_cell=prior_of_cell, shaken_of_cell=shaken)

    def ordered(self, places: Sequence[CellUnits]) -> tuple[CellUnits, ...]:
        """The places of a run, in this order."""
        built, ground = list[CellUnits](), list[CellUnits]()
        for place in places:
            (built if any(len(u.footprint_F) for _, u in place) else ground).append(place)
        weight: dict[Square, float] = defaultdict(float)
        for cell in {place[0][1].cell for place in built}:
            weight[_square(cell)] += self.shaken_of_cell.get(cell, 0.0)
        best: dict[Square, float] = {}
        for place in ground:
            here = [self.prior_of_cell.get(unit.cell, UNKNOWN) for _, unit in place]
            square = _square(place[0][1].cell)
            best[square] = max(best.get(square, UNKNOWN), *here)
        if self.shaken_of_cell:
            squares = {id(place): _square(place[0][1].cell) for place in built}
            built.sort(key=lambda place: (-weight[squares[id(place)]], squares[id(place)]))
        if not self.prior_of_cell:
            return (*built, *ground) if self.shaken_of_cell else tuple(places)
        return (*built, *sorted(ground, key=lambda place: -best[_square(place[0][1].cell)]))


def _shaken(run: RunFile, jobs: Iterable[Job], notes: list[str]) -> dict[Cell, float]:
    """Buildings of each cell, weighed by the intensity in its middle; empty without ShakeMaps.

    A ShakeMap that cannot be read is an issue of the hazard values, and none here.
    """
    if not run.hazard.shakemaps:
        return {}
    count: dict[Cell, int] = {}
    for job in jobs:
        for unit in job.units:
            if len(unit.footprint_F):
                count[unit.cell] = max(count.get(unit.cell, 0), len(unit.footprint_F))
    if len({_square(cell) for cell in count}) < 2:
        return {}
    lon_NP, lat_NP = _points(list(count), along=1)
    shaking = run.hazard.model_copy(update={"vs30": None, "layers": {}})
    table = sample_hazard(lon_NP[:, 0], lat_NP[:, 0], shaking, run.storage_options)
    mmi_N = np.nan_to_num(table.values["mmi"].to_numpy(np.float64), nan=0.0)
    if not mmi_N.any():
        return {}
    notes.append("buildings are read where most of them were shaken most, first")
    weight_N = np.array(list(count.values())) * MORE_PER_GRADE**mmi_N
    return dict(zip(count, weight_N.tolist(), strict=True))


def _square(cell: Cell) -> Square:
    """The square of cells that a cell lies in."""
    return cell.epsg, cell.gsd_m, cell.size_px, cell.row // SQUARE_CELLS, cell.col // SQUARE_CELLS


def _points(cells: Sequence[Cell], along: int = POINTS_ALONG) -> tuple[Floats, Floats]:
    """Longitudes and latitudes of some points of each cell, shape (cells, points)."""
    part = (np.arange(along) + 0.5) / along
    right_P, down_P = (v.ravel() for v in np.meshgrid(part, part))
    lon_NP, lat_NP = np.empty((2, len(cells), len(right_P)))
    for epsg in {cell.epsg for cell in cells}:
        here = [n for n, cell in enumerate(cells) if cell.epsg == epsg]
        box_N4 = np.array([cells[n].grid.bounds(cells[n].core) for n in here])
        west, south, east, north = box_N4[:, :, None].transpose(1, 0, 2)
        x, y = west + (east - west) * right_P, north - (north - south) * down_P
        to_degrees = Transformer.from_crs(epsg, 4326, always_xy=True)
        lon_NP[here], lat_NP[here] = to_degrees.transform(x, y)
    return lon_NP, lat_NP


def _said(best_N: Floats) -> str:
    """What the order is, for the plan and run.json."""
    unknown = int((best_N == UNKNOWN).sum())
    text = (
        "landslides: ground is read where the prior from shaking and terrain is highest, first; "
        f"it is up to {max(best_N.max(), 0.0):.3f} in {len(best_N) - unknown:,} of "
        f"{len(best_N):,} cells"
    )
    return f"{text}, and not known in {unknown:,}" if unknown else text
