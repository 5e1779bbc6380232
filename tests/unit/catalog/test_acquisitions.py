"""Which scenes are tiles of one acquisition."""

import datetime as dt
import os
from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
from affine import Affine
from shapely.geometry import box

from quakestream.catalog import acquisitions, scene_extent
from quakestream.catalog.acquisitions import acquisition_fields
from quakestream.catalog.documents import collect, read_root
from quakestream.catalog.items import RawItem, item_outline, parse_item
from quakestream.domain import Scene, Stretch, sheets_of
from quakestream.storage import StorageOptions
from quakestream.tiling import unproject

MAXAR = Path(os.environ.get("QUAKESTREAM_DATA", "../shared/data")) / "maxar-opendata-stac"
NOON = dt.datetime(2023, 2, 7, 12, tzinfo=dt.UTC)
DAY_S = 86_399.999999
STRETCH = Stretch(low_B=(1, 2, 3), span=100)


@cache
def _wkt(epsg: int) -> str:
    return str(pyproj.CRS.from_epsg(epsg).to_wkt())


def scene(name: str, row: float = 0, col: float = 0, **changes: Any) -> Scene:
    """A tile of 50 m at 0.5 m on a lattice of tiles."""
    west, north = 300_000 + 50 * col, 4_100_000 - 50 * row
    ground = np.array([box(west, north - 50, west + 50, north)], object)
    tile = Scene(
        id=name,
        href=f"{name}.tif",
        datetime=NOON,
        outline=unproject(ground, 32637)[0],
        crs_wkt=_wkt(32637),
        transform=Affine(0.5, 0, west, 0, -0.5, north),
        shape=(100, 100),
        gsd_m=0.5,
        etag=f"etag of {name}",
        platform="wv03",
    )
    return replace(tile, **changes)


def later(seconds: float) -> dt.datetime:
    return NOON + dt.timedelta(seconds=seconds)


TOGETHER: dict[str, list[Scene]] = {
    "side by side": [scene("a"), scene("b", 0, 1)],
    "corner to corner": [scene("a"), scene("b", 1, 1)],
    "overlapping": [scene("a"), scene("b", 0, 0.4)],
    "one scene twice": [scene("a"), scene("b")],
    "a crack of a pixel": [scene("a"), scene("b", 0, 1.006)],
    "times of tiles": [scene("a"), scene("b", 0, 1, datetime=later(2.0))],
    "a chain in time": [scene(f"t{n}", 0, n, datetime=later(4.0 * n)) for n in range(5)],
    "vendor's id, apart in place and time": [
        scene("a", acquisition="10300100E1"),
        scene("b", 40, 0, acquisition="10300100E1", datetime=later(14)),
    ],
    "vendor's id in two zones": [
        scene("a", acquisition="x"),
        scene("b", acquisition="x", crs_wkt=_wkt(32636)),
    ],
    "oblique strip": [scene("a"), scene("b", 0, 1, gsd_m=0.55)],
    "a day, side by side": [scene("a", span_s=DAY_S), scene("b", 0, 1, span_s=DAY_S)],
    "a day, small overlap": [scene("a", span_s=DAY_S), scene("b", 0, 0.7, span_s=DAY_S)],
    "16 bits": [scene("a", stretch=STRETCH), scene("b", 0, 1, stretch=STRETCH)],
}
APART: dict[str, list[Scene]] = {
    "apart in place": [scene("a"), scene("b", 0, 1.2)],
    "another platform": [scene("a"), scene("b", 0, 1, platform="ge01")],
    "platform of one unknown": [scene("a"), scene("b", 0, 1, platform="")],
    "minutes apart": [scene("a"), scene("b", 0, 0.5, datetime=later(150))],
    "other ids of the vendor": [
        scene("a", acquisition="10300100E1"),
        scene("b", 0, 1, acquisition="10300100E2"),
    ],
    "id of one unknown": [scene("a", acquisition="x"), scene("b", 0, 1)],
    "two images of one day": [scene("a", span_s=DAY_S), scene("b", 0, 0.1, span_s=DAY_S)],
    "a day, another lattice": [scene("a", span_s=DAY_S), scene("b", 0, 0.995, span_s=DAY_S)],
    "an instant and its day": [scene("a"), scene("b", 0, 1, span_s=DAY_S)],
    "twice the pixel": [scene("a"), scene("b", 0, 1, gsd_m=1.0)],
    "8 and 16 bits": [scene("a"), scene("b", 0, 1, stretch=STRETCH)],
}


