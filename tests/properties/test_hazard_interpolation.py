"""Laws of bilinear sampling, on any grid."""

import itertools
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from quakestream.hazard import read_shakemap
from quakestream.hazard.interpolation import bilinear

coefficient = st.floats(-1e3, 1e3)
share = st.floats(0, 1)
size = st.integers(2, 9)
grids = hnp.arrays(
    np.float64,
    st.tuples(size, size),
    elements=st.floats(-1e6, 1e6) | st.just(float("nan")),
)
points = st.lists(st.tuples(share, share), min_size=1, max_size=20)


def positions(
    grid: NDArray[np.float64], shares: list[tuple[float, float]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    row, col = np.array(shares).T
    return row * (grid.shape[0] - 1), col * (grid.shape[1] - 1)


@given(size, size, coefficient, coefficient, coefficient, points)
def test_linear_functions_are_reproduced(
    height: int, width: int, a: float, b: float, c: float, shares: list[tuple[float, float]]
) -> None:
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float64)
    grid = a * rows + b * cols + c
    row, col = positions(grid, shares)
    np.testing.assert_allclose(
        bilinear(grid, row, col), a * row + b * col + c, rtol=1e-12, atol=1e-9
    )


@given(grids, points)
def test_values_stay_between_their_corners_and_need_all_of_them(
    grid: NDArray[np.float64], shares: list[tuple[float, float]]
) -> None:
    row, col = positions(grid, shares)
    for value, r, c in zip(bilinear(grid, row, col), row, col, strict=True):
        block = grid[int(np.floor(r)) : int(np.ceil(r)) + 1, int(np.floor(c)) : int(np.ceil(c)) + 1]
        if np.isnan(block).any():
            # A node whose weight rounds to nothing may be left out.
            assert np.isnan(value) or np.nanmin(block) <= value <= np.nanmax(block)
        else:
            assert block.min() <= value <= block.max()


@given(grids)
def test_nodes_are_returned_as_they_are(grid: NDArray[np.float64]) -> None:
    rows, cols = np.mgrid[0 : grid.shape[0], 0 : grid.shape[1]].astype(np.float64)
    found = bilinear(grid, rows.ravel(), cols.ravel())
    np.testing.assert_array_equal(found, grid.ravel())


@given(grids, st.floats(0.001, 100), share)
def test_outside_is_missing(grid: NDArray[np.float64], off: float, along: float) -> None:
    inside_row, inside_col = along * (grid.shape[0] - 1), along * (grid.shape[1] - 1)
    row = np.array([-off, grid.shape[0] - 1 + off, inside_row, inside_row, np.nan])
    col = np.array([inside_col, inside_col, -off, grid.shape[1] - 1 + off, inside_col])
    assert np.isnan(bilinear(grid, row, col)).all()


@settings(max_examples=30)
@given(
    order=st.permutations(range(12)),
    values=st.lists(st.floats(0, 300), min_size=12, max_size=12),
    west=st.floats(-180, 179),
    shares=points,
)
def test_the_order_of_a_shakemaps_rows_changes_nothing(
    tmp_path_factory: object,
    order: list[int],
    values: list[float],
    west: float,
    shares: list[tuple[float, float]],
) -> None:
    nodes = list(itertools.product((37.2, 37.1, 37.0), (0.0, 0.1, 0.2, 0.3)))
    # Rows past the antimeridian are written from -180 on; the header counts on.
    rows = [
        f"{(west + lon + 180) % 360 - 180:.6f} {lat} {value!r}"
        for (lat, lon), value in zip(nodes, values, strict=True)
    ]
    folder = Path(tmp_path_factory.mktemp("rows"))  # type: ignore[attr-defined]
    found = []
    for name, arranged in (("a", rows), ("b", [rows[i] for i in order])):
        (folder / name).write_text(
            '<shakemap_grid event_id="e"><grid_specification '
            f'lon_min="{west:.6f}" lat_min="37.0" lon_max="{west + 0.3:.6f}" lat_max="37.2" '
            'nlon="4" nlat="3"/><grid_field index="1" name="LON"/><grid_field index="2" '
            'name="LAT"/><grid_field index="3" name="PGA" units="%g"/>'
            f"<grid_data>{chr(10).join(arranged)}</grid_data></shakemap_grid>"
        )
        east, north = np.array(shares).T
        shakemap = read_shakemap(str(folder / name))
        found.append(shakemap.at("PGA", west + 0.05 + east * 0.2, 37.05 + north * 0.1))
    assert not np.isnan(found[0]).any()
    np.testing.assert_array_equal(found[0], found[1])
