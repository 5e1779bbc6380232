"""A town across 180° gives the map of the same town elsewhere, however its files are written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import yaml
from shapely.affinity import translate
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from quakestream.catalog import write_catalogue
from quakestream.testing.worlds import BORDER_M, make_world
from quakestream.tiling.antimeridian import cut_one_at_180
from tests.helpers.mapping import map_file

SIDE_PX = 300
WEST_M = 1_000_000 - BORDER_M - SIDE_PX * 0.25
"""The east edge of a UTM zone runs through the middle: 42° in zone 37, 180° in zone 60."""
TURN_DEG = 180.0 - 42.0
Write = Callable[[BaseGeometry], BaseGeometry]


def beyond(geometry: BaseGeometry) -> BaseGeometry:
    """Longitudes go on: 180.001."""
    return translate(geometry, TURN_DEG)


def naive(geometry: BaseGeometry) -> BaseGeometry:
    """Longitudes jump within a ring, from 179.999 to -179.999."""

    def wrapped(xy_N2: Any) -> Any:
        return np.where(xy_N2 > 180, xy_N2 - 360, xy_N2)

    moved: BaseGeometry = shapely.transform(beyond(geometry), wrapped)
    return moved


def cut(geometry: BaseGeometry) -> BaseGeometry:
    """Two parts (RFC 7946)."""
    return cut_one_at_180(beyond(geometry))


def move(folder: Path, write: Write, epsg: int, catalogue: bool) -> Path:
    """Moves a small world of zone 37 by a number of zones; returns its run file."""
    world = make_world(folder, seed=3, side_px=SIDE_PX, buildings=60, west_m=WEST_M)
    for path in (world.pre, world.post):
        with rasterio.open(path, "r+") as dataset:
            dataset.crs = rasterio.CRS.from_epsg(epsg)
    content = json.loads(world.footprints.read_text())
    for feature in content["features"]:
        feature["geometry"] = mapping(write(shape(feature["geometry"])))
    world.footprints.write_text(json.dumps(content))
    run = yaml.safe_load(world.run_file.read_text())
    run["aoi"] = write(shapely.from_wkt(run["aoi"])).wkt
    if catalogue:
        written = write_catalogue([str(world.pre), str(world.post)], str(folder / "cat"))
        run["imagery"]["catalog"] = written.path
        run["imagery"]["asset"] = "visual"
    world.run_file.write_text(yaml.safe_dump(run))
    return world.run_file


def rows_of(run_file: Path) -> gpd.GeoDataFrame:
    result = map_file(run_file)
    return result.buildings.sort_values("building_id").reset_index(drop=True)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> gpd.GeoDataFrame:
    """The verdicts of the town at 42°E, where nothing is special."""
    return rows_of(move(tmp_path_factory.mktemp("at42"), lambda g: g, 32637, False))


@pytest.mark.parametrize("write", [beyond, naive, cut])
def test_a_town_across_180_is_mapped_as_anywhere(
    write: Write, elsewhere: gpd.GeoDataFrame, tmp_path: Path
) -> None:
    rows = rows_of(move(tmp_path, write, 32660, catalogue=write is cut))
    assert (rows["status"] == "assessed").sum() > 30
    for name in ("building_id", "status", "reason", "damage", "valid_fraction"):
        assert rows[name].tolist() == elsewhere[name].tolist() or rows[name].equals(elsewhere[name])
    # places: on the right side, and as large as they were
    assert (np.abs(shapely.get_coordinates(rows.geometry.values)[:, 0]) <= 180).all()
    moved = np.array([cut_one_at_180(translate(g, TURN_DEG)) for g in elsewhere.geometry], object)
    apart = shapely.area(shapely.symmetric_difference(rows.geometry.values, moved))
    assert apart.max() < 1e-12


def test_its_catalogue_says_that_it_crosses(tmp_path: Path) -> None:
    run_file = move(tmp_path, cut, 32660, catalogue=True)
    item = json.loads(next((run_file.parent / "cat").glob("post*/post*.json")).read_text())
    west, south, east, north = item["bbox"]
    assert west > 179.99
    assert east < -179.99
    assert south < north
    assert item["geometry"]["type"] == "MultiPolygon"
    outline = shape(item["geometry"])
    assert outline.is_valid
    assert outline.area == pytest.approx((180 - west + east + 180) * (north - south), rel=0.1)
