"""Files in other orders of bands, told by run file or item, give the map of the plain files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio

from quakestream.testing import make_world
from quakestream.testing.worlds import World, write_scene
from tests.helpers.mapping import by_id, edit, map_file

FILL = 7
TIMES = {"pre": "2022-08-01T08:00:00Z", "post": "2023-02-10T08:00:00Z"}
OTHER = ("scene_post", "scene_pre", "run_id", "shift_quality")


def small(folder: Path) -> World:
    return make_world(folder, seed=3, side_px=300, buildings=40, execution={"cell_windows": 2})


def counts_of(path: Path) -> Any:
    with rasterio.open(path) as dataset:
        return dataset.read()


def catalogue(world: World, hrefs: dict[str, Path], **asset: Any) -> None:
    """An item for each epoch in place of the world's bare images."""
    features = [
        {
            "type": "Feature",
            "stac_version": "1.1.0",
            "id": epoch,
            "geometry": None,
            "bbox": [0, 0, 90, 80],
            "properties": {"datetime": TIMES[epoch]},
            "assets": {"visual": {"href": str(href), **asset}},
        }
        for epoch, href in hrefs.items()
    ]
    path = world.folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    edit(world.run_file, lambda content: content["imagery"].update(catalog=str(path)))


def assert_same_map(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert (expected["status"] == "assessed").sum() > 20
    columns = [c for c in expected.columns if c not in OTHER]
    pd.testing.assert_frame_equal(found[columns], expected[columns], check_exact=True)


def test_one_file_is_read_in_two_orders_of_bands(tmp_path: Path) -> None:
    """Each epoch has pixels and statistics of its own, though both are one version of one file."""
    maps = []
    for name in ("apart", "one"):
        world = small(tmp_path / name)
        counts_BYX = counts_of(world.post)
        counts_BYX[0] //= 2  # red unlike blue
        world.post.unlink()
        write_scene(world.post, counts_BYX)
        world.pre.unlink()
        write_scene(world.pre, counts_BYX[::-1])
        same = {"pre": world.post, "post": world.post}
        catalogue(world, same if name == "one" else {"pre": world.pre, "post": world.post})
        if name == "one":
            edit(world.run_file, lambda run: run["imagery"]["pre"].update(bands=[3, 2, 1]))
        maps.append(by_id(map_file(world.run_file).buildings))
    assert maps[0]["pre_post_difference"].max() > 20
    assert_same_map(maps[1], maps[0])
    assert maps[1]["shift_quality"].equals(maps[0]["shift_quality"])


def test_order_and_nodata_of_the_item_give_the_map_of_plain_files(tmp_path: Path) -> None:
    maps = []
    for name in ("plain", "item"):
        world = small(tmp_path / name)
        for path in (world.pre, world.post):
            rgb_BYX = counts_of(path)
            rgb_BYX[:, 60:100, 140:180] = FILL
            path.unlink()
            if name == "plain":
                write_scene(path, rgb_BYX, nodata=FILL)
            else:
                nir_BYX = rgb_BYX[:1] // 2 + 60
                write_scene(path, np.concatenate([rgb_BYX[::-1], nir_BYX]))
        order = ("blue", "green", "red", "nir")
        bands = [{"eo:common_name": word, "nodata": FILL} for word in order]
        stated = {"bands": bands} if name == "item" else {}
        catalogue(world, {"pre": world.pre, "post": world.post}, **stated)
        maps.append(by_id(map_file(world.run_file).buildings))
    assert (maps[0]["valid_fraction"] < 1).any()
    assert_same_map(maps[1], maps[0])
    # GDAL averages counts of the item's nodata into the pixel beside them, where shifts are found
    assert (maps[1]["shift_quality"] - maps[0]["shift_quality"]).abs().max() < 0.01
