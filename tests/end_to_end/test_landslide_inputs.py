"""Inputs of landslides from strangers: each is one clear line, or a named reason in the map."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import yaml

from quakestream.testing.worlds import BORDER_M, EPSG, NORTH_M, WEST_M
from tests.end_to_end.test_landslides import slides, write_dem
from tests.end_to_end.test_prior_in_maps import prior_world
from tests.helpers.mapping import edit, map_file, mapped
from tests.helpers.sentinel import (
    make_item,
    run_file,
    write_raster,
    write_reflectance_bundle,
)
from tests.helpers.sliding import SIDE_PX, sliding_world
from tests.properties.test_antimeridian_laws import beyond, naive

pytestmark = pytest.mark.slow
RISE = np.tile(np.arange(90) * 5.0, (90, 1))
"""45° everywhere."""


def with_dem(run: Path, dem: Path, **more: Any) -> None:
    edit(run, lambda content: content.update(terrain={"dem": str(dem), **more}))


def test_a_dem_in_feet_is_named_until_its_unit_is_stated(tmp_path: Path) -> None:
    """A CRS in feet says nothing of heights; both are refused to be guessed."""
    world = sliding_world(tmp_path, damage=False)
    dem = write_dem(tmp_path / "dem.tif", RISE / 0.3048)
    with rasterio.open(dem, "r+") as dataset:  # UTM 37 in US survey feet
        dataset.crs = rasterio.CRS.from_proj4("+proj=utm +zone=37 +datum=WGS84 +units=us-ft")
        dataset.transform = dataset.transform.scale(3937 / 1200) @ dataset.transform
    with_dem(world.run_file, dem)
    run = mapped(tmp_path, "unnamed")
    (issue,) = run.issues
    assert "unit of elevations is not stated, and the CRS is not in metres" in issue.cause
    assert "terrain.unit" in issue.cause
    assert "every window is looked at" in issue.cause
    assert slides(tmp_path / "unnamed")["slope_deg"].isna().all()
    with_dem(world.run_file, dem, unit="ft")
    assert not mapped(tmp_path, "named").issues
    assert slides(tmp_path / "named")["slope_deg"].to_numpy() == pytest.approx(45.0, abs=0.26)


def test_voids_of_a_dem_are_looked_at_and_have_no_slope(tmp_path: Path) -> None:
    world = sliding_world(tmp_path, damage=False)
    whole = mapped(tmp_path, "whole")
    voids = RISE.copy()
    voids[:, 50:] = -9999.0
    with_dem(world.run_file, write_dem(tmp_path / "dem.tif", voids))
    run = mapped(tmp_path, "voids")
    found = slides(tmp_path / "voids")
    assert len(found) == whole.run["counts"]["landslides"]["slides"]
    assert found["slope_deg"].isna().any()
    assert found["slope_deg"].dropna().to_numpy() == pytest.approx(45.0, abs=0.26)
    assert [i.kind for i in run.issues] == ["terrain"]
    assert "have no slope and are looked at, too" in " ".join(run.run["notes"])


@pytest.mark.parametrize("write", [beyond, naive])
def test_slides_across_180_are_those_of_elsewhere(tmp_path: Path, write: Any) -> None:
    west_m = 1_000_000 - BORDER_M - SIDE_PX * 0.25  # the east edge of a zone in the middle
    found = []
    for name, epsg in (("at42", 32637), ("at180", 32660)):
        world = sliding_world(tmp_path / name, damage=False, west_m=west_m)
        with rasterio.open(world.post, "r+") as dataset:
            dataset.crs = rasterio.CRS.from_epsg(epsg)
        content = yaml.safe_load(world.run_file.read_text())
        if epsg == 32660:
            content["aoi"] = write(shapely.from_wkt(content["aoi"])).wkt
        content["imagery"]["catalog"] = [str(world.post)]
        world.run_file.write_text(yaml.safe_dump(content))
        map_file(world.run_file)
        found.append(slides(world.folder / "out").sort_values("area_m2", ignore_index=True))
    one, other = found
    assert len(one) == len(other) > 5
    assert other["area_m2"].to_numpy() == pytest.approx(one["area_m2"].to_numpy(), rel=1e-6)
    bounds = other.geometry.bounds
    crossing = other[(bounds.minx < -179) & (bounds.maxx > 179)]
    assert len(crossing) == ((one.bounds.minx < 42) & (one.bounds.maxx > 42)).sum() >= 1
    assert (crossing.geom_type == "MultiPolygon").all()


def test_unknown_classes_of_lithology_are_said_in_the_map(tmp_path: Path) -> None:
    run = prior_world(tmp_path, stated=True)
    place = yaml.safe_load(run.read_text())["terrain"]["lithology"]
    with rasterio.open(place, "r+") as dataset:
        rock_YX = dataset.read(1)
        _, south, _, north = dataset.bounds
        to_row = dataset.index(*_middle())[0]
        rock_YX[:to_row] = 99
        dataset.write(rock_YX, 1)
        assert south < _middle()[1] < north
    made = map_file(run, tmp_path / "out")
    causes = [issue.cause for issue in made.issues if issue.subject == place]
    assert any("unknown lithology in" in cause for cause in causes)
    found = slides(tmp_path / "out")
    assert found["p_prior"].isna().any()
    assert found["p_prior"].notna().any()
    assert set(found["evidence"]) == {"image", "image+prior"}


def _middle() -> tuple[float, float]:
    """Longitude and latitude of the middle of the small world."""
    side_m = SIDE_PX * 0.5
    point = gpd.GeoSeries.from_xy([WEST_M + side_m / 2], [NORTH_M - side_m / 2], crs=EPSG)
    there = point.to_crs(4326).iloc[0]
    return float(there.x), float(there.y)


def test_a_tile_without_scl_says_that_clouds_are_not_masked(tmp_path: Path) -> None:
    item = make_item(tmp_path)
    bundle = write_reflectance_bundle(
        tmp_path / "bundle", ("red", "nir08"), {"red": 60.0}, bias=-15.0, task="landslide"
    )
    models = {"damage": None, "landslide": str(bundle)}
    made = map_file(run_file(tmp_path, item.write(), bundle, models=models))
    notes = " ".join(made.run["notes"])
    assert "no cloud mask (SCL, Fmask, QA60) in the item: clouds and snow are not masked" in notes


def test_bands_in_another_order_are_read_by_their_names(tmp_path: Path) -> None:
    """One stack of four bands, which the item names in the order of the file."""
    names = ("nir08", "red", "green", "blue")
    maps = []
    for folder, order in ((tmp_path / "one", names), (tmp_path / "two", names[::-1])):
        folder.mkdir()
        item = make_item(folder, bands=("B02", "B03", "B04", "B8A"))
        content = json.loads(item.write().read_text())
        counts = {
            "blue": item.counts["B02"],
            "green": item.counts["B03"],
            "red": item.counts["B04"],
            "nir08": item.counts["B8A"].repeat(2, 0).repeat(2, 1),
        }
        stack_BYX = np.stack([counts[name] for name in order])
        write_raster(folder / "stack.tif", stack_BYX, 10, nodata=0)
        listed = [{"name": name, "common_name": name} for name in order]
        content["assets"] = {
            "stack": {"href": "stack.tif", "type": "image/tiff", "eo:bands": listed}
        }
        (folder / "item.json").write_text(json.dumps(content))
        weight = {"red": 60.0, "nir08": -20.0}
        bundle = write_reflectance_bundle(
            folder / "bundle", ("red", "nir08"), weight, bias=-8.0, task="landslide"
        )
        models = {"damage": None, "landslide": str(bundle)}
        path = run_file(folder, folder / "item.json", bundle, models=models)
        map_file(path)
        maps.append(slides(folder / "out"))
    one, other = maps
    assert len(one) > 5
    assert one[["landslide_id", "area_m2", "probability"]].equals(
        other[["landslide_id", "area_m2", "probability"]]
    )
