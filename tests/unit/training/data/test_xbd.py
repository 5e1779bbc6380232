"""xBD folders: georeference out of labels, grades, and tiles that cannot be used."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from quakestream.errors import RequestError, SceneError
from tests.helpers.xbd_case import EPSG, NORTH, PIXEL, WEST, write_tile
from training.data.labels import XBD
from training.data.pair_store import PairStoreOptions
from training.data.xbd import (
    find_tiles,
    georeference,
    read_label,
    xbd_labelled,
    xbd_pair,
    xbd_store,
)

CUTTING = PairStoreOptions(classes=XBD.labels, gsd_m=0.5, crop_px=24)


def test_a_folder_becomes_chips_with_four_grades(tmp_path: Path) -> None:
    write_tile(tmp_path / "xbd", "quake_00000001", seed=1)
    write_tile(tmp_path / "xbd", "quake_00000002", seed=2)
    store, issues = xbd_store(str(tmp_path / "store"), tmp_path / "xbd", CUTTING)
    assert not issues
    assert store.meta.classes == ("no-damage", "minor-damage", "major-damage", "destroyed")
    assert store.table["label"].tolist() == [0, 1, 2, 3, -1] * 2
    assert set(store.table["region"]) == {"quake"}
    assert set(store.table["scene"]) == {"quake_00000001", "quake_00000002"}
    chips = store.read([0, 8])
    assert chips.inside_NYX.mean(axis=(1, 2)) == pytest.approx([24 / 24, 24 * 18 / 576], abs=0.3)
    assert chips.pre_NBYX is not None
    assert (chips.pre_NBYX != chips.post_NBYX).mean() > 0.9


def test_the_labels_corners_say_where_a_png_lies(tmp_path: Path) -> None:
    write_tile(tmp_path, "quake_00000001")
    (tile,) = find_tiles(tmp_path).tiles
    epsg, transform = georeference(read_label(tile.label), tile.name)
    assert epsg == EPSG
    np.testing.assert_allclose(tuple(transform)[:6], (PIXEL, 0, WEST, 0, -PIXEL, NORTH), atol=1e-3)


def test_a_pair_of_two_states_leaves_out_what_is_neither(tmp_path: Path) -> None:
    write_tile(tmp_path, "quake_00000001")
    (tile,) = find_tiles(tmp_path).tiles
    pair = xbd_labelled(xbd_pair(tile))
    assert [b.destroyed for b in pair.buildings] == [False, True, True]
    assert pair.grid.gsd_m == 0.5
    assert all(pair.outline.contains(b.geometry) for b in pair.buildings)


def spoil_nothing(folder: Path) -> None:
    pass


def lose_the_pre_image(folder: Path) -> None:
    (folder / "images/quake_00000002_pre_disaster.png").unlink()


def cut_the_image(folder: Path) -> None:
    file = folder / "images/quake_00000002_post_disaster.png"
    file.write_bytes(file.read_bytes()[:200])


def spoil_the_label(folder: Path) -> None:
    (folder / "labels/quake_00000002_post_disaster.json").write_text("{}")


def move_a_corner(folder: Path) -> None:
    file = folder / "labels/quake_00000002_post_disaster.json"
    content = json.loads(file.read_text())
    content["features"]["xy"][0]["wkt"] = "POLYGON ((0 0, 90 0, 90 90, 0 90, 0 0))"
    file.write_text(json.dumps(content))


def take_the_buildings(folder: Path) -> None:
    write_tile(folder, "quake_00000002", ())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lose_the_pre_image, "no pre image"),
        (cut_the_image, "cannot be read"),
        (spoil_the_label, "not an xBD label file"),
        (move_a_corner, "corners do not fit a north-up georeference"),
        (take_the_buildings, "no building to locate it by"),
    ],
)
def test_a_tile_that_cannot_be_used_is_named_and_the_others_are_kept(
    tmp_path: Path, spoil: object, says: str
) -> None:
    folder = tmp_path / "xbd"
    write_tile(folder, "quake_00000001")
    write_tile(folder, "quake_00000002")
    assert callable(spoil)
    spoil(folder)
    store, issues = xbd_store(str(tmp_path / "store"), folder, CUTTING)
    assert set(store.table["scene"]) == {"quake_00000001"}
    (issue,) = issues
    assert issue.subject == "quake_00000002"
    assert says in issue.cause
    assert "\n" not in issue.cause


def test_a_folder_without_usable_tiles_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no \*_post_disaster.json in the folder"):
        find_tiles(tmp_path)
    write_tile(tmp_path / "xbd", "quake_00000002")
    lose_the_pre_image(tmp_path / "xbd")
    with pytest.raises(RequestError, match=r"no tile can be used, e\.g\. quake_0"):
        xbd_store(str(tmp_path / "store"), tmp_path / "xbd", CUTTING)
    write_tile(tmp_path / "xbd", "quake_00000002", ("no-damage", "wobbly"))
    with pytest.raises(RequestError, match=r"unknown classes: .*got 'wobbly'"):
        xbd_store(str(tmp_path / "store"), tmp_path / "xbd", CUTTING)


@pytest.mark.data
@pytest.mark.slow
def test_the_mexico_tile_as_png_and_as_geotiff(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "xbd-mexico-2017"
    (tile,) = find_tiles(folder).tiles
    assert tile.pre.suffix == ".png"
    label = read_label(tile.label)
    assert len(label.id_N) == 449
    epsg, transform = georeference(label, tile.name)
    with rasterio.open(folder / f"{tile.name}_post_disaster.tif") as source:
        assert epsg == source.crs.to_epsg()
        np.testing.assert_allclose(tuple(transform)[:6], tuple(source.transform)[:6], atol=1e-4)
    store, issues = xbd_store(str(tmp_path / "png"), folder, CUTTING)
    assert not issues
    assert store.table["label"].value_counts().to_dict() == {0: 447, 1: 2}
    tiffs = tmp_path / "tiffs"
    tiffs.mkdir()
    for file in (*folder.glob("*disaster.tif"), tile.label):
        shutil.copy(file, tiffs)
    other, _ = xbd_store(str(tmp_path / "tif"), tiffs, CUTTING)
    a, b = (s.read(range(449)).post_NBYX.astype(float) for s in (store, other))
    assert np.abs(a - b).mean() < 6  # the GeoTIFF is JPEG
    np.testing.assert_array_equal(store.table["x_m"], other.table["x_m"])


@pytest.mark.data
def test_the_joplin_labels_without_images(data_dir: Path) -> None:
    folder = data_dir / "joplin-2011/xbd_labels"
    found = find_tiles(folder)
    assert not found.tiles
    assert found.issues[0].cause.startswith("no pre and no post image")
    label = read_label(folder / "joplin-tornado_00000050_post_disaster.json")
    counts = {s: label.subtype_N.count(s) for s in set(label.subtype_N)}
    assert counts == {"destroyed": 11, "major-damage": 3, "un-classified": 1}
    epsg, transform = georeference(label, "joplin-tornado_00000050")
    assert epsg == 32615
    assert transform.a == pytest.approx(0.47, abs=0.02)
    before = read_label(folder / "joplin-tornado_00000050_pre_disaster.json")
    assert set(before.subtype_N) == {""}
    with pytest.raises(SceneError, match="do not match"):
        georeference(
            type(label)(
                id_N=label.id_N,
                lonlat_N=label.lonlat_N,
                pixel_N=label.pixel_N[:3],
                subtype_N=label.subtype_N,
            ),
            "spoilt",
        )
