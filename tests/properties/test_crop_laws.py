"""Laws 2, 3, 4 and 6 over whole runs that score crops, in small worlds."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
from shapely.geometry import box

from quakestream.testing import write_bundle
from quakestream.testing.worlds import BORDER_M, EPSG, GSD_M, NORTH_M, WEST_M
from tests.helpers.cropping import SIDE_PX, crop_world, oracle, resample, write_layer
from tests.helpers.mapping import ShuffledBackend, by_id, edit, map_file, mapped, same

LATTICE_M = 256.0
"""Side of the squares that make up cells: 512 px of 0.5 m."""
WORLDS: dict[str, dict[str, Any]] = {
    "both_epochs": {},
    "post_and_hazard": {"epochs": ("post",), "hazard": ("dpm", "vs30_m_s", "mmi")},
    "over_a_zone_border": {"west_m": BORDER_M - SIDE_PX * GSD_M / 2, "window_px": 57},
    "crops_larger_than_cells": {"window_px": 640},
}


@pytest.mark.parametrize("kind", WORLDS)
def test_the_cell_size_changes_nothing(tmp_path: Path, kind: str) -> None:
    crop_world(tmp_path, **WORLDS[kind])
    maps = [mapped(tmp_path, f"out{k}", cell_windows=k) for k in (1, 3)]
    cells = [m.run["counts"]["cells"] for m in maps]
    assert cells[0] > cells[1] >= 1
    assert maps[0].run["counts"]["assessed"] > 100
    assert maps[0].run["rates"]["km2"] == maps[1].run["rates"]["km2"]
    same(maps[0].buildings, maps[1].buildings)
    if kind == "over_a_zone_border":
        rows = _commit_rows(tmp_path / "out1")
        assert {c[:5] for c in rows["cell_id"]} == {"32636", "32637"}


@pytest.mark.parametrize("gsd_m", [pytest.param(0.3, marks=pytest.mark.slow), 0.8])
def test_the_cell_size_changes_nothing_where_scenes_are_resampled(
    tmp_path: Path, gsd_m: float
) -> None:
    world = crop_world(tmp_path)
    for path in (world.pre, world.post):
        resample(path, gsd_m)
    maps = [mapped(tmp_path, f"out{k}", cell_windows=k) for k in (1, 3)]
    assert maps[0].run["counts"]["assessed"] > 100
    same(maps[0].buildings, maps[1].buildings)


@pytest.mark.parametrize(
    "kind", [pytest.param("both_epochs", marks=pytest.mark.slow), "post_and_hazard"]
)
def test_each_footprint_scores_as_its_crop_does_alone(tmp_path: Path, kind: str) -> None:
    world = crop_world(tmp_path, **WORLDS[kind])
    result = mapped(tmp_path, "out", cell_windows=2)
    got = result.buildings.set_index("building_id")["p_destroyed"]
    judged = got.dropna().index
    expected = oracle(world, result)
    assert len(judged) > 100
    assert np.abs(got[judged] - expected[judged]).max() < 2e-5
    assert got.std() > 0.1, "scores must differ, or the test shows nothing"


def test_order_groups_and_lost_commits_change_nothing(tmp_path: Path) -> None:
    crop_world(tmp_path, **WORLDS["post_and_hazard"])
    whole = mapped(tmp_path, "out", group_cells=2)
    same(whole.buildings, mapped(tmp_path, "shuffled", ShuffledBackend(1), group_cells=2).buildings)
    commits = sorted((tmp_path / "out" / "_ledger" / "cells").iterdir())
    assert len(commits) > 3
    again = mapped(tmp_path, "out", group_cells=3)
    assert again.run["counts"]["cells_scored"] == 0
    same(whole.buildings, again.buildings)
    for path in commits[::2]:
        path.unlink()
    resumed = mapped(tmp_path, "out", group_cells=2)
    assert 0 < resumed.run["counts"]["cells_scored"] < resumed.run["counts"]["cells"]
    same(whole.buildings, resumed.buildings)


def test_footprints_on_cell_borders_are_scored_once(tmp_path: Path) -> None:
    world = crop_world(tmp_path)
    west, north = WEST_M + LATTICE_M, NORTH_M - LATTICE_M / 2
    outlines = [
        box(x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        for w, h in ((10.0, 10.0), (9.5, 8.0), (6.5, 130.0))
        for x in (west, west + 100, west + LATTICE_M, west - 0.2, west + 0.2)
        for y in (north, north - LATTICE_M, north - 77)
    ]
    ids = [f"b{n}" for n in range(len(outlines))]
    frame = gpd.GeoDataFrame({"id": ids}, geometry=outlines, crs=EPSG)
    frame.to_crs(4326).to_file(world.footprints, driver="GeoJSON")
    maps = [mapped(tmp_path, f"out{k}", cell_windows=k) for k in (1, 2)]
    rows = _commit_rows(tmp_path / "out1")
    assert sorted(rows["building_id"]) == sorted(ids)
    assert rows["cell_id"].nunique() >= 4
    same(maps[0].buildings, maps[1].buildings)
    got = maps[0].buildings.set_index("building_id")["p_destroyed"]
    assert np.abs(got - oracle(world, maps[0])).max() < 2e-5


def test_pre_crops_are_moved_by_the_pairs_shift(tmp_path: Path) -> None:
    """A pre scene that lies 4 m off in both directions gives the same verdicts."""
    world = crop_world(tmp_path)
    still = by_id(mapped(tmp_path, "still").buildings)
    with rasterio.open(world.pre, "r+") as dataset:
        dataset.write(np.roll(dataset.read(), (8, 8), axis=(1, 2)))
    maps = [mapped(tmp_path, f"moved{k}", cell_windows=k) for k in (1, 3)]
    same(*(m.buildings for m in maps))
    moved = by_id(maps[0].buildings)
    found = np.isclose(moved["shift_m"], 4 * 2**0.5)
    assert found.mean() > 0.7
    gap = (moved["p_destroyed"] - still["p_destroyed"])[found].abs().dropna()
    assert len(gap) > 80
    # Crops near the edge hold ground beyond it; the mean colour of all changes a little.
    assert gap.median() < 0.003
    assert (gap < 0.05).mean() > 0.9


def _commit_rows(out: Path) -> pd.DataFrame:
    """Rows of a run's commits: one per footprint and view, with its cell."""
    from quakestream.pipeline.work.ledger import read_records
    from quakestream.storage import open_store

    parts = []
    for path in sorted((out / "_ledger" / "cells").iterdir()):
        cells = [
            r.cell_id for r in read_records(open_store(str(out)), f"_ledger/cells/{path.name}")
        ]
        rows = pq.read_table(path).to_pandas()
        parts.append(rows.assign(cell_id=[cells[n] for n in rows["cell"]]))
    return pd.concat(parts, ignore_index=True)


