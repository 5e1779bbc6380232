"""Every footprint gets every pixel inside its outline, whatever lies over it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from shapely.geometry import Polygon, box

from quakestream.domain import Grid, Window
from quakestream.raster.owners import find_owners

GRID = Grid(epsg=32637, gsd_m=0.5)
WINDOW = Window(row=11_680_000, col=640_000, height=48, width=64)


@st.composite
def outlines(draw: st.DrawFn) -> Polygon:
    west, south, *_ = GRID.bounds(WINDOW)
    x, y = west + draw(st.floats(-5, 30)), south + draw(st.floats(-5, 22))
    width, height = draw(st.floats(0.1, 14)), draw(st.floats(0.1, 14))
    lean = draw(st.floats(-2, 2))
    corners = [(x, y), (x + width, y + lean), (x + width, y + height + lean), (x, y + height)]
    return Polygon(corners)


@given(polygons=st.lists(outlines(), max_size=12))
@settings(max_examples=60, deadline=None)
def test_each_footprint_owns_exactly_its_pixels(polygons: list[Polygon]) -> None:
    array = np.array([*polygons, None], object)[:-1]
    building = np.arange(len(polygons)) * 3 + 1
    owners = find_owners(array, building, GRID, WINDOW)
    for n, polygon in enumerate(polygons):
        alone = rasterize(
            [(polygon, 1)], out_shape=WINDOW.shape, transform=GRID.window_transform(WINDOW)
        )
        regions = owners.region_M[owners.building_M == building[n]]
        assert np.array_equal(np.isin(owners.region_YX, regions), alone == 1)
    pixels = np.bincount(owners.region_YX[owners.region_YX >= 0], minlength=owners.regions)
    assert pixels.sum() == (owners.region_YX >= 0).sum()


def test_identical_outlines_share_their_pixels() -> None:
    west, south, *_ = GRID.bounds(WINDOW)
    outline = box(west + 2, south + 2, west + 12, south + 12)
    owners = find_owners(np.array([outline] * 3, object), np.arange(3), GRID, WINDOW)
    for n in range(3):
        regions = owners.region_M[owners.building_M == n]
        assert np.isin(owners.region_YX, regions).sum() == 400


def test_no_footprint_owns_nothing() -> None:
    owners = find_owners(np.empty(0, object), np.empty(0, np.int64), GRID, WINDOW)
    assert owners.regions == 0
    assert (owners.region_YX == -1).all()
