"""A lost block of a scene or tile without overviews costs the buildings on it, and no others."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely

from quakestream.pipeline.run import Result
from quakestream.testing import make_world
from quakestream.testing.worlds import EPSG, GSD_M, NORTH_M, WEST_M
from quakestream.tiling import project
from tests.helpers.cutting import cut, name_tiles
from tests.helpers.mapping import by_id, map_file
from tests.helpers.scenes import spoil_block

SIDE_PX, BLOCK_PX = 640, 128
REACH_M = 96 * GSD_M
"""A window of the bundle: buildings on one that touches the block cannot be judged."""


@pytest.mark.parametrize(("epoch", "block"), [("post", (1, 3)), ("pre", (2, 2))])
def test_a_lost_block_costs_its_own_buildings(
    tmp_path: Path, epoch: str, block: tuple[int, int]
) -> None:
    world = make_world(tmp_path, seed=5, side_px=SIDE_PX, buildings=150)
    whole = by_id(map_file(world.run_file, tmp_path / "whole").buildings)
    spoil_block(getattr(world, epoch), *block)
    made = map_file(world.run_file, tmp_path / "hurt")
    (cause,) = only_its_own_are_lost(made, whole, block)
    assert f"block {block[0]},{block[1]}): block is damaged: its deflate data cannot" in cause


def test_a_lost_block_of_a_tile_costs_no_more_than_one_of_a_scene(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=5, side_px=SIDE_PX, buildings=150)
    whole = by_id(map_file(world.run_file, tmp_path / "whole").buildings)
    half = 3 * BLOCK_PX  # tiles begin with a block, so that blocks lie as in the whole scene
    edges = ((0, half), (half, SIDE_PX))
    tiles = cut(world.post, [(t, x, b, y) for t, b in edges for x, y in edges])
    name_tiles(world.run_file, world.post, tiles)
    spoil_block(tiles[1], 1, 0)
    made = map_file(world.run_file, tmp_path / "hurt")
    (cause,) = only_its_own_are_lost(made, whole, (1, 3))
    assert tiles[1].name in cause


def only_its_own_are_lost(made: Result, whole: pd.DataFrame, block: tuple[int, int]) -> set[str]:
    """Holds a map against that of the unspoilt scene; the causes that its quarantine gives."""
    hurt = by_id(made.buildings)
    row, col = block
    top, left = NORTH_M - row * BLOCK_PX * GSD_M, WEST_M + col * BLOCK_PX * GSD_M
    lost = shapely.box(left, top - BLOCK_PX * GSD_M, left + BLOCK_PX * GSD_M, top)
    rows = made.buildings.set_index("building_id").loc[hurt.index]
    outline_N = project(np.asarray(rows.geometry.values, object), EPSG)
    away_m_N = shapely.distance(outline_N, lost)
    inside_N = shapely.within(outline_N, lost)
    known_N = (whole["status"] == "assessed").to_numpy()
    assert inside_N.sum() >= 2
    assert (hurt["reason"][inside_N] == "read_error").all()
    far_N = known_N & (away_m_N > REACH_M)
    assert far_N.sum() >= 40
    assert (hurt["status"][far_N] == "assessed").all()
    assert (hurt["damage"][far_N] == whole["damage"][far_N]).all()
    return {issue.cause for issue in made.issues if issue.kind == "block"}
