"""Shifts on the real pairs, where naive phase correlation finds noise."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from quakestream.domain import Grid, Window
from quakestream.raster.coregistration import BOUND_M, NODE_GSD_M, PairShifts, find_shifts
from quakestream.storage import StorageOptions
from quakestream.testing.worlds import NORTH_M, WEST_M, write_scene
from tests.helpers.noise import scene_at

GRID = Grid(epsg=32637, gsd_m=NODE_GSD_M)
PAIRS = {
    "adiyaman2": ("20220817", "20230212"),
    "adiyaman3": ("20220817", "20230212"),
    "adiyaman6": ("20220817", "20230212"),
    "hatay_ekinci": ("20221222", "20230212"),
    "turkoglu1": ("20180708", "20230209"),
}


def area(path: Path) -> Window:
    with rasterio.open(path) as dataset:
        return GRID.window(*dataset.bounds)


def paths(data_dir: Path, name: str) -> tuple[Path, Path]:
    folder = data_dir / "turkiye-2023-scenes" / "imagery"
    pre, post = PAIRS[name]
    return folder / f"{name}_pre_{pre}_50cm.tif", folder / f"{name}_post_{post}_50cm.tif"


def shifts(pre: Path, post: Path, window: Window | None = None) -> PairShifts:
    return find_shifts(scene_at(post), scene_at(pre), GRID, window or area(post), StorageOptions())


def moved(source: Path, target: Path, x_m: float, y_m: float) -> Path:
    """The scene with a wrong georeference."""
    with rasterio.open(source) as dataset:
        transform = Affine.translation(x_m, y_m) @ dataset.transform
        write_scene(target, dataset.read(), transform=transform, crs=dataset.crs)
    return target


@pytest.mark.data
@pytest.mark.parametrize("name", PAIRS)
def test_disjoint_halves_of_a_real_pair_agree(data_dir: Path, name: str) -> None:
    pre, post = paths(data_dir, name)
    whole = area(post)
    half = whole.width // 2
    west = Window(row=whole.row, col=whole.col, height=whole.height, width=half)
    east = Window(row=whole.row, col=whole.col + half, height=whole.height, width=half)
    found = [shifts(pre, post, w).pair for w in (west, east)]
    assert all(s.quality > 0.8 for s in found)
    assert np.hypot(found[0].rows - found[1].rows, found[0].cols - found[1].cols) <= 4
    assert all(s.metres(NODE_GSD_M) <= BOUND_M for s in found)


@pytest.mark.data
@pytest.mark.parametrize("name", ["adiyaman2", "hatay_ekinci", "turkoglu1"])
@pytest.mark.parametrize("by", [(30.0, 0.0), (-20.0, 22.0)])
def test_a_pair_moved_by_30_m_is_refused_with_its_shift(
    data_dir: Path, tmp_path: Path, name: str, by: tuple[float, float]
) -> None:
    pre, post = paths(data_dir, name)
    true = shifts(pre, post).pair
    found = shifts(moved(pre, tmp_path / "moved.tif", *by), post, area(post))
    assert found.refused
    spread_m = 6  # the true shift of turkoglu1 varies by metres over the scene
    assert abs(found.pair.cols - true.cols - by[0]) <= spread_m
    assert abs(found.pair.rows - true.rows + by[1]) <= spread_m


@pytest.mark.data
def test_images_of_two_towns_hardly_move_and_have_a_low_quality(
    data_dir: Path, tmp_path: Path
) -> None:
    pre, _ = paths(data_dir, "adiyaman3")
    _, post = paths(data_dir, "turkoglu1")
    with rasterio.open(pre) as dataset, rasterio.open(post) as other:
        by = other.transform.c - dataset.transform.c, other.transform.f - dataset.transform.f
    found = shifts(moved(pre, tmp_path / "elsewhere.tif", *by), post)
    assert not found.refused
    assert found.pair.metres(NODE_GSD_M) <= 2
    assert found.pair.quality < 0.25
    assert found.node_IL3[..., 2].max() < 0.6


def test_a_known_shift_is_found_and_given_to_every_window(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (3, 90, 90)).repeat(14, axis=1).repeat(14, axis=2)
    ground = ground.astype(np.uint8)
    pre, post = tmp_path / "pre.tif", tmp_path / "post.tif"
    write_scene(post, ground[:, 100:1100, 100:1100])
    write_scene(pre, ground[:, 96:1096, 110:1110])
    found = shifts(pre, post)
    # post pixel (r, c) shows the ground of pre pixel (r + 4, c - 10): 2 m and -5 m
    assert (found.pair.rows, found.pair.cols) == (2, -5)
    grid = GRID.with_gsd(0.5)
    window = grid.window(WEST_M + 100, NORTH_M - 300, WEST_M + 292, NORTH_M - 108)
    at = found.at(grid, window)
    assert (at.rows, at.cols) == (4, -10)
    assert at.quality > 0.5
