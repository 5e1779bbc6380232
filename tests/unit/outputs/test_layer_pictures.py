"""Pictures of scenes of physical values: true colours, else the first bands, else grey."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quakestream.domain import LayerFile, Scene, SceneLayer
from quakestream.outputs.live import _scene_of
from quakestream.outputs.pictures import BRIGHT, open_pictures, picture_layers
from quakestream.pipeline.result.record import _scene
from quakestream.storage import StorageOptions
from tests.helpers.noise import scene_at
from tests.helpers.sentinel import write_raster

LEVELS = {"blue": (10, 1600), "green": (10, 2200), "red": (20, 2800), "nir": (60, 4600)}
"""Size of a pixel in metres, and count, of each band."""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    layers = []
    for name, (gsd_m, count) in LEVELS.items():
        counts_YX = np.full((2400 // gsd_m,) * 2, count, np.uint16)
        counts_YX[:, : 1200 // gsd_m] = 0 if name == "green" else count
        path = write_raster(tmp_path / f"{name}.tif", counts_YX[None], gsd_m, nodata=0)
        layers.append(
            SceneLayer(
                name=name,
                file=LayerFile(href=str(path)),
                scale=0.0001,
                offset=-0.1,
                nodata=(0.0,),
            )
        )
    return replace(scene_at(tmp_path / "blue.tif"), layers=tuple(layers))


def test_true_colours_are_shown_and_missing_ground_is_transparent(scene: Scene) -> None:
    with open_pictures(scene, StorageOptions()) as source:
        rgba_YXB = source.read(source.frame(100))
    shown = [(LEVELS[c][1] * 0.0001 - 0.1) / BRIGHT * 255 for c in ("red", "green", "blue")]
    middle = len(rgba_YXB) // 2
    assert rgba_YXB[middle, 80, :3] == pytest.approx(shown, abs=1.5)
    assert rgba_YXB[middle, 80, 3] == 255
    assert rgba_YXB[middle, 20, 3] == 0


def test_the_record_of_a_run_shows_the_same_picture(scene: Scene) -> None:
    again = _scene_of(json.loads(json.dumps(_scene(scene))))
    with (
        open_pictures(scene, StorageOptions()) as one,
        open_pictures(again, StorageOptions()) as other,
    ):
        assert np.array_equal(one.read(one.frame(64)), other.read(other.frame(64)))


def test_bands_without_true_colours_are_shown_as_they_come(scene: Scene) -> None:
    by_name = {layer.name: layer for layer in scene.layers}
    names = ("nir", "red", "green")
    some = [by_name[name] for name in names]
    assert [x.name for x in picture_layers(some)] == list(names)
    assert [x.name for x in picture_layers(some[:2])] == ["nir"] * 3
