"""The tiles of an elevation model, out of catalogues, collections of an API and folders."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import shapely

from quakestream.bundles import load_bundle
from quakestream.config import RunFile, open_run
from quakestream.config.elevation import DemSource
from quakestream.errors import ConfigError
from quakestream.pipeline.planning.elevation import DemSearch, find_dem
from tests.unit.catalog.test_search import StacApi, api
from tests.unit.hazard.test_dem_files import SIDE, WINDOW, same, tile, tiles
from tests.unit.hazard.test_terrain import read

__all__ = ["api"]
AOI = shapely.box(36.70, 37.46, 36.72, 37.48)
"""Around the middle of the tiles, which are 2.4 km wide."""
FAR = shapely.box(10, 10, 11, 11)


def run_with(folder: Path, **terrain: Any) -> RunFile:
    content = {
        "event": {"id": "e", "time": "2023-02-06T01:17:34Z"},
        "aoi": "POLYGON((36.70 37.46, 36.72 37.46, 36.72 37.48, 36.70 37.48, 36.70 37.46))",
        "imagery": {"catalog": str(folder / "c.json"), "post": {"datetime": "2023-02-06/.."}},
        "models": {"damage": None, "landslide": "landslide-rgb"},
        "terrain": terrain,
        "out": str(folder / "out"),
    }
    return open_run(content)


def searched(folder: Path, aoi: shapely.Geometry = AOI, **terrain: Any) -> DemSearch:
    return find_dem(run_with(folder, **terrain), aoi, [load_bundle("landslide-rgb").spec])


def item(name: str, ground: shapely.Geometry = AOI, **assets: str) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": shapely.geometry.mapping(ground),
        "bbox": list(ground.bounds),
        "properties": {"datetime": "2021-04-22T00:00:00Z"},
        "links": [],
        "assets": {key: {"href": href} for key, href in (assets or {"dem": f"./{name}"}).items()},
    }


def places(search: DemSearch) -> tuple[str, ...]:
    assert search.run.terrain is not None
    return search.run.terrain.dem_places


def catalogue(folder: Path, items: list[dict[str, Any]]) -> Path:
    for one in items:
        (folder / f"{one['id']}.json").write_text(json.dumps(one))
    links = [{"rel": "item", "href": f"./{one['id']}.json"} for one in items]
    document = {"type": "Catalog", "stac_version": "1.0.0", "id": "dem", "links": links}
    (folder / "catalog.json").write_text(json.dumps(document))
    return folder / "catalog.json"


def test_items_of_a_catalogue_around_the_aoi_are_the_tiles(tmp_path: Path) -> None:
    whole = read(tile(tmp_path / "whole.tif", slice(0, SIDE), slice(0, SIDE)), WINDOW)
    folder = tmp_path / "dem"
    folder.mkdir()
    names = [Path(uri).name for uri in tiles(folder)]
    root = catalogue(folder, [item("far.tif", FAR), *(item(name) for name in names)])
    found = searched(tmp_path, dem=str(root))
    assert places(found) == tuple(str(folder / name) for name in sorted(names))
    assert "4 items of" in found.notes[0]
    assert not found.issues
    same(read(DemSource(places=places(found)).text, WINDOW), whole)
    # A folder with a catalogue in it means the catalogue; one without it, its tiles.
    assert places(searched(tmp_path, dem=str(folder))) == places(found)
    (folder / "catalog.json").unlink()
    shutil.copy(tmp_path / "whole.tif", folder / "z.tif")
    inside = searched(tmp_path, dem=str(folder))
    assert places(inside) == (*places(found), str(folder / "z.tif"))
    assert "5 of 5 tiles" in inside.notes[0]
    lost = searched(tmp_path, FAR, dem=str(folder))
    assert places(lost) == ()
    assert "none of 5 tiles" in lost.issues[0].cause
    for path in folder.glob("*.tif"):
        path.unlink()
    assert places(searched(tmp_path, dem=str(folder)))[0] == str(folder / "far.tif.json")


def test_a_collection_of_an_api_is_asked_for_the_ground_at_any_time(
    tmp_path: Path, api: tuple[str, type[StacApi]]
) -> None:
    root, handler = api
    handler.items = [item(f"t{n}", data=f"{root}/t{n}.tif") for n in range(4)]
    handler.items.append(item("t4", data="file:///etc/t4.tif"))
    found = searched(tmp_path, dem=f"{root}/collections/c")
    assert places(found) == tuple(f"{root}/t{n}.tif" for n in range(4))
    assert [issue.subject for issue in found.issues] == ["t4"]
    assert all(query["collections"] == ["c"] for query in handler.searches)
    assert all("datetime" not in query for query in handler.searches)
    west, south, _, north = handler.searches[0]["bbox"]
    assert west < 36.65
    assert (south, north) == pytest.approx((37.41, 37.53))
    assert (
        searched(tmp_path, dem=f"{root}/")
        .issues[0]
        .cause.startswith("names a STAC API and no collection of it")
    )


def test_rasters_and_items_stay_as_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "i.json").write_text(json.dumps(item("i")))
    for dem in ("dem.tif", ["a.tif", "b.tif"], "dem.zarr/elevation", str(tmp_path / "i.json")):
        run = run_with(tmp_path, dem=dem)
        assert find_dem(run, AOI, ()) == DemSearch(run=run)


def test_a_model_of_terrain_needs_what_others_do_without(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = run_with(tmp_path, dem=str(tmp_path / "empty"))
    (issue,) = find_dem(run, AOI, [load_bundle("landslide-rgb").spec]).issues
    assert issue.cause.startswith("folder holds no elevation tiles"), "its name is the subject"
    assert issue.cause.endswith("the map is made without elevations")
    spec = load_bundle("landslide-s2-synthetic").spec
    with pytest.raises(ConfigError, match="folder holds no elevation tiles"):
        find_dem(run, AOI, [spec])
    with pytest.raises(ConfigError, match="there is no such file"):
        find_dem(run_with(tmp_path, dem=str(tmp_path / "no.json")), AOI, [spec])
