"""The topographic index of a slope and of a valley, counted by hand."""

import numpy as np
import pytest

from quakestream.synthetic.prior_files import topographic_index


def test_area_adds_up_down_a_slope() -> None:
    """A slope of 5 in 10, three pixels long: each pixel drains those above it."""
    metres = np.tile(np.array([[10.0], [5.0], [0.0]]), (1, 3))
    index = topographic_index(metres, 10.0, 10.0)
    above = np.log(np.array([1, 2]) * 100 / 10 / 0.5)
    assert index[:2, 1] == pytest.approx(above)
    assert index[2, 1] == pytest.approx(np.log(300 / 10 / 1e-3)), "a pit keeps what flows into it"


def test_a_valley_gathers_its_sides() -> None:
    metres = np.array([[9.0, 4.0, 9.0], [8.0, 1.0, 8.0], [7.0, 0.0, 7.0]])
    index = topographic_index(metres, 10.0, 10.0)
    assert index[1, 1] > index[0, 1] > index[0, 0]
    # all nine pixels end in the lowest one
    assert index[2, 1] == pytest.approx(np.log(900 / 10 / 1e-3))
