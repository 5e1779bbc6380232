"""The square around a footprint, and which squares are read together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quakestream.domain import Grid
from quakestream.errors import ShapeError
from quakestream.tiling import around, crop_corners, crop_groups, crop_windows

GRID = Grid(epsg=32637, gsd_m=0.5)
sides = st.integers(1, 64)
corners = st.lists(
    st.tuples(st.integers(0, 700), st.integers(0, 700)), min_size=1, max_size=60
).map(lambda pairs: np.array(pairs, np.int64))


@given(
    x=st.floats(166_000, 834_000),
    y=st.floats(0, 9_300_000),
    width=st.floats(0, 900),
    height=st.floats(0, 900),
    side=sides,
)
def test_the_crop_lies_around_the_middle_of_the_bounds(
    x: float, y: float, width: float, height: float, side: int
) -> None:
    bounds = np.array([[x, y, x + width, y + height]])
    (window,) = crop_windows(bounds, GRID, side)
    west, south, east, north = GRID.bounds(window)
    assert window.shape == (side, side)
    assert abs((west + east) / 2 - (x + width / 2)) <= 0.25 + 1e-6
    assert abs((south + north) / 2 - (y + height / 2)) <= 0.25 + 1e-6


def test_a_crop_does_not_hang_on_the_other_footprints() -> None:
    rng = np.random.default_rng(0)
    west, south = rng.uniform(300_000, 301_000, (2, 50))
    bounds = np.stack([west, south, west + 9, south + 9], axis=1)
    together = crop_corners(bounds, GRID, 33)
    alone = [crop_corners(row, GRID, 33)[0] for row in bounds]
    assert np.array_equal(together, np.array(alone))


def test_bounds_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ShapeError, match="finite"):
        crop_corners(np.array([[0.0, np.nan, 1.0, 1.0]]), GRID, 8)


@given(corner_N2=corners, side=sides)
@settings(max_examples=80)
def test_groups_hold_each_crop_once_and_few_pixels(corner_N2: np.ndarray, side: int) -> None:
    groups = crop_groups(corner_N2, side)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(corner_N2)))
    held = 0
    for group in groups:
        outer = around(corner_N2[group], side)
        held += outer.height * outer.width
        for row, col in corner_N2[group].tolist():
            assert outer.row <= row <= outer.row_end - side
            assert outer.col <= col <= outer.col_end - side
        assert outer.height * outer.width <= 2 * len(group) * side**2
    whole = around(corner_N2, side)
    assert held <= whole.height * whole.width


def test_no_crops_make_no_group() -> None:
    assert crop_groups(np.empty((0, 2), np.int64), 8) == []
