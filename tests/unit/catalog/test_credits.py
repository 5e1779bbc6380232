"""Credit and licence of an image: from its asset, its item, or the collection it names."""

import json
from pathlib import Path

import pytest
from shapely.geometry import box

from quakestream.catalog.credits import credit_of
from quakestream.catalog.documents import collect
from quakestream.catalog.items import parse_item
from quakestream.domain import Scene
from quakestream.storage import StorageOptions

PROVIDERS = [
    {"name": "AWS", "roles": ["host"]},
    {"name": "Vantor", "roles": ["producer", "licensor"]},
]


@pytest.mark.parametrize(
    ("item", "asset", "expected"),
    [
        (
            {"properties": {"license": "CC-BY-NC-4.0", "providers": PROVIDERS}},
            {},
            ("Vantor", "CC-BY-NC-4.0"),
        ),
        ({"properties": {"providers": PROVIDERS[:1]}}, {}, ("AWS", "")),
        (
            {"properties": {"license": "CC-BY-4.0"}},
            {"attribution": "© Planet"},
            ("© Planet", "CC-BY-4.0"),
        ),
        (
            {
                "properties": {"license": "other"},
                "links": [{"rel": "license", "href": "https://a/terms"}],
            },
            {},
            ("", "https://a/terms"),
        ),
        (
            {"properties": {"license": 7, "providers": [{"roles": 1}, "x"]}, "links": 3},
            {},
            ("", ""),
        ),
        ({}, {}, ("", "")),
    ],
)
def test_what_an_item_says_of_its_rights(item: dict, asset: dict, expected: tuple[str, str]):
    assert credit_of(item, asset) == expected


def test_the_terms_of_a_collection_reach_its_items(tmp_path: Path):
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "s1",
        "collection": "event",
        "properties": {"datetime": "2023-02-07T08:00:00Z", "license": "CC0-1.0"},
        "assets": {"visual": {"href": "s1.tif"}},
    }
    bare = {**item, "id": "s2", "properties": {"datetime": "2023-02-07T08:00:00Z"}}
    for one in (item, bare):
        (tmp_path / f"{one['id']}.json").write_text(json.dumps(one))
    root = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": "event",
        "license": "CC-BY-NC-4.0",
        "providers": PROVIDERS,
        "links": [{"rel": "item", "href": f"{name}.json"} for name in ("s1", "s2")],
    }
    harvest = collect([root], str(tmp_path / "collection.json"), StorageOptions())
    scenes: dict[str, Scene] = {}
    for raw in harvest.items:
        scenes[raw.name] = parse_item(raw, "visual", box(0, 0, 1, 1)).scene
    assert {k: (s.credit, s.licence) for k, s in scenes.items()} == {
        "s1": ("Vantor", "CC0-1.0"),
        "s2": ("Vantor", "CC-BY-NC-4.0"),
    }
