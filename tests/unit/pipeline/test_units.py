"""Units as grouped in one sort, against grouping each cell by itself."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from quakestream.bundles import load_bundle
from quakestream.domain import BundleSpec, Grid
from quakestream.pipeline.kinds.table import DAMAGE_KINDS
from quakestream.pipeline.kinds.units import PlanInputs, ViewTable
from quakestream.testing import write_building_bundle, write_bundle
from quakestream.tiling import Lattice, crop_corners

ZONES = (32636, 32637)


@pytest.fixture(scope="module", params=["segmentation", "building"])
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BundleSpec:
    write = write_bundle if request.param == "segmentation" else write_building_bundle
    folder: Path = tmp_path_factory.mktemp(request.param)
    return load_bundle(str(write(folder))).spec


@given(seed=st.integers(0, 2**32), count=st.integers(0, 120), cell_windows=st.integers(1, 4))
def test_units_are_the_cells_footprints_touch(
    spec: BundleSpec, seed: int, count: int, cell_windows: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y = 300_000 + rng.uniform(0, 500, count), 4_160_000 - rng.uniform(0, 500, count)
    polygon_N = shapely.box(x, y, x + rng.uniform(2, 90, count), y + rng.uniform(2, 90, count))
    zone_N = rng.choice(ZONES, count)
    view_N = rng.integers(0, 3, count)
    inputs = PlanInputs(
        zone_N=zone_N,
        polygon_N=polygon_N,
        footprint_A=np.arange(count),
        view_A=view_N,
        area_of_zone={},
        post=(),
        pre=(),
        views=ViewTable(),
    )

    def lattice(epsg: int) -> Lattice:
        grid = Grid(epsg=epsg, gsd_m=spec.gsd_m)
        return Lattice(grid=grid, window_px=96, halo_px=16, cell_windows=cell_windows)

    expected: dict[tuple[int, ...], tuple[set[tuple[int, int]], set[int]]] = defaultdict(
        lambda: (set(), set())
    )
    for n in range(count):
        one = lattice(int(zone_N[n]))
        bounds_14 = shapely.bounds(polygon_N[n : n + 1])
        if spec.task == "building":
            middle = crop_corners(bounds_14, one.grid, spec.window_px)[0] + spec.window_px // 2
            windows = [tuple((middle // one.core_px).tolist())]
        else:
            touches = one.touches(bounds_14)
            windows = list(zip(touches.row_T.tolist(), touches.col_T.tolist(), strict=True))
        for row, col in windows:
            key = (int(zone_N[n]), int(view_N[n]), row // cell_windows, col // cell_windows)
            expected[key][0].add((row, col))
            expected[key][1].add(n)

    units = DAMAGE_KINDS[spec.task].units(inputs, spec, lattice)
    keys = [(u.cell.epsg, u.view, u.cell.row, u.cell.col) for u in units]
    assert keys == sorted(expected)
    for key, unit in zip(keys, units, strict=True):
        windows, footprints = expected[key]
        assert [tuple(w) for w in unit.window_W2.tolist()] == sorted(windows)
        assert unit.footprint_F.tolist() == sorted(footprints)
        assert unit.scored == (len(footprints) if spec.task == "building" else len(windows))