def test_every_footprint_is_answered_once(tmp_path: Path) -> None:
    crop_world(tmp_path)
    result = mapped(tmp_path, "out")
    given = gpd.read_file(tmp_path / "footprints.geojson")
    answered, counts = result.buildings, result.run["counts"]
    assert sorted(answered["building_id"]) == sorted(given["id"])
    assert counts["assessed"] + counts["not_assessed"] == counts["footprints"] == len(given)
    assert (answered["reason"].isna() == (answered["status"] == "assessed")).all()
    assert {"no_imagery", "nodata"} == set(answered["reason"].dropna())
    assert _commit_rows(tmp_path / "out")["building_id"].is_unique


def test_a_changed_hazard_layer_touches_only_its_cells(tmp_path: Path) -> None:
    world = crop_world(tmp_path, **WORLDS["post_and_hazard"])
    first = mapped(tmp_path, "out", group_cells=1)
    with rasterio.open(tmp_path / "dpm.tif", "r+") as layer:
        values = layer.read(1)
        values[:, -30:] += 1.0
        layer.write(values, 1)
    second = mapped(tmp_path, "out", group_cells=1)
    assert 0 < second.run["counts"]["cells_scored"] < second.run["counts"]["cells"]
    same(second.buildings, mapped(tmp_path, "anew", group_cells=1).buildings)
    one, other = by_id(first.buildings), by_id(second.buildings)
    moved = (one["dpm"] != other["dpm"]) & one["dpm"].notna() & one["p_destroyed"].notna()
    assert moved.any()
    assert (one["p_destroyed"] != other["p_destroyed"])[moved].mean() > 0.5
    still = ~moved & one["p_destroyed"].notna()
    assert (one["p_destroyed"] == other["p_destroyed"])[still].all()
    assert world.post.exists()