@pytest.mark.parametrize("name", TOGETHER)
def test_tiles_of_one_acquisition_are_one_scene(name: str) -> None:
    tiles = TOGETHER[name]
    (joined,) = acquisitions(tiles)
    assert joined.tiles == tuple(sorted(tiles, key=lambda t: t.id))
    assert joined.id == f"{joined.tiles[0].id}+{len(tiles) - 1}"
    (again,) = acquisitions(reversed(tiles))
    assert again.version == joined.version


@pytest.mark.parametrize("name", APART)
def test_scenes_of_several_acquisitions_stay_apart(name: str) -> None:
    tiles = APART[name]
    assert set(acquisitions(tiles)) == set(tiles)


def test_the_extent_has_no_cracks_and_keeps_its_edges() -> None:
    quarters = [scene(f"{r}{c}", r, c) for r in range(2) for c in range(2)]
    (joined,) = acquisitions(quarters)
    whole = scene("whole", transform=quarters[0].transform, shape=(200, 200))
    whole = replace(
        whole, outline=scene_extent(whole).union(whole.outline).convex_hull.buffer(1e-3)
    )
    ground, expected = scene_extent(joined), scene_extent(whole)
    assert ground.geom_type == "Polygon"
    assert not ground.interiors
    assert ground.symmetric_difference(expected).area < 1e-4 * expected.area
    assert joined.shape == (200, 200)


def test_a_new_tile_or_a_new_version_of_one_is_a_new_version() -> None:
    tiles = [scene(f"t{n}", 0, n) for n in range(3)]
    one = acquisitions(tiles)[0].version
    assert acquisitions(tiles[:2])[0].version != one
    assert acquisitions([*tiles[:2], replace(tiles[2], etag="new")])[0].version != one


def test_cloud_and_angle_are_means_by_pixels() -> None:
    tiles = [
        scene("a", cloud_cover=10.0, off_nadir_deg=20.0),
        scene("b", 0, 1, cloud_cover=70.0, shape=(100, 50)),
        scene("c", 1, 0),
    ]
    (joined,) = acquisitions(tiles)
    assert joined.cloud_cover == pytest.approx(30.0)
    assert joined.off_nadir_deg == pytest.approx(20.0)


def test_two_zones_are_two_sheets() -> None:
    (joined,) = acquisitions(TOGETHER["vendor's id in two zones"])
    assert [sheet.id for sheet in sheets_of(joined)] == ["a", "b"]
    (one,) = acquisitions(TOGETHER["side by side"])
    assert sheets_of(one) == (one,)


def test_thousands_of_tiles_are_joined_without_comparing_all_pairs() -> None:
    """A drone's mosaic of 40 × 40 tiles: each tile has eight neighbours."""
    tiles = [scene(f"t{r:02d}{c:02d}", r, c) for r in range(40) for c in range(40)]
    (joined,) = acquisitions(tiles)
    assert len(joined.tiles) == 1600
    assert joined.shape == (4000, 4000)
    assert scene_extent(joined).geom_type == "Polygon"


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"platform": "WV03 ", "catalog_id": "104001"}, ("wv03", "104001")),
        ({"platform": None, "catalog_id": None}, ("", "")),
        ({"pl:strip_id": 5532}, ("", "5532")),
        ({"acquisitionIdentifier": "DS_PNEO3"}, ("", "DS_PNEO3")),
        ({"catalog_id": True, "strip_id": ["a"]}, ("", "")),
    ],
)
def test_ids_of_vendors(properties: dict[str, Any], expected: tuple[str, str]) -> None:
    assert acquisition_fields(properties) == expected


def _scenes(path: Path) -> list[tuple[RawItem, Scene]]:
    found = []
    documents = read_root(str(path), StorageOptions())
    for raw in collect(documents, str(path), StorageOptions()).items:
        outline, _ = item_outline(raw, "visual")
        if outline is not None and raw.document["assets"].get("visual"):
            found.append((raw, parse_item(raw, "visual", outline).scene))
    return found


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("stac_items_WildFires-LosAngeles-Jan-2025.ndjson", 32),
        ("Kahramanmaras-turkey-earthquake-23.geojson", 76),
    ],
)
def test_quadkeys_of_maxar_are_joined_by_catalog_id(name: str, number: int) -> None:
    path = MAXAR / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    known = _scenes(path)
    tiles_of: dict[str, set[str]] = defaultdict(set)
    for raw, tile in known:
        tiles_of[str(raw.properties["catalog_id"])].add(tile.id)
    assert len(tiles_of) == number
    joined = acquisitions([tile for _, tile in known])
    assert {frozenset(p.id for p in a.parts) for a in joined} == set(
        map(frozenset, tiles_of.values())
    )
