"""Items as Vantor's open data has them: sizes under other names, roles that mislead."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from quakestream.domain import Scene
from quakestream.pipeline.planning.scenes import probe_scenes
from quakestream.storage import StorageOptions
from quakestream.testing.worlds import make_world
from tests.unit.catalog.test_search import item, searched

VANTOR = {
    "phase": "post-event",
    "published": "2023-02-09T11:22:33",
    "pan_gsd": 0.34,
    "multispectral_gsd": 1.36,
    "vehicle_name": "WV03",
}


def vantor_item(name: str, *, when: str | None = "2023-02-07T08:00:00Z", **properties: Any) -> Any:
    made = item(name, when)
    for field in ("proj:epsg", "proj:transform", "proj:shape"):
        del made["properties"][field]
    made["properties"] |= {**VANTOR, **properties}
    return made


def found(tmp_path: Path, made: Any) -> Scene:
    (scene,) = searched(tmp_path, [made]).post
    return scene


@pytest.mark.parametrize(
    ("properties", "asset", "gsd_m"),
    [
        ({}, {}, 0.34),
        ({"gsd": 0.5}, {}, 0.5),
        ({"gsd": 0}, {}, 0.34),
        ({}, {"gsd": 0.3}, 0.3),
        ({}, {"pan_gsd": "0.31"}, 0.31),
        ({"pan_gsd": None}, {}, None),
        ({"pan_gsd": -1}, {}, None),
        ({"proj:epsg": 32637, "proj:transform": [0.4, 0, 3e5, 0, -0.4, 4e6]}, {}, 0.4),
    ],
)
def test_the_size_of_a_pixel(
    properties: Any, asset: Any, gsd_m: float | None, tmp_path: Path
) -> None:
    made = vantor_item("strip", **properties)
    made["assets"]["visual"] |= asset
    assert found(tmp_path, made).gsd_m == (None if gsd_m is None else pytest.approx(gsd_m))


def test_the_time_of_publishing_is_not_that_of_the_image(tmp_path: Path) -> None:
    """It has no zone, and an item with nothing else has no time."""
    scene = found(tmp_path, vantor_item("strip"))
    assert scene.datetime == dt.datetime(2023, 2, 7, 8, tzinfo=dt.UTC)
    assert scene.span_s == 0
    without = searched(tmp_path, [vantor_item("strip", when=None)])
    assert not without.post
    assert ["no time" in issue.cause for issue in without.issues] == [True]


def test_the_epoch_comes_from_the_time_and_not_from_the_phase(tmp_path: Path) -> None:
    early = vantor_item("strip", when="2022-08-01T08:00:00Z")
    result = searched(tmp_path, [early])
    assert ([s.id for s in result.pre], result.post) == (["strip"], [])


@pytest.mark.parametrize("media", ["image/jpg", "image/jpeg", "image/tiff; application=geotiff"])
def test_a_visual_that_is_called_a_thumbnail_is_read_as_what_it_holds(
    media: str, tmp_path: Path
) -> None:
    world = make_world(tmp_path)
    made = vantor_item("strip")
    made["assets"]["visual"] = {"href": str(world.post), "type": media, "roles": ["thumbnail"]}
    probed = probe_scenes([found(tmp_path, made)], StorageOptions())
    assert [(scene.id, scene.gsd_m) for scene in probed.scenes] == [("strip", 0.5)]
