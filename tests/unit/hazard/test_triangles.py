"""Shaking on triangles between the nodes of a ShakeMap, held against scipy's griddata."""

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS
from scipy.interpolate import griddata

from quakestream.errors import HazardError
from quakestream.hazard.frames import PixelFrame
from quakestream.hazard.triangles import Rim, on_triangles, rising_squares

NO_RIM = Rim(north=False, south=False, west=False, east=False)


def test_values_are_those_of_a_triangulation_of_the_same_nodes() -> None:
    """The nodes and their rim in rows from the north, as USGS's software hands them over."""
    random = np.random.default_rng(3)
    values = random.normal(size=(7, 9))
    rim = Rim(north=True, south=False, west=True, east=True)
    padded = np.pad(values[::-1], ((1, 0), (1, 1)), constant_values=np.nan)
    col_YX, row_YX = np.meshgrid(np.arange(11), np.arange(8))
    row_N, col_N = random.uniform(0, 6, 400), random.uniform(0, 8, 400)
    expected = griddata(
        np.column_stack([col_YX.ravel(), row_YX.ravel()]), padded.ravel(), (col_N + 1, 7 - row_N)
    )
    found = on_triangles(values, rising_squares(7, 9, rim), row_N, col_N)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # One more row of nodes cuts other squares.
    assert (rising_squares(7, 9, rim) != rising_squares(7, 9, NO_RIM)).any()


def test_both_diagonals_and_the_edges_of_the_nodes() -> None:
    values = np.array([[0.0, 1.0], [2.0, 7.0]])  # south-west, south-east; north-west, north-east
    at = np.array([0.5, 0.25, 0.75, 0.0, 1.0, 1.0, -0.01]), np.array([0.5, 0.5, 0.5, 0, 1, 0, 0])
    rising = on_triangles(values, np.array([[True]]), *at)
    np.testing.assert_allclose(rising, [3.5, 2.0, 4.0, 0.0, 7.0, 2.0, np.nan])
    falling = on_triangles(values, np.array([[False]]), *at)
    np.testing.assert_allclose(falling, [1.5, 1.0, 3.0, 0.0, 7.0, 2.0, np.nan])


def test_a_missing_node_counts_only_with_weight() -> None:
    values = np.array([[0.0, np.nan], [2.0, 4.0]])
    at = np.array([0.75, 0.25]), np.array([0.25, 0.75])
    found = on_triangles(values, np.array([[True]]), *at)
    np.testing.assert_allclose(found, [2.0 * 0.5 + 4.0 * 0.25, np.nan])


def test_a_rim_lies_where_the_nearest_pixel_is_beyond_the_edge() -> None:
    frame = PixelFrame(
        crs=CRS.from_epsg(4326), transform=Affine(0.1, 0, 9.96, 0, -0.1, 21.04), height=99, width=99
    )  # centres at 10.01 + 0.1 k and at 20.99 - 0.1 k
    assert Rim.of(np.array([10.0, 11.0]), np.array([20.0, 21.0]), frame) == Rim(
        north=False, south=True, west=False, east=True
    )
    utm = PixelFrame(crs=CRS.from_epsg(32637), transform=frame.transform, height=9, width=9)
    assert Rim.of(np.array([10.0, 11.0]), np.array([20.0, 21.0]), utm).empty


def test_more_nodes_than_fit_are_refused() -> None:
    with pytest.raises(HazardError, match="too many nodes"):
        rising_squares(2000, 2000, NO_RIM)
