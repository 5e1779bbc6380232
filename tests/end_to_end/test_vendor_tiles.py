"""Tiles of one acquisition are one view; one of them may be broken, missing or late."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
import tifffile

from quakestream.pipeline.run import Result
from quakestream.testing import World, make_world
from tests.helpers.cutting import Box, cut, name_tiles
from tests.helpers.mapping import by_id, edit, map_file

SIDE_PX = 300
QUARTERS: list[Box] = [
    (0, 0, 150, 150),
    (0, 150, 150, 300),
    (150, 0, 300, 150),
    (150, 150, 300, 300),
]


def small_world(folder: Path) -> World:
    return make_world(folder, seed=3, side_px=SIDE_PX, buildings=40, execution={"cell_windows": 1})


def tiled(folder: Path, boxes: list[Box] = QUARTERS) -> tuple[World, list[Path]]:
    world = small_world(folder)
    tiles = cut(world.post, boxes)
    name_tiles(world.run_file, world.post, tiles)
    return world, tiles


def blackened(folder: Path, box: Box) -> pd.DataFrame:
    """The map of the whole scene, black in a box."""
    world = small_world(folder)
    top, left, bottom, right = box
    with rasterio.open(world.post, "r+") as dataset:
        counts = dataset.read()
        counts[:, top:bottom, left:right] = 0
        dataset.write(counts)
    return by_id(map_file(world.run_file).buildings)


def rows_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    columns = [c for c in found.columns if c not in ("scene_post", "scene_pre", "run_id")]
    pd.testing.assert_frame_equal(found[columns], expected[columns], check_exact=True)


def quarantine(result: Result) -> list[dict[str, Any]]:
    return pq.read_table(Path(result.out) / "quarantine.parquet").to_pylist()


def spoil_pixels(path: Path) -> None:
    """The header stays, every block becomes noise."""
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        for page in tiff.pages:
            for at, size in zip(page.dataoffsets, page.databytecounts, strict=True):
                content[at : at + size] = b"\xab" * size
    path.write_bytes(content)


def test_a_missing_tile_is_nodata_there_and_nowhere_else(tmp_path: Path) -> None:
    expected = blackened(tmp_path / "whole", QUARTERS[1])
    world, tiles = tiled(tmp_path / "tiles")
    edit(world.run_file, lambda c: c["imagery"]["catalog"].remove(str(tiles[1])))
    found = by_id(map_file(world.run_file).buildings)
    there = expected["reason"] == "nodata"
    assert 3 < there.sum() < 20
    rows_equal(found[~there], expected[~there])
    assert set(found.loc[there, "reason"]) == {"no_imagery"}


@pytest.mark.parametrize("fault", [pytest.param("header", marks=pytest.mark.slow), "pixels"])
def test_a_broken_tile_is_named_and_the_others_go_on(tmp_path: Path, fault: str) -> None:
    expected = blackened(tmp_path / "whole", QUARTERS[1])
    world, tiles = tiled(tmp_path / "tiles")
    kept = tiles[1].read_bytes()
    if fault == "header":
        tiles[1].write_bytes(kept[:100])
    else:
        spoil_pixels(tiles[1])
    result = map_file(world.run_file)
    found = by_id(result.buildings)
    there = expected["reason"] == "nodata"
    rows_equal(found[~there], expected[~there])
    # of a bare image without a header, nobody knows what it would show
    assert set(found.loc[there, "reason"]) == {"no_imagery" if fault == "header" else "read_error"}
    # a bare image whose header is broken is named by its path, since it has no item
    names = {row["subject"].removesuffix(".tif").rpartition("/")[2] for row in quarantine(result)}
    assert names == {tiles[1].stem}
    tiles[1].write_bytes(kept)  # mended: the same command completes the map
    mended = by_id(map_file(world.run_file).buildings)
    rows_equal(mended, by_id(map_file(small_world(tmp_path / "fresh").run_file).buildings))


@pytest.mark.slow
def test_a_tile_that_comes_later_gives_the_map_of_all_at_once(tmp_path: Path) -> None:
    world, tiles = tiled(tmp_path / "tiles")
    edit(world.run_file, lambda c: c["imagery"]["catalog"].remove(str(tiles[1])))
    map_file(world.run_file)
    edit(world.run_file, lambda c: c["imagery"]["catalog"].append(str(tiles[1])))
    late = map_file(world.run_file)
    rows_equal(
        by_id(late.buildings), by_id(map_file(small_world(tmp_path / "w").run_file).buildings)
    )
    again = map_file(world.run_file)
    assert again.run["counts"]["cells_scored"] == 0
    assert again.run["snapshot"] == late.run["snapshot"]


@pytest.mark.slow
def test_a_late_tile_leaves_other_acquisitions_alone(tmp_path: Path) -> None:
    """West and east are two acquisitions; a tile of the east comes late."""
    boxes: list[Box] = [(0, 0, 300, 130), (0, 150, 150, 300), (150, 150, 300, 300)]
    world, tiles = tiled(tmp_path, boxes)
    edit(world.run_file, lambda c: c["imagery"]["catalog"].remove(str(tiles[2])))
    first = map_file(world.run_file)
    edit(world.run_file, lambda c: c["imagery"]["catalog"].append(str(tiles[2])))
    second = map_file(world.run_file)
    west = {
        row["cell_id"] for row in cells(first) if row["scenes"] == [tiles[0].stem, "pre_20220801"]
    }
    assert second.run["counts"]["cells_resumed"] >= len(west) > 1
    assert second.run["counts"]["cells_scored"] > 0
    rows = [by_id(r.buildings) for r in (first, second)]
    same = rows[0]["scene_post"] == tiles[0].stem
    assert same.sum() > 5
    rows_equal(rows[1][same], rows[0][same])


def cells(result: Result) -> list[dict[str, Any]]:
    return pq.read_table(Path(result.out) / "coverage.parquet").to_pylist()


def test_coverage_names_the_tiles_under_each_cell(tmp_path: Path) -> None:
    world, tiles = tiled(tmp_path)
    result = map_file(world.run_file)
    named = [set(row["scenes"]) for row in cells(result) if row["scenes"]]
    assert {len(some) for some in named} >= {2, 3}  # one tile, or two, and the pre scene
    assert set().union(*named) == {tile.stem for tile in tiles} | {"pre_20220801"}
    assert result.run["counts"]["scenes"] == 5
    assert result.run["counts"]["acquisitions"] == 2
    for row in result.buildings[result.buildings["scene_post"].notna()].itertuples():
        shares = []
        for name in row.scene_post.split(";"):
            shown = shapely.box(*rasterio_bounds(world.folder / f"{name}.tif"))
            shares.append(shown.intersection(row.geometry).area)
        assert min(shares) > 0
        assert shares[0] == pytest.approx(max(shares), rel=0.02)


def rasterio_bounds(path: Path) -> tuple[float, float, float, float]:
    with rasterio.open(path) as dataset:
        bounds: tuple[float, float, float, float] = rasterio.warp.transform_bounds(
            dataset.crs, 4326, *dataset.bounds
        )
    return bounds
