"""Every footprint owns every pixel inside its outline, also where others overlap it."""

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.geometry import MultiPoint, Polygon, box
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Grid, Window
from quakestream.raster.owners import find_owners, inside

GRID = Grid(epsg=32637, gsd_m=0.5)
WINDOW = Window(row=11_680_000, col=640_000, height=48, width=64)
DECIMETRE = st.integers(0, 140)


@st.composite
def outlines(draw: st.DrawFn) -> Polygon:
    west, south, *_ = GRID.bounds(WINDOW)
    x, y = west + draw(st.floats(-5, 30)), south + draw(st.floats(-5, 22))
    width, height = draw(st.floats(0.1, 14)), draw(st.floats(0.1, 14))
    lean = draw(st.floats(-2, 2))
    corners = [(x, y), (x + width, y + lean), (x + width, y + height + lean), (x, y + height)]
    return Polygon(corners)


def assert_same_pixels(
    found_YX: NDArray[np.bool_], gdal_YX: NDArray[np.bool_], outline: BaseGeometry
) -> None:
    """Asserts equal pixels, except where rounding decides: centres on the border itself."""
    row_P, col_P = np.nonzero(found_YX != gdal_YX)
    x_P, y_P = GRID.window_transform(WINDOW) @ (col_P + 0.5, row_P + 0.5)
    away_P = shapely.distance(shapely.points(x_P, y_P), outline.boundary)
    assert (away_P < 1e-6).all()


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
        regions = owners.region_A[owners.building_A == building[n]]
        assert_same_pixels(np.isin(owners.region_YX, regions), alone == 1, polygon)
    pixels = np.bincount(owners.region_YX[owners.region_YX >= 0], minlength=owners.regions)
    assert pixels.sum() == (owners.region_YX >= 0).sum()


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_outlines_of_any_form_get_the_pixels_gdal_gives_them(data: st.DataObject) -> None:
    """Outlines may have holes or several parts, exceed the window, or lie beside it."""
    west, south, *_ = GRID.bounds(WINDOW)
    place = st.integers(-30_000, 60_000).map(lambda mm: mm / 1000)  # GEOS fails on 1e-300
    points = data.draw(st.lists(st.tuples(place, place), min_size=3, max_size=9, unique=True))
    outline = shapely.concave_hull(MultiPoint(points), 0.4).buffer(data.draw(st.floats(0.5, 3)))
    if data.draw(st.booleans()):
        outline = outline.difference(outline.centroid.buffer(data.draw(st.floats(0.5, 4))))
    moved = shapely.transform(outline, lambda xy: xy + np.array([west, south]))
    alone = rasterize([(moved, 1)], out_shape=WINDOW.shape, transform=GRID.window_transform(WINDOW))
    assert_same_pixels(inside(moved, GRID, WINDOW), alone == 1, moved)


@given(
    row=st.integers(0, 40),
    col=st.integers(0, 33),
    gsd_m=st.sampled_from([0.5, 0.3]),
    corners=st.lists(st.tuples(DECIMETRE, DECIMETRE), min_size=3, max_size=6, unique=True),
)
@settings(max_examples=150, deadline=None)
def test_a_pixel_has_the_same_owner_in_any_window(
    row: int, col: int, gsd_m: float, corners: list[tuple[int, int]]
) -> None:
    """Also where borders run through the middles of pixels, as vertices in whole decimetres make
    them: GDAL, which counts from the window's corner, gives other pixels in other windows."""
    grid = Grid(epsg=32637, gsd_m=gsd_m)
    west, south, *_ = grid.bounds(WINDOW)
    metres_V2 = np.round([west, south], 1) + np.array(corners) / 10
    outline = MultiPoint(metres_V2).convex_hull
    part = Window(row=WINDOW.row + row, col=WINDOW.col + col, height=8, width=31)
    whole_YX = inside(outline, grid, WINDOW)
    assert np.array_equal(inside(outline, grid, part), whole_YX[part.slices_in(WINDOW)])


def test_neighbours_at_a_border_share_no_pixel_and_omit_none() -> None:
    """The border runs through the middles of pixels."""
    west, south, *_ = GRID.bounds(WINDOW)
    rows = [
        box(west + x, south + y, west + x + 3, south + y + 3)
        for y in np.arange(0.25, 20, 3)
        for x in np.arange(0.25, 28, 3)
    ]
    counted = sum((inside(b, GRID, WINDOW) for b in rows), np.zeros(WINDOW.shape, int))
    whole = inside(shapely.union_all(rows), GRID, WINDOW)
    assert np.array_equal(counted, whole.astype(int))


def test_identical_outlines_share_their_pixels() -> None:
    west, south, *_ = GRID.bounds(WINDOW)
    outline = box(west + 2, south + 2, west + 12, south + 12)
    owners = find_owners(np.array([outline] * 3, object), np.arange(3), GRID, WINDOW)
    for n in range(3):
        regions = owners.region_A[owners.building_A == n]
        assert np.isin(owners.region_YX, regions).sum() == 400


def test_no_footprint_owns_nothing() -> None:
    owners = find_owners(np.empty(0, object), np.empty(0, np.int64), GRID, WINDOW)
    assert owners.regions == 0
    assert (owners.region_YX == -1).all()
