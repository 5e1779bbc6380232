"""Geometry at 180°, however it is written, becomes parts within ±180°."""

import numpy as np
import pytest
import shapely
from shapely.geometry import Point, Polygon, box

from quakestream.tiling.antimeridian import (
    bounds_of,
    box_of_degrees,
    cut_at_180,
    cut_one_at_180,
    side_by_side,
    spans_side_by_side,
    turned,
)

WEST, EAST = box(179.9, -17, 180, -16), box(-180, -17, -179.8, -16)
BOTH = shapely.union_all([WEST, EAST])
NAIVE = Polygon([(179.9, -17), (-179.8, -17), (-179.8, -16), (179.9, -16)])


@pytest.mark.parametrize(
    "written",
    [box(179.9, -17, 180.2, -16), box(-180.1, -17, -179.8, -16), NAIVE, NAIVE.reverse(), BOTH],
    ids=["beyond", "before", "naive", "naive reversed", "cut"],
)
def test_three_ways_of_writing_become_one(written: Polygon) -> None:
    cut = cut_one_at_180(written)
    assert cut.is_valid
    assert cut.equals_exact(BOTH, 1e-9) or cut.symmetric_difference(BOTH).area < 1e-9
    assert bounds_of(cut) == pytest.approx((179.9, -17, -179.8, -16))
    assert cut_one_at_180(cut).equals(cut)


@pytest.mark.parametrize(
    "whole",
    [
        box(-180, -90, 180, 90),
        box(-180, -10, 180, 10),
        box(36, 37, 37, 38),
        box(5e5, 4e6, 6e5, 5e6),
        Polygon(),
    ],
    ids=["earth", "belt", "small", "metres", "empty"],
)
def test_what_does_not_cross_stays(whole: Polygon) -> None:
    assert cut_one_at_180(whole).equals_exact(whole, 0)


def test_holes_and_points_and_poles() -> None:
    hole = box(179.95, -16.8, 180.1, -16.5)
    ring = Polygon(box(179.9, -17, 180.2, -16).exterior, [hole.exterior])
    cut = cut_one_at_180(ring)
    assert cut.area == pytest.approx(ring.area)
    assert not cut.intersects(Point(180, -16.6))
    assert not cut.intersects(Point(-179.95, -16.6))
    assert cut.intersects(Point(-179.85, -16.6))
    assert cut_one_at_180(Point(180.5, 3)).equals(Point(-179.5, 3))
    # a ring round the pole, as a polar scene has
    cap = cut_one_at_180(Polygon([(0, 80), (90, 80), (180, 80), (-90, 80)]))
    assert cap.is_valid
    assert cap.area == pytest.approx(3600)
    assert cap.intersects(Point(45, 89))


def test_an_invalid_outline_and_a_missing_one_are_left() -> None:
    bow = Polygon([(179.9, 0), (180.1, 1), (180.1, 0), (179.9, 1)])
    both = cut_at_180(np.array([bow, None], object))
    assert both[1] is None
    assert not both[0].is_valid


def test_boxes_with_west_beyond_east() -> None:
    assert box_of_degrees(179.9, -17, -179.8, -16).equals(BOTH)
    assert box_of_degrees(179.9, -17, 180.2, -16).symmetric_difference(BOTH).area < 1e-9
    assert box_of_degrees(1, 2, 3, 4).equals(box(1, 2, 3, 4))


def test_a_flat_map_has_both_sides_together() -> None:
    shown = side_by_side(np.array([BOTH, box(-179.7, 0, -179.6, 1), box(179, 0, 179.5, 1)], object))
    assert shapely.total_bounds(shown).tolist() == pytest.approx([179, -17, 180.4, 1])
    alone = np.array([box(-179.7, 0, -179.6, 1)], object)
    assert side_by_side(alone) is alone
    west, east = spans_side_by_side(np.array([-180.0, -179.7, 179.0]), np.array([180, -179.6, 179]))
    assert west.tolist() == pytest.approx([180, 180.3, 179])
    assert east.tolist() == pytest.approx([180, 180.4, 179])
    assert turned(-179.9, 179.0) == pytest.approx(180.1)
