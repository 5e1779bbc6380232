"""Which scenes of a catalogue serve a bundle, and the refusal where none does."""

from pathlib import Path

import numpy as np
import pytest

from quakestream.bundles import load_bundle
from quakestream.catalog import read_aoi
from quakestream.config import open_run
from quakestream.domain import BundleSpec
from quakestream.errors import ConfigError
from quakestream.pipeline.planning.imagery import FoundImagery, find_imagery
from quakestream.pipeline.tile import tile_run
from quakestream.testing import write_bundle
from quakestream.testing.worlds import write_scene
from tests.helpers.sentinel import (
    NORTH_M,
    WEST_M,
    make_item,
    run_file,
    write_reflectance_bundle,
)

FOURTEEN = (
    *("coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir"),
    *("nir09", "cirrus", "swir16", "swir22", "slope", "elevation"),
)
SIX = ("blue", "green", "red", "nir08", "swir16", "swir22")


def picture(folder: Path) -> Path:
    """An RGB scene of half a metre without a date in its item but in its name."""
    path = folder / "post_20230210.tif"
    counts = np.random.default_rng(0).integers(30, 200, (3, 300, 300)).astype(np.uint8)
    write_scene(path, counts, transform=_half_metre())
    return path


def _half_metre() -> object:
    from affine import Affine

    return Affine(0.5, 0, WEST_M + 300, 0, -0.5, NORTH_M - 300)


def imagery_of(run_path: Path, *bundles: Path) -> FoundImagery:
    run = open_run(str(run_path))
    specs: list[BundleSpec] = [load_bundle(str(b)).spec for b in bundles]
    return find_imagery(run, read_aoi(run.aoi, run.storage_options), specs)


def test_a_bundle_of_14_bands_over_rgb_scenes_is_one_clear_line(tmp_path: Path) -> None:
    bundle = write_reflectance_bundle(tmp_path / "b", FOURTEEN[:12], {"red": 1.0})
    path = run_file(tmp_path, picture(tmp_path), bundle)
    with pytest.raises(ConfigError) as raised:
        imagery_of(path, bundle)
    line = str(raised.value)
    assert "no post-event scene offers coastal, rededge071" in line
    assert "bundle weighted-bands takes" in line
    assert "got red, green, blue in 1 scene (post_20230210)" in line


def test_terrain_channels_without_an_elevation_model_are_refused(tmp_path: Path) -> None:
    bundle = write_reflectance_bundle(tmp_path / "b", FOURTEEN, {"red": 1.0})
    path = run_file(tmp_path, make_item(tmp_path).write(), bundle)
    with pytest.raises(ConfigError, match=r"terrain.dem: .*takes slope and elevation"):
        imagery_of(path, bundle)


def test_each_bundle_gets_the_scenes_of_one_catalogue_that_offer_its_bands(tmp_path: Path) -> None:
    pictures = write_bundle(tmp_path / "rgb", epochs=("post",))
    bands = write_reflectance_bundle(tmp_path / "b", SIX, {"red": 1.0})
    item = make_item(tmp_path)
    path = run_file(tmp_path, [item.write(), picture(tmp_path)], bands)
    found = imagery_of(path, pictures, bands)
    (counts, _), (values, _) = found.of_bands.values()
    assert [scene.id for scene in counts.scenes] == ["post_20230210"]
    assert [scene.id for scene in values.scenes] == [item.name]
    assert [layer.name for layer in values.scenes[0].layers] == list(SIX)
    assert values.scenes[0].gsd_m == 10.0
    assert found.issues == ()
    assert [n for n in found.notes if "whose bands they lack: 1 scene (post_20230210)" in n]


def test_a_substitute_and_a_missing_mask_are_said(tmp_path: Path) -> None:
    bundle = write_reflectance_bundle(
        tmp_path / "b", ("red", "nir08"), {"red": 1.0}, substitutes={"nir08": ("nir",)}
    )
    item = make_item(tmp_path, bands=("B04", "B08"))
    found = imagery_of(run_file(tmp_path, item.write(), bundle), bundle)
    ((post, _),) = found.of_bands.values()
    notes = post.scenes[0].notes
    assert "nir stands for nir08" in notes
    assert any("no cloud mask" in note for note in notes)


def test_counts_that_nothing_explains_are_an_issue_of_their_scene(tmp_path: Path) -> None:
    bundle = write_reflectance_bundle(tmp_path / "b", ("red", "nir"), {"red": 1.0})
    item = make_item(
        tmp_path, bands=("B04", "B08"), name="unknown", platform="x", constellation="x"
    )
    found = imagery_of(run_file(tmp_path, item.write(), bundle), bundle)
    ((post, _),) = found.of_bands.values()
    assert post.scenes == []
    assert "nothing says what the counts of band red mean" in found.issues[0].cause


def test_a_tile_store_holds_no_scenes_of_reflectance(tmp_path: Path) -> None:
    bundle = write_reflectance_bundle(tmp_path / "b", ("red", "nir"), {"red": 1.0})
    path = run_file(tmp_path, make_item(tmp_path, bands=("B04", "B08")).write(), bundle)
    report = tile_run(open_run(str(path)), str(tmp_path / "tiles.zarr"))
    (scene,) = report.scenes
    assert scene.status == "refused"
    assert "tile stores hold red, green and blue" in scene.reason
