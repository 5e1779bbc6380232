"""A tile store of an acquisition that comes in several tiles gives the map of the files."""

from pathlib import Path

import pandas as pd
import pytest

from quakestream.config import open_run
from quakestream.pipeline.planning.jobs import RunBundles
from quakestream.pipeline.planning.plan import Plan, plan_for
from quakestream.pipeline.tile import (
    TileReport,
    TileSettings,
    scenes_with_grids,
    tile_run,
)
from quakestream.raster.tiles import tile_source_factory
from quakestream.raster.tiles.source import TileSource
from quakestream.testing import World, make_world
from tests.end_to_end.test_tile_kinds import NEARLY, rewritten
from tests.helpers.cutting import in_tiles
from tests.helpers.mapping import by_id, edit, map_file

pytest.importorskip("zarr")

SIDE_PX = 300
CUT_PX = 157


def tiled_world(folder: Path) -> World:
    world = make_world(folder, seed=3, side_px=SIDE_PX, buildings=40, execution={"cell_windows": 1})
    in_tiles(world, CUT_PX)
    return world


def tile(world: World, **settings: bool) -> TileReport:
    store = str(world.run_file.parent / "tiles.zarr")
    report = tile_run(open_run(world.run_file), store, TileSettings(**settings))
    edit(world.run_file, lambda content: content["imagery"].update(store=store))
    return report


def _plan(world: World) -> Plan:
    run = open_run(world.run_file)
    return plan_for(run, RunBundles.of(run))


@pytest.mark.parametrize("virtual", [False, True], ids=["stored", "virtual"])
def test_a_store_of_tiles_gives_the_map_of_the_tiles(tmp_path: Path, virtual: bool) -> None:
    world = tiled_world(tmp_path)
    expected = map_file(world.run_file, tmp_path / "plain")
    report = tile(world, virtual=virtual)
    assert [s.status for s in report.scenes] == ["written"] * 5, report
    assert all(s.exact for s in report.scenes)
    made = map_file(world.run_file, tmp_path / "from-store")
    pd.testing.assert_frame_equal(
        by_id(made.buildings).drop(columns="run_id"),
        by_id(expected.buildings).drop(columns="run_id"),
    )
    store = open_run(world.run_file).imagery.store
    assert store is not None
    opens = tile_source_factory(store)
    for scene, grids in scenes_with_grids(_plan(world)):
        with opens(scene, grids[0]) as source:
            assert isinstance(source, TileSource), "read from its file"


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEARLY)
def test_tiles_off_the_grid_leave_no_crack(tmp_path: Path, kind: str) -> None:
    """Pixels are resampled where tiles are written, and seams are no gaps."""
    world = make_world(tmp_path, seed=3, side_px=SIDE_PX, buildings=40)
    for path in (world.post, world.pre):
        rewritten(path, NEARLY[kind])
    in_tiles(world, CUT_PX)
    expected = by_id(map_file(world.run_file, tmp_path / "plain").buildings)
    report = tile(world)
    assert {s.status for s in report.scenes} == {"written"}
    assert not any(s.exact for s in report.scenes)
    result = map_file(world.run_file, tmp_path / "from-store")
    found = by_id(result.buildings)
    assert result.issues == (), "a sliver of a tile may hold no pixel of the grid"
    assert (found["status"] == "assessed").sum() > 30
    for column in ("status", "reason", "damage_label"):
        assert found[column].astype(str).tolist() == expected[column].astype(str).tolist()
    assert (found["valid_fraction"] - expected["valid_fraction"]).abs().max() < 0.005
    assert (found["p_destroyed"] - expected["p_destroyed"]).abs().max() < 0.01
