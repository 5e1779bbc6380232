"""The order in which ground is read: where the landslide prior is highest, first.

Places with buildings keep their order and come first. Ground alone is ordered by squares of
cells, so that neighbours are still read one after the other.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pyproj import Transformer

from quakestream.config import RunFile
from quakestream.domain import Issue
from quakestream.errors import InputError, StorageError
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadingOrder:
    """The highest landslide prior in each cell of ground."""

    prior_of_cell: Mapping[Cell, float] = field(default_factory=dict)
    """Share of ground that slides, by shaking and terrain; `UNKNOWN` where there is none."""

    @classmethod
    def of(
        cls, run: RunFile, jobs: Iterable[Job], issues: list[Issue], notes: list[str]
    ) -> "ReadingOrder":
        """The order of a run; there is none where the run names no layers of a prior.

        Args:
            issues: faults of the layers are added to it.
            notes: what the order is, is added to it.
        """
        inputs = PriorInputs.of_run(run.hazard, run.terrain)
        cells = {u.cell: None for job in jobs for u in job.units if not len(u.footprint_F)}
        if inputs is None or not cells:
            return cls()
        try:
            with open_prior(inputs, run.storage_options) as prior:
                lon_NP, lat_NP = _points(list(cells))
                found = prior.at(lon_NP.ravel(), lat_NP.ravel()).coverage.reshape(lon_NP.shape)
        except (InputError, StorageError) as error:
            then = "ground is read without the landslide prior"
            issues.append(Issue.of_error(error, error.where, "terrain", then))
            return cls()
        best_N = np.fmax.reduce(found, axis=1, initial=UNKNOWN)
        notes.append(_said(best_N))
        return cls(prior_of_cell=dict(zip(cells, best_N.tolist(), strict=True)))

    def ordered(self, places: Sequence[CellUnits]) -> tuple[CellUnits, ...]:
        """The places of a run, in this order."""
        if not self.prior_of_cell:
            return tuple(places)
        built = [place for place in places if any(len(u.footprint_F) for _, u in place)]
        ground = [place for place in places if not any(len(u.footprint_F) for _, u in place)]
        best: dict[Square, float] = {}
        for place in ground:
            here = [self.prior_of_cell.get(unit.cell, UNKNOWN) for _, unit in place]
            square = _square(place)
            best[square] = max(best.get(square, UNKNOWN), *here)
        return (*built, *sorted(ground, key=lambda place: -best[_square(place)]))


def _square(place: CellUnits) -> Square:
    """The square of cells that a place lies in."""
    cell = place[0][1].cell
    return cell.epsg, cell.gsd_m, cell.size_px, cell.row // SQUARE_CELLS, cell.col // SQUARE_CELLS


def _points(cells: Sequence[Cell]) -> tuple[Floats, Floats]:
    """Longitudes and latitudes of some points of each cell, shape (cells, points)."""
    part = (np.arange(POINTS_ALONG) + 0.5) / POINTS_ALONG
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
