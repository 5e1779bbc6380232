"""Law 1: cell cores cover the ground once. A window depends on its position alone."""

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Point, box

from quakestream.domain import Grid
from quakestream.tiling import Lattice, split_by_zone, unproject, zones_of

GRID = Grid(epsg=32637, gsd_m=0.5)
sizes = st.integers(1, 6)
metres = st.floats(300_000, 310_000, allow_nan=False)
northing = st.floats(4_150_000, 4_160_000, allow_nan=False)


def lattice(cell_windows: int, window_px: int = 96, halo_px: int = 16) -> Lattice:
    return Lattice(grid=GRID, window_px=window_px, halo_px=halo_px, cell_windows=cell_windows)


@given(k=sizes, x=metres, y=northing, width=st.floats(1, 400), height=st.floats(1, 400))
def test_cells_cover_an_area_once(k: int, x: float, y: float, width: float, height: float) -> None:
    area = box(x, y, x + width, y + height)
    cells = lattice(k).cells_over(area)
    cores = np.array([box(*GRID.bounds(c.core)) for c in cells])
    assert shapely.union_all(cores).covers(area.buffer(-1e-6))
    assert np.isclose(shapely.area(cores).sum(), shapely.union_all(cores).area, rtol=1e-9)
    assert len({c.id for c in cells}) == len(cells)


@given(k=sizes, x=metres, y=northing)
def test_every_point_has_one_cell_and_one_window(k: int, x: float, y: float) -> None:
    lat = lattice(k)
    touches = lat.touches(np.array([[x, y, x, y]]))
    assert len(touches.item_T) == 1
    row, col = int(touches.row_T[0]), int(touches.col_T[0])
    west, south, east, north = GRID.bounds(lat.core(row, col))
    assert west <= x <= east
    assert south <= y <= north
    cell = lat.cell(row // k, col // k).core
    lat.core(row, col).slices_in(cell)  # raises if the window's core is not in its cell


@given(
    k=sizes,
    boxes=st.lists(
        st.tuples(metres, northing, st.floats(0, 150), st.floats(0, 150)), min_size=1, max_size=8
    ),
)
def test_touched_windows_cover_each_box_for_any_cell_size(
    k: int, boxes: list[tuple[float, float, float, float]]
) -> None:
    bounds = np.array([[x, y, x + w, y + h] for x, y, w, h in boxes])
    touches = lattice(k).touches(bounds)
    same = lattice(1).touches(bounds)
    assert np.array_equal(touches.row_T, same.row_T)
    assert np.array_equal(touches.col_T, same.col_T)
    for i, bound in enumerate(bounds):
        cores = [
            box(*GRID.bounds(lattice(k).core(int(r), int(c))))
            for r, c in zip(
                touches.row_T[touches.item_T == i], touches.col_T[touches.item_T == i], strict=True
            )
        ]
        assert shapely.union_all(cores).buffer(1e-6).covers(box(*bound))


@given(
    west=st.floats(28, 45),
    south=st.floats(-8, 40),
    width=st.floats(0.01, 9),
    height=st.floats(0.01, 9),
)
def test_zones_cover_an_area_once(west: float, south: float, width: float, height: float) -> None:
    area = box(west, south, west + width, south + height)
    parts = split_by_zone(area)
    back = [unproject(np.array([p], object), epsg)[0] for epsg, p in parts.items()]
    assert np.isclose(sum(p.area for p in back), area.area, rtol=1e-3)
    assert shapely.union_all(back).symmetric_difference(area).area < 1e-3 * area.area + 1e-6


@given(lon=st.floats(-179.99, 179.99), lat=st.floats(-79, 83))
def test_a_point_belongs_to_the_zone_that_covers_it(lon: float, lat: float) -> None:
    around = Point(lon, lat).buffer(0.05).intersection(box(-180, -80, 180, 84))
    parts = split_by_zone(around)
    epsg = int(zones_of(np.array([lon]), np.array([lat]))[0])
    assert epsg in parts
