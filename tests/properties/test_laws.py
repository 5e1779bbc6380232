"""Laws 2, 3, 4 and 6 over whole runs of small worlds."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import calculate_default_transform, reproject

from quakestream.config import open_run
from quakestream.pipeline.planning.plan import make_plan
from quakestream.testing import make_world
from tests.helpers.mapping import ShuffledBackend, edit, map_file, mapped, same


def test_the_cell_size_changes_nothing(tmp_path: Path) -> None:
    make_world(tmp_path, seed=3)
    maps = [mapped(tmp_path, f"out{k}", cell_windows=k, group_cells=3) for k in (1, 2, 5)]
    cells = [m.run["counts"]["cells"] for m in maps]
    assert cells[0] > cells[1] > cells[2] >= 1
    same(maps[0].buildings, maps[1].buildings)
    same(maps[0].buildings, maps[2].buildings)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_cells_changes_nothing(tmp_path: Path, seed: int) -> None:
    world = make_world(tmp_path, seed=5, execution={"cell_windows": 1, "group_cells": 2})
    straight = map_file(world.run_file, tmp_path / "a")
    shuffled = map_file(world.run_file, tmp_path / "b", ShuffledBackend(seed))
    same(straight.buildings, shuffled.buildings)


def test_every_footprint_is_answered_once(tmp_path: Path) -> None:
    make_world(tmp_path, seed=3)
    result = mapped(tmp_path, "out")
    given = gpd.read_file(tmp_path / "footprints.geojson")
    answered = result.buildings
    assert sorted(answered["building_id"]) == sorted(given["id"])
    counts = result.run["counts"]
    assert counts["assessed"] + counts["not_assessed"] == counts["footprints"] == len(given)
    assert (answered["reason"].isna() == (answered["status"] == "assessed")).all()
    assert (answered["status"] == "not_assessed").any(), "the world has footprints over its edge"


def test_a_run_again_scores_nothing_and_changes_nothing(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=4, execution={"cell_windows": 2, "group_cells": 2})
    first = map_file(world.run_file)
    commits = sorted((tmp_path / "out" / "_ledger" / "cells").iterdir())
    written = [p.stat().st_mtime_ns for p in commits]
    second = map_file(world.run_file)
    assert second.run["counts"]["cells_scored"] == 0
    assert second.run["counts"]["cells_resumed"] == first.run["counts"]["cells"]
    assert [p.stat().st_mtime_ns for p in commits] == written
    assert second.run["snapshot"] == first.run["snapshot"]
    same(first.buildings, second.buildings)


@pytest.mark.parametrize("lost", [0, 1, -1])
def test_a_run_with_lost_commits_ends_as_one_that_lost_none(tmp_path: Path, lost: int) -> None:
    world = make_world(tmp_path, seed=6, execution={"cell_windows": 1, "group_cells": 2})
    whole = map_file(world.run_file).buildings
    commits = sorted((tmp_path / "out" / "_ledger" / "cells").iterdir())
    assert len(commits) > 5
    for path in commits[lost::3]:
        path.unlink()
    resumed = map_file(world.run_file)
    assert 0 < resumed.run["counts"]["cells_scored"] < resumed.run["counts"]["cells"]
    same(whole, resumed.buildings)


def test_another_batch_size_finds_the_cells_of_an_earlier_run(tmp_path: Path) -> None:
    make_world(tmp_path, seed=3)
    first = mapped(tmp_path, "out", cell_windows=1, group_cells=2)
    again = mapped(tmp_path, "out", cell_windows=1, group_cells=7)
    assert again.run["counts"]["cells_scored"] == 0
    same(first.buildings, again.buildings)


def test_other_footprints_in_a_used_folder_give_the_map_of_an_empty_one(tmp_path: Path) -> None:
    """Commits of the earlier run hold footprints that the later run lacks."""
    world = make_world(tmp_path, seed=4, execution={"cell_windows": 2, "group_cells": 2})
    edit(world.run_file, lambda content: content.update(outputs=["scores"]))
    map_file(world.run_file)
    footprints = gpd.read_file(tmp_path / "footprints.geojson")
    footprints.iloc[3::2].to_file(tmp_path / "footprints.geojson")
    again = map_file(world.run_file)
    assert len(again.buildings) == len(footprints.iloc[3::2])
    same(map_file(world.run_file, tmp_path / "empty").buildings, again.buildings)


def test_a_changed_scene_is_read_again(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=8)
    first = map_file(world.run_file)
    make_world(tmp_path, seed=9)
    second = map_file(world.run_file)
    assert second.run["counts"]["cells_resumed"] == 0
    differ = first.buildings.set_index("building_id")["pre_post_difference"]
    other = second.buildings.set_index("building_id")["pre_post_difference"]
    assert not differ.dropna().equals(other.dropna())


def test_the_plan_reads_no_pixels(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=10)
    head = world.post.read_bytes()
    plan = make_plan(open_run(world.run_file))
    assert plan.windows > 0
    assert 0 < plan.memory().peak_mb < plan.memory("ray").peak_mb
    assert not (tmp_path / "out").exists()
    assert world.post.read_bytes() == head


@pytest.mark.parametrize("how", ["other_gsd", "other_zone"])
def test_the_cell_size_changes_nothing_where_scenes_are_resampled(tmp_path: Path, how: str) -> None:
    make_world(tmp_path, seed=12)
    for name in ("pre_20220801.tif", "post_20230210.tif"):
        _resample(tmp_path / name, how)
    maps = [mapped(tmp_path, f"out{k}", cell_windows=k, group_cells=3) for k in (1, 3)]
    assert maps[0].run["counts"]["assessed"] > 20
    same(maps[0].buildings, maps[1].buildings)


def _resample(path: Path, how: str) -> None:
    """Writes the scene anew: at 0.3 m, or in the CRS of the neighbouring zone."""
    with rasterio.open(path) as dataset:
        counts, profile = dataset.read(), dict(dataset.profile)
        if how == "other_gsd":
            ratio = 0.5 / 0.3
            shape = (3, int(dataset.height * ratio), int(dataset.width * ratio))
            counts = dataset.read(out_shape=shape)
            transform = dataset.transform @ Affine.scale(1 / ratio)
        else:
            transform, width, height = calculate_default_transform(
                dataset.crs, "EPSG:32636", dataset.width, dataset.height, *dataset.bounds
            )
            counts = np.zeros((3, height, width), np.uint8)
            reproject(
                rasterio.band(dataset, [1, 2, 3]),
                counts,
                dst_transform=transform,
                dst_crs="EPSG:32636",
            )
            profile["crs"] = "EPSG:32636"
    profile |= {"transform": transform, "height": counts.shape[1], "width": counts.shape[2]}
    path.unlink()
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(counts)


def test_all_views_assess_every_building_that_the_best_view_assesses(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=13)
    with rasterio.open(world.post) as dataset:
        counts, profile = dataset.read(), dict(dataset.profile)
    counts[:, :, 200:] = 0  # a second scene after the event that shows the west alone
    second = tmp_path / "post_20230215.tif"
    with rasterio.open(second, "w", **profile) as dataset:
        dataset.write(counts)
    edit(world.run_file, lambda content: content["imagery"]["catalog"].append(str(second)))
    maps = {}
    for views in ("best", "all"):
        edit(world.run_file, lambda c, v=views: c["imagery"].update(views=v))
        maps[views] = map_file(world.run_file, tmp_path / views).buildings
    best, every = (m.set_index("building_id").sort_index() for m in maps.values())
    assert (every["views"] == 2).any()
    assert (best["views"] <= 1).all()
    assert (every["status"] == "assessed")[best["status"] == "assessed"].all()
    assert (every["scene_post"].dropna() == best["scene_post"].dropna()).all()
