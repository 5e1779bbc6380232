"""Synthetic hills: slides follow slope, shaking and rock, and are truth of known outline."""

import numpy as np
import pytest
import shapely
from affine import Affine

from quakestream.synthetic.hills import (
    LEAST_SLOPE_DEG,
    Hills,
    HillsLayout,
    failure_weight,
    make_hills,
)
from quakestream.synthetic.hillsides import HILL_FROM_DEG, paint_hillsides
from quakestream.synthetic.surface import Surface

LAYOUT = HillsLayout(shape=(192, 224), transform=Affine(10.0, 0, 1000.0, 0, -10.0, 9000.0))


@pytest.fixture(scope="module")
def hills() -> Hills:
    return make_hills(5, LAYOUT)


def test_the_sum_in_the_head_of_the_module():
    slope = np.array([[32.0, 42.0, 13.9, 60.0, 32.0]], np.float32)
    pgv = np.array([[30.0, 30.0, 300.0, 30.0, 60.0]], np.float32)
    rock = np.array([[1, 1, 3, 1, 3]], np.uint8)
    weight = failure_weight(slope, pgv, rock)
    expected = np.exp([0.0, 1.2, -np.inf, 0.12 * 13, 1.4 * np.log(2) + 1.1])
    np.testing.assert_allclose(weight[0], expected, rtol=1e-5)


def test_slides_cover_their_share_and_lie_apart_inside_the_raster(hills: Hills):
    area = sum(slide.area for slide in hills.slides)
    assert area / LAYOUT.extent.area == pytest.approx(0.02, rel=0.4)
    assert (hills.slide_YX > 0).mean() == pytest.approx(area / LAYOUT.extent.area, rel=0.15)
    assert all(slide.is_valid and slide.within(LAYOUT.extent) for slide in hills.slides)
    assert shapely.unary_union(hills.slides).area == pytest.approx(area)
    assert not (hills.scar_YX[hills.slide_YX > 0]).any()


def test_slope_is_that_of_the_elevation_and_slides_lie_on_the_steep(hills: Hills):
    row, col = 80, 90
    z = hills.elevation_YX
    east, south = (z[row, col + 1] - z[row, col - 1]) / 20, (z[row + 1, col] - z[row - 1, col]) / 20
    assert hills.slope_YX[row, col] == pytest.approx(
        np.degrees(np.arctan(np.hypot(east, south))), abs=0.01
    )
    # Downhill is against the gradient; rows grow southward.
    assert hills.aspect_YX[row, col] == pytest.approx(np.arctan2(south, -east), abs=0.001)
    slid = hills.slide_YX > 0
    assert hills.slope_YX[slid].mean() > hills.slope_YX.mean() + 3


def test_nothing_slides_on_the_plain():
    plain = np.zeros(LAYOUT.shape, np.float32)
    plain[:, :100] = 1.0
    hills = make_hills(5, LAYOUT, plain_YX=plain)
    assert hills.slope_YX[:, :98].max() == 0
    heads = hills.slide_YX[:, 100:] > 0
    assert heads.sum() > 100
    assert (hills.slide_YX[:, :85] > 0).sum() == 0
    assert LEAST_SLOPE_DEG > HILL_FROM_DEG


def test_a_seed_gives_the_same_hills_and_another_gives_others(hills: Hills):
    again = make_hills(5, LAYOUT)
    np.testing.assert_array_equal(again.elevation_YX, hills.elevation_YX)
    assert [a.wkb for a in again.slides] == [b.wkb for b in hills.slides]
    assert not np.array_equal(make_hills(6, LAYOUT).elevation_YX, hills.elevation_YX)


def test_paint_bares_the_slides_after_the_event_alone():
    layout = HillsLayout(
        shape=(400, 400), transform=Affine(0.5, 0, 0, 0, -0.5, 0), slide_length_m=40.0
    )
    hills = make_hills(3, layout)
    where = hills.slope_YX >= HILL_FROM_DEG
    before, after = (
        Surface(
            albedo_BYX=np.full((3, 400, 400), 0.4, np.float32),
            height_YX=np.zeros((400, 400), np.float32),
            vegetation_YX=np.zeros((400, 400), np.float32),
        )
        for _ in range(2)
    )
    paint_hillsides(3, before, hills, slid=False, where_YX=where)
    paint_hillsides(3, after, hills, slid=True, where_YX=where)
    slid = (hills.slide_YX > 0) & where & ~hills.river_YX
    assert before.vegetation_YX[slid].mean() > 0.5 > 0.25 > after.vegetation_YX[slid].mean()
    np.testing.assert_array_equal(
        before.albedo_BYX[:, ~slid & ~hills.river_YX], after.albedo_BYX[:, ~slid & ~hills.river_YX]
    )
    assert (after.albedo_BYX[:, ~where] == 0.4).all()
