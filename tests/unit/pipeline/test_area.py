"""The cells of an AOI, and how many there may be."""

import pytest
from shapely.geometry import box

from quakestream.domain import Grid
from quakestream.errors import AoiError
from quakestream.pipeline.planning.area import area_cells
from quakestream.tiling import Lattice, split_by_zone


def lattice_of(epsg: int) -> Lattice:
    grid = Grid(epsg=epsg, gsd_m=0.5)
    return Lattice(grid=grid, window_px=256, halo_px=32, cell_windows=8)


def test_a_continent_is_refused_before_its_cells_are_listed() -> None:
    with pytest.raises(AoiError, match=r"too large for one run.*at most 4,000,000 cells"):
        area_cells(split_by_zone(box(-10, 36, 40, 60)), lattice_of, "aoi")


def test_a_town_has_its_cells() -> None:
    cells = area_cells(split_by_zone(box(37.0, 37.0, 37.05, 37.05)), lattice_of, "aoi")
    assert 30 <= len(cells) <= 60
    assert len(set(cells)) == len(cells)
