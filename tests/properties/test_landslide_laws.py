"""Laws of landslides: no cell, order or second run shows in them."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from quakestream.outputs.rasters import STEPS
from tests.helpers.mapping import ShuffledBackend, mapped
from tests.helpers.sliding import expected_steps, sliding_world


def slides(out: Path) -> gpd.GeoDataFrame:
    return gpd.read_parquet(out / "landslides.parquet").set_index("landslide_id").sort_index()


def same_slides(one: gpd.GeoDataFrame, other: gpd.GeoDataFrame) -> None:
    left, right = (pd.DataFrame(f.drop(columns="geometry")) for f in (one, other))
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    assert one.geometry.geom_equals_exact(other.geometry, 0).all()


def test_slides_are_those_of_the_uncut_scene(tmp_path: Path) -> None:
    """Three cell sizes give the groups of pixels that scipy finds on the whole raster."""
    world = sliding_world(tmp_path)
    step_YX = expected_steps(world.post)
    label_YX, count = ndimage.label(step_YX >= 125)
    pixels = np.bincount(label_YX.reshape(-1))[1:]
    sums = ndimage.sum(step_YX, label_YX, np.arange(1, count + 1))
    least = 400  # 100 m² at 0.5 m
    for side, group in ((1, 3), (2, 1), (4, 2)):
        mapped(tmp_path, f"out{side}", cell_windows=side, group_cells=group)
    one, *others = (slides(tmp_path / f"out{side}") for side in (1, 2, 4))
    for other in others:
        same_slides(one, other)
    kept = pixels >= least
    assert 5 < kept.sum() == len(one)
    # the scale of UTM at 34.9°E is 0.99998: areas on the ground differ from the grid's
    assert np.sort(one.area_m2) == pytest.approx(np.sort(pixels[kept] * 0.25), rel=1e-3)
    probability = np.sort(sums[kept] / pixels[kept] / STEPS)
    assert np.sort(one.probability) == pytest.approx(probability, abs=1e-6)


def test_a_run_with_lost_commits_ends_as_one_that_lost_none(tmp_path: Path) -> None:
    sliding_world(tmp_path, execution={"cell_windows": 1, "group_cells": 2})
    whole = mapped(tmp_path, "out")
    before = (tmp_path / "out" / "landslides.parquet").read_bytes()
    commits = sorted((tmp_path / "out" / "_ledger" / "landslides").iterdir())
    for path in commits[::3]:
        path.unlink()
    commits[1].write_bytes(b"damaged")
    again = mapped(tmp_path, "out")
    assert 0 < again.run["counts"]["cells_scored"] < whole.run["counts"]["cells"] / 2
    assert (tmp_path / "out" / "landslides.parquet").read_bytes() == before
    assert again.run["snapshot"] == whole.run["snapshot"]


def test_the_order_of_cells_changes_nothing(tmp_path: Path) -> None:
    sliding_world(tmp_path)
    mapped(tmp_path, "plain", cell_windows=1, group_cells=1)
    mapped(tmp_path, "shuffled", ShuffledBackend(5), cell_windows=1, group_cells=1)
    same_slides(slides(tmp_path / "plain"), slides(tmp_path / "shuffled"))
