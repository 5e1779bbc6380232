"""Law 2 for tiles of one acquisition: a scene cut into tiles gives the map of the whole scene."""

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import rasterio

from quakestream.testing import make_world
from tests.helpers.cutting import Box, cut, name_tiles, squares
from tests.helpers.mapping import by_id, edit, map_file

SIDE_PX = 300
NAMES = ["scene_post", "scene_pre"]
POST, PRE = "post_20230210.tif", "pre_20220801.tif"

CUTS: dict[str, tuple[list[Box], list[Box]]] = {
    "squares": (squares(SIDE_PX, SIDE_PX, 150), []),
    "odd squares of both epochs": (
        squares(SIDE_PX, SIDE_PX, 77),
        squares(SIDE_PX, SIDE_PX, 131),
    ),
    "overlapping": (squares(SIDE_PX, SIDE_PX, 101, overlap=40), []),
    "unequal": ([(0, 0, 300, 53), (0, 53, 111, 300), (111, 53, 300, 300)], []),
    "offset by whole pixels": (
        [(0, 0, 160, 141), (0, 138, 163, 300), (160, 0, 300, 139), (157, 139, 300, 300)],
        [(0, 0, 300, 171), (0, 129, 300, 300)],
    ),
}


def _map(folder: Path, cuts: tuple[list[Box], list[Box]] | None) -> gpd.GeoDataFrame:
    world = make_world(folder, seed=3, side_px=SIDE_PX, buildings=40, execution={"cell_windows": 2})
    edit(world.run_file, lambda content: content.update(outputs=["scores"]))
    for path, boxes in zip((world.post, world.pre), cuts or ([], []), strict=True):
        if boxes:
            name_tiles(world.run_file, path, cut(path, boxes))
    return map_file(world.run_file).buildings


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest):
    folder = tmp_path_factory.mktemp("whole")
    return folder, by_id(_map(folder, None))


@pytest.mark.parametrize("name", CUTS)
def test_a_scene_cut_into_tiles_gives_its_map(name: str, whole, tmp_path: Path) -> None:
    folder, expected = whole
    found = by_id(_map(tmp_path, CUTS[name]))
    assert (expected["status"] == "assessed").sum() > 20
    columns = [c for c in found.columns if c not in (*NAMES, "run_id")]
    pd.testing.assert_frame_equal(found[columns], expected[columns], check_exact=True)
    several = found["scene_post"].str.contains(";", na=False)
    assert several.any(), "no building lies on a seam"
    rasters = sorted((folder / "out" / "scores").iterdir())
    assert rasters
    for path in rasters:
        with rasterio.open(path) as one, rasterio.open(tmp_path / "out/scores" / path.name) as two:
            assert (one.read() == two.read()).all()