def test_all_views_assess_every_building_that_the_best_view_assesses(tmp_path: Path) -> None:
    world = crop_world(tmp_path)
    with rasterio.open(world.post) as dataset:
        counts, profile = dataset.read(), dict(dataset.profile)
    counts[:, :, 500:] = 0  # a second scene after the event that shows the west alone
    second = tmp_path / "post_20230215.tif"
    with rasterio.open(second, "w", **profile) as dataset:
        dataset.write(counts)
    edit(world.run_file, lambda content: content["imagery"]["catalog"].append(str(second)))
    maps = {}
    for views in ("best", "all"):
        edit(world.run_file, lambda c, v=views: c["imagery"].update(views=v))
        maps[views] = [mapped(tmp_path, f"{views}{k}", cell_windows=k) for k in (1, 3)]
        same(*(m.buildings for m in maps[views]))
    best, every = (by_id(m[0].buildings) for m in maps.values())
    assert (every["views"] == 2).any()
    assert (every["status"] == "assessed")[best["status"] == "assessed"].all()
    unseen = (every["views"] == 2) & (every["valid_fraction"] == 1)
    assert unseen.any()


def test_windows_of_post_imagery_need_no_pre_imagery(tmp_path: Path) -> None:
    world = crop_world(tmp_path, epochs=("post",))
    bundle = write_bundle(tmp_path / "windows", epochs=("post",))
    edit(world.run_file, lambda content: content["models"].update(damage=str(bundle)))
    maps = [mapped(tmp_path, f"out{k}", runtime="threshold", cell_windows=k) for k in (1, 4)]
    assert maps[0].run["counts"]["assessed"] > 100
    assert maps[0].buildings["scene_pre"].isna().all()
    assert maps[0].buildings["pre_post_difference"].isna().all()
    same(maps[0].buildings, maps[1].buildings)


def test_pre_scenes_do_not_matter_to_a_bundle_of_post_imagery(tmp_path: Path) -> None:
    world = crop_world(tmp_path, epochs=("post",))
    without = mapped(tmp_path, "without")
    pre = {"pre": {"datetime": "2018-01-01/2023-02-05"}}
    edit(world.run_file, lambda content: content["imagery"].update(pre))
    with_pre = map_file(world.run_file, tmp_path / "with")
    same(without.buildings.drop(columns="run_id"), with_pre.buildings.drop(columns="run_id"))
    assert with_pre.run["counts"]["scenes"] == 1


def test_a_layer_over_other_ground_is_a_missing_layer(tmp_path: Path) -> None:
    """A raster that covers none of the buildings gives the map of a run without it."""
    crop_world(tmp_path, epochs=("post",), hazard=("dpm",))
    write_layer(tmp_path / "dpm.tif", WEST_M + 50_000, seed=1)
    nothing = mapped(tmp_path, "nothing")
    edit(tmp_path / "run.yaml", lambda content: content["hazard"].update(layers={}))
    absent = mapped(tmp_path, "absent")
    assert any("the run gives no dpm" in note for note in absent.run["notes"])
    one, other = by_id(nothing.buildings), by_id(absent.buildings)
    assert one["p_destroyed"].notna().sum() > 100
    assert one["p_destroyed"].equals(other["p_destroyed"])
    assert set(one["evidence"].dropna()) == {"image"}
