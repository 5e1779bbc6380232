"""A lost block of a scene without overviews costs the buildings on it, and no others."""

from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile

from quakestream.testing import make_world
from quakestream.testing.worlds import EPSG, GSD_M, NORTH_M, WEST_M
from quakestream.tiling import project
from tests.helpers.mapping import by_id, map_file

SIDE_PX, BLOCK_PX, BLOCKS = 640, 128, 5
REACH_M = 96 * GSD_M
"""A window of the bundle: buildings on one that touches the block cannot be judged."""


def spoil_block(path: Path, row: int, col: int) -> None:
    with tifffile.TiffFile(path) as tiff:
        offsets, sizes = tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts
    data = bytearray(path.read_bytes())
    n = row * BLOCKS + col
    data[offsets[n] : offsets[n] + sizes[n]] = bytes(sizes[n])
    path.write_bytes(data)


@pytest.mark.parametrize(("epoch", "block"), [("post", (1, 3)), ("pre", (2, 2))])
def test_a_lost_block_costs_its_own_buildings(
    tmp_path: Path, epoch: str, block: tuple[int, int]
) -> None:
    world = make_world(tmp_path, seed=5, side_px=SIDE_PX, buildings=150)
    whole = by_id(map_file(world.run_file, tmp_path / "whole").buildings)
    spoil_block(getattr(world, epoch), *block)
    made = map_file(world.run_file, tmp_path / "hurt")
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
    (cause,) = {issue.cause for issue in made.issues if issue.kind == "block"}
    assert f"block {row},{col}): block is damaged: its deflate data cannot be decoded" in cause
