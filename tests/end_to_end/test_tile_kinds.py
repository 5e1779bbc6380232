"""Tiles of every kind of file give the map of the whole scene."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine
from rasterio.warp import calculate_default_transform, reproject

from quakestream.testing import make_world
from tests.helpers.cutting import cut, in_tiles, name_tiles
from tests.helpers.mapping import by_id, map_file

SIDE_PX = 300
CUT_PX = 157


def rewritten(path: Path, change: Callable[[Any, dict[str, Any]], np.ndarray]) -> None:
    """Writes a scene anew from what `change` makes of its dataset and profile."""
    with rasterio.open(path) as dataset:
        profile = dict(dataset.profile)
        counts = change(dataset, profile)
    profile |= {"height": counts.shape[1], "width": counts.shape[2], "dtype": counts.dtype}
    path.unlink()
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(counts)


def with_nodata(dataset: Any, profile: dict[str, Any]) -> np.ndarray:
    counts = dataset.read()
    counts[:, 60:100, 140:180] = 7
    profile["nodata"] = 7
    return counts


def sixteen_bits(dataset: Any, profile: dict[str, Any]) -> np.ndarray:
    return dataset.read().astype(np.uint16) * 9 + 300


def finer(dataset: Any, profile: dict[str, Any]) -> np.ndarray:
    side = round(SIDE_PX * 0.5 / 0.3)
    profile["transform"] = dataset.transform @ Affine.scale(SIDE_PX / side)
    return dataset.read(out_shape=(3, side, side))


def other_zone(dataset: Any, profile: dict[str, Any]) -> np.ndarray:
    transform, width, height = calculate_default_transform(
        dataset.crs, "EPSG:32636", dataset.width, dataset.height, *dataset.bounds
    )
    counts = np.zeros((3, height, width), np.uint8)
    source = rasterio.band(dataset, [1, 2, 3])
    reproject(source, counts, dst_transform=transform, dst_crs="EPSG:32636")
    profile |= {"crs": "EPSG:32636", "transform": transform}
    return counts


EXACT = {"with nodata": with_nodata, "16 bits": sixteen_bits}
NEARLY = {"finer": finer, "other zone": other_zone}
"""Kinds whose means over parts of pixels are rounded by GDAL, one way or the other in a tie."""


def mapped_both(
    folder: Path, change: Callable[[Any, dict[str, Any]], np.ndarray]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    maps = []
    for name in ("whole", "tiles"):
        world = make_world(
            folder / name, seed=3, side_px=SIDE_PX, buildings=40, execution={"cell_windows": 2}
        )
        for path in (world.post, world.pre):
            rewritten(path, change)
        if name == "tiles":
            in_tiles(world, CUT_PX)
        maps.append(by_id(map_file(world.run_file).buildings))
    return maps[0], maps[1]


@pytest.mark.parametrize("kind", EXACT)
def test_tiles_give_the_same_bits_as_the_scene(tmp_path: Path, kind: str) -> None:
    whole, tiles = mapped_both(tmp_path, EXACT[kind])
    assert (whole["status"] == "assessed").sum() > 20
    columns = [c for c in whole.columns if c not in ("scene_post", "scene_pre", "run_id")]
    pd.testing.assert_frame_equal(tiles[columns], whole[columns], check_exact=True)
    assert tiles["scene_post"].str.contains(";", na=False).any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEARLY)
def test_tiles_that_are_resampled_give_the_same_verdicts(tmp_path: Path, kind: str) -> None:
    whole, tiles = mapped_both(tmp_path, NEARLY[kind])
    for column in ("status", "reason", "damage_label", "valid_fraction", "shift_m"):
        assert tiles[column].astype(str).tolist() == whole[column].astype(str).tolist()
    for column in ("p_destroyed", "shift_quality"):
        assert (tiles[column] - whole[column]).abs().max() < 2e-3
    difference = tiles["pre_post_difference"] - whole["pre_post_difference"]
    assert difference.abs().max() == 0  # pixels are resampled across seams


@pytest.mark.slow
def test_tiles_of_two_zones_are_one_acquisition(tmp_path: Path) -> None:
    """The east comes in the next zone: resampled, and nearly the same."""
    world = make_world(tmp_path / "whole", seed=3, side_px=SIDE_PX, buildings=40)
    whole = by_id(map_file(world.run_file).buildings)
    world = make_world(tmp_path / "tiles", seed=3, side_px=SIDE_PX, buildings=40)
    tiles = cut(world.post, [(0, 0, SIDE_PX, 160), (0, 140, SIDE_PX, SIDE_PX)])
    rewritten(tiles[1], other_zone)
    for tile in tiles:
        with rasterio.open(tile, "r+") as dataset:
            dataset.update_tags(TIFFTAG_DATETIME="2023:02:10 08:30:00")
    name_tiles(world.run_file, world.post, tiles)
    result = map_file(world.run_file)
    found = by_id(result.buildings)
    assert result.run["counts"]["acquisitions"] == 2
    assert result.run["counts"]["views"] == 1
    assert (found["status"] == whole["status"]).all()
    assert found["scene_post"].str.contains(";", na=False).any()
    assert (found["valid_fraction"] - whole["valid_fraction"]).abs().max() < 0.05
    apart = (found["pre_post_difference"] - whole["pre_post_difference"]).abs()
    assert apart[found["scene_post"] == tiles[0].stem].max() < 2
