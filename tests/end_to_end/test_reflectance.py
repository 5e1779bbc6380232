"""A map from a tile like those of Sentinel-2: reflectance, clouds and snow by the SCL."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray

from quakestream.pipeline.run import Result
from quakestream.testing.worlds import write_bundle, write_scene
from tests.helpers.mapping import map_file
from tests.helpers.sentinel import (
    NORTH_M,
    WEST_M,
    SentinelItem,
    make_item,
    run_file,
    write_raster,
    write_reflectance_bundle,
)

BANDS = ("coastal", "red", "nir08")
WEIGHT, BIAS = {"red": 40.0, "nir08": -25.0, "coastal": 5.0}, 2.0


def mapped(folder: Path, item: SentinelItem, **more: Any) -> Result:
    bundle = write_reflectance_bundle(folder / "bundle", BANDS, WEIGHT, bias=BIAS)
    return map_file(run_file(folder, item.write(), bundle, **more))


def rows_of(folder: Path) -> gpd.GeoDataFrame:
    return (
        gpd.read_parquet(folder / "out" / "buildings.parquet").set_index("building_id").sort_index()
    )


def expected_p(item: SentinelItem, offset: float) -> NDArray[np.float64]:
    """Mean probability over each square, by numpy alone. Only bands of 10 m are exact."""
    red_YX = item.counts["B04"] * 0.0001 + offset
    nir_YX = (item.counts["B8A"] * 0.0001 + offset).repeat(2, 0).repeat(2, 1)
    blue_YX = (item.counts["B01"] * 0.0001 + offset).repeat(6, 0).repeat(6, 1)
    z_YX = WEIGHT["red"] * red_YX + WEIGHT["nir08"] * nir_YX + WEIGHT["coastal"] * blue_YX + BIAS
    p_YX = 1 / (1 + np.exp(-z_YX))
    return np.array(
        [
            p_YX[y // 10 : y // 10 + 12, x // 10 : x // 10 + 12].mean()
            for y in range(60, 2400, 240)
            for x in range(60, 2400, 240)
        ]
    )


@pytest.mark.parametrize(("baseline", "offset"), [("04.00", -0.1), ("03.01", 0.0)])
def test_probabilities_are_those_of_reflectance(
    tmp_path: Path, baseline: str, offset: float
) -> None:
    item = make_item(tmp_path, baseline=baseline)
    result = mapped(tmp_path, item)
    rows = rows_of(tmp_path)
    assert (rows["status"] == "assessed").all()
    label = [c for c in rows.columns if c.startswith("p_")][1]
    # bands of 20 and 60 m are interpolated between pixels, so single squares differ a little
    assert np.abs(rows[label].to_numpy() - expected_p(item, offset)).max() < 0.03
    assert any("no cloud mask" in note for note in result.run["notes"])
    scene = result.run["inputs"]["scenes"][0]
    assert [layer["band"] for layer in scene["layers"]] == list(BANDS)
    assert {layer["offset"] for layer in scene["layers"]} == {offset}


def test_the_scl_hides_buildings_under_cloud_and_snow(tmp_path: Path) -> None:
    class_YX = np.full((120, 120), 4, np.uint8)
    class_YX[:60, :60] = 9
    class_YX[:60, 60:] = 11
    class_YX[60:, :60] = 3
    class_YX[60:, 60:] = 6
    item = make_item(tmp_path, scl=class_YX)
    mapped(tmp_path, item)
    rows = rows_of(tmp_path)
    reasons = rows["reason"].fillna("assessed").value_counts().to_dict()
    assert reasons == {"cloud": 50, "snow": 25, "assessed": 25}


def test_cells_of_another_size_give_the_same_map(tmp_path: Path) -> None:
    maps = []
    for cell_windows in (1, 3):
        folder = tmp_path / str(cell_windows)
        folder.mkdir()
        execution = {"runtime": "onnxruntime", "cell_windows": cell_windows}
        mapped(folder, make_item(folder), execution=execution)
        rows = rows_of(folder)
        maps.append(rows[[c for c in rows.columns if c.startswith("p_")]].to_numpy())
    assert np.array_equal(maps[0], maps[1])


def bare_ground(folder: Path, **more: Any) -> SentinelItem:
    """A tile of dark ground with three bright squares, of which a cloud hides one."""
    class_YX = np.full((120, 120), 4, np.uint8)
    class_YX[80:100, 80:100] = 9
    item = make_item(folder, scl=class_YX, bands=("B02", "B03", "B04", "B8A"), **more)
    counts_YX = np.full((240, 240), 1500, np.uint16)
    for top, left, side in ((40, 30, 20), (100, 150, 30), (170, 170, 20)):
        counts_YX[top : top + side, left : left + side] = 5000
    write_raster(folder / f"{item.name}_B04.tif", counts_YX[None], 10, nodata=0)
    return item


def test_slides_of_a_tile_have_the_area_of_their_pixels(tmp_path: Path) -> None:
    item = bare_ground(tmp_path)
    plane_YX = np.tile(np.arange(140) * 20.0 * 0.4, (140, 1)).astype(np.float32)
    corner = (WEST_M - 200, NORTH_M + 200)
    dem = write_raster(tmp_path / "dem.tif", plane_YX[None], 20, corner=corner)
    bands, weight = ("nir08", "slope", "red"), {"red": 100.0, "slope": 1.0}
    bundle = write_reflectance_bundle(
        tmp_path / "bundle",
        bands,
        weight,
        bias=-25.0 - np.degrees(np.arctan(0.4)),
        task="landslide",
    )
    models = {"damage": None, "landslide": str(bundle)}
    run = map_file(
        run_file(tmp_path, item.write(), bundle, models=models, terrain={"dem": str(dem)})
    )
    slides = gpd.read_parquet(tmp_path / "out" / "landslides.parquet")
    # area is that of the ellipsoid; pixels of the zone are 0.05 % smaller here
    assert sorted(slides["area_m2"]) == pytest.approx([40_000, 90_000], rel=0.001)
    assert set(slides["scene_post"]) == {item.name}
    coverage = gpd.read_parquet(tmp_path / "out" / "coverage.parquet")
    assert coverage["cloud_fraction"].max() > 0
    assert run.run["counts"]["landslides"]["slides"] == 2


def test_damage_and_landslides_read_their_own_scenes_of_one_catalogue(tmp_path: Path) -> None:
    item = bare_ground(tmp_path)
    item.document["assets"]["visual"] = item.document["assets"]["B04"] | {"roles": ["visual"]}
    picture = tmp_path / "post_20230210.tif"
    counts_BYX = np.random.default_rng(0).integers(30, 200, (3, 600, 600)).astype(np.uint8)
    write_scene(picture, counts_BYX, transform=Affine(0.5, 0, WEST_M, 0, -0.5, NORTH_M))
    damage = write_bundle(tmp_path / "damage", epochs=("post",))
    slides = write_reflectance_bundle(
        tmp_path / "bundle", ("nir08", "red"), {"red": 100.0}, bias=-25.0, task="landslide"
    )
    models = {"damage": str(damage), "landslide": str(slides)}
    execution = {"runtime": "threshold", "cell_windows": 2}
    path = run_file(tmp_path, [item.write(), picture], damage, models=models, execution=execution)
    run = map_file(path)
    found = gpd.read_parquet(tmp_path / "out" / "landslides.parquet")
    assert set(found["scene_post"]) == {item.name}
    assert set(run.buildings["scene_post"].dropna()) == {"post_20230210"}
    layers = {s["id"]: len(s.get("layers", ())) for s in run.run["inputs"]["scenes"]}
    assert layers == {"post_20230210": 0, item.name: 2}
