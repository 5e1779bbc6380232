"""Maps of landslides: beside damage, alone, over borders, and with input that does not fit."""

import json
import re
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import tifffile
from scipy import ndimage
from shapely.geometry import LineString, Point

from quakestream.config import open_run
from quakestream.errors import ConfigError, RequestError
from quakestream.outputs.rasters import NODATA
from quakestream.pipeline.planning.plan import make_plan
from quakestream.testing.worlds import BORDER_M, EPSG, NORTH_M, WEST_M
from tests.helpers.mapping import edit, map_file, mapped
from tests.helpers.running import quakestream
from tests.helpers.sliding import SIDE_PX, expected_steps, sliding_world, write_slide_bundle


def slides(out: Path) -> gpd.GeoDataFrame:
    return gpd.read_parquet(out / "landslides.parquet")


def test_buildings_and_slides_name_each_other(tmp_path: Path) -> None:
    sliding_world(tmp_path)
    run = mapped(tmp_path, "out")
    found, buildings = slides(tmp_path / "out"), run.buildings
    metres = found.to_crs(EPSG).geometry
    outlines = buildings.to_crs(EPSG).geometry
    apart = np.array([metres.distance(outline).to_numpy() for outline in outlines])
    nearest = apart.min(axis=1)
    known = buildings["landslide_distance_m"].to_numpy()
    near = nearest <= 50
    assert (buildings["status"] == "assessed").sum() > 10
    assert 0 < (nearest == 0).sum() < near.sum()
    assert np.array_equal(np.isfinite(known), near)
    assert known[near] == pytest.approx(nearest[near], abs=0.01)
    named = found.set_index("landslide_id")["buildings_touched"]
    assert named.sum() == (apart == 0).sum()
    place = {name: n for n, name in enumerate(found["landslide_id"])}
    at = [place[name] for name in buildings["landslide_id"][near]]
    assert np.array_equal(apart[near, at], nearest[near])
    counts = run.run["counts"]["landslides"]
    assert counts["slides"] == len(found)
    assert counts["buildings_touched"] == (nearest == 0).sum()
    assert counts["buildings_within_50_m"] == near.sum()
    assert run.run["landslide_bundle"]["name"] == "no-slides"
    assert run.run["bundle"]["name"] == "no-network"


def test_landslides_change_no_verdict(tmp_path: Path) -> None:
    world = sliding_world(tmp_path)
    both = mapped(tmp_path, "both").buildings.set_index("building_id").sort_index()
    edit(world.run_file, lambda content: content["models"].pop("landslide"))
    alone = mapped(tmp_path, "alone")
    rows = alone.buildings.set_index("building_id").sort_index()
    extra = ["landslide_id", "landslide_distance_m"]
    assert list(rows.columns) == [c for c in both.columns if c not in extra]
    pd.testing.assert_frame_equal(
        both.drop(columns=[*extra, "run_id"]), rows.drop(columns="run_id"), check_exact=True
    )
    assert "landslides" not in alone.run["counts"]
    assert not (tmp_path / "alone" / "landslides.parquet").exists()


def test_a_run_of_landslides_alone_needs_no_footprints(tmp_path: Path) -> None:
    world = sliding_world(tmp_path, damage=False)
    run = mapped(tmp_path, "out")
    assert run.run["counts"]["footprints"] == 0
    assert run.run["counts"]["landslides"]["slides"] == len(slides(tmp_path / "out")) > 5
    assert "bundle" not in run.run
    coverage = gpd.read_parquet(tmp_path / "out" / "coverage.parquet")
    assert set(coverage["kind"]) == {"landslides"}
    assert set(coverage["status"]) == {"scored", "not_scored"}, "the AOI is larger than the scene"
    edit(
        world.run_file,
        lambda content: content.update(footprints={"path": str(world.footprints), "id": "id"}),
    )
    named = mapped(tmp_path, "named")
    assert set(named.buildings["reason"]) == {"no_model"}
    assert named.buildings["landslide_id"].notna().any()
    assert slides(tmp_path / "named")["buildings_touched"].sum() > 0


def test_scores_of_both_models_lie_side_by_side(tmp_path: Path) -> None:
    world = sliding_world(tmp_path)
    edit(world.run_file, lambda content: content.update(outputs=["scores"]))
    mapped(tmp_path, "out")
    files = sorted(p.name.split("-")[0] for p in (tmp_path / "out" / "scores").iterdir())
    assert files == ["destroyed", "intact", "landslide"]
    (path,) = (tmp_path / "out" / "scores").glob("landslide-*.tif")
    with rasterio.open(path) as raster, rasterio.open(world.post) as scene:
        window = raster.window(*scene.bounds)
        step_YX = raster.read(1, window=window)
    known_YX = step_YX != NODATA
    assert known_YX.all()
    assert np.array_equal(step_YX, expected_steps(world.post))


def test_where_the_best_view_shows_nothing_the_next_one_does(tmp_path: Path) -> None:
    """The right half of the ground is on one scene, the left half on another."""
    world = sliding_world(tmp_path, damage=False)
    whole = mapped(tmp_path, "whole", cell_windows=2)
    with rasterio.open(world.post) as dataset:
        counts, profile = dataset.read(), dict(dataset.profile)
    for name, cols in (("post_20230210.tif", (150, SIDE_PX)), ("post_20230215.tif", (0, 230))):
        part = counts[:, :, slice(*cols)]
        moved = profile["transform"] @ rasterio.Affine.translation(cols[0], 0)
        size = {"width": part.shape[2], "transform": moved}
        with rasterio.open(tmp_path / name, "w", **{**profile, **size}) as dataset:
            dataset.write(part)
    second = str(tmp_path / "post_20230215.tif")
    edit(world.run_file, lambda content: content["imagery"]["catalog"].append(second))
    maps = [mapped(tmp_path, f"out{side}", cell_windows=side) for side in (1, 3)]
    one, other = (slides(tmp_path / f"out{side}") for side in (1, 3))
    assert one.drop(columns="run_id").equals(other.drop(columns="run_id"))
    before = slides(tmp_path / "whole")
    assert one[["landslide_id", "area_m2"]].equals(before[["landslide_id", "area_m2"]])
    assert one.geometry.geom_equals_exact(before.geometry, 0).all()
    assert one["scene_post"].str.contains(";").any()
    assert maps[0].run["counts"]["landslides"]["slides"] == len(before)
    assert whole.run["counts"]["landslides"]["slides"] == len(before)


def test_a_slide_over_a_zone_border_is_one_row_and_covers_its_ground_once(tmp_path: Path) -> None:
    sliding_world(tmp_path, damage=False, west_m=BORDER_M - 105)
    for side in (1, 3):
        mapped(tmp_path, f"out{side}", cell_windows=side)
    one, other = (slides(tmp_path / f"out{side}") for side in (1, 3))
    assert one.drop(columns="run_id").equals(other.drop(columns="run_id"))
    crossing = one[(one.bounds.minx < 36.0) & (one.bounds.maxx > 36.0)]
    assert len(crossing) >= 1
    assert (crossing.geom_type == "MultiPolygon").all(), "cut at the border, and one row"
    for multi in crossing.geometry:
        west = shapely.union_all([p for p in multi.geoms if p.centroid.x < 36.0])
        east = shapely.union_all([p for p in multi.geoms if p.centroid.x > 36.0])
        assert west.intersection(east).area < 1e-9 * multi.area
    label_YX, _ = ndimage.label(expected_steps(tmp_path / "post_20230210.tif") >= 125)
    pixels = np.bincount(label_YX.reshape(-1))[1:]
    # west of the border the scene is resampled, which takes the brightest off at edges
    assert one.area_m2.sum() == pytest.approx(pixels[pixels >= 400].sum() * 0.25, rel=0.03)


def test_a_bundle_of_fourteen_bands_over_rgb_scenes_is_refused(tmp_path: Path) -> None:
    world = sliding_world(tmp_path)
    bands = ("coastal", "blue", "green", "red", "nir", "slope", "elevation")
    bundle = write_slide_bundle(tmp_path / "many", bands=bands)
    edit(world.run_file, lambda content: content["models"].update(landslide=str(bundle)))
    with pytest.raises(RequestError, match="coastal") as caught:
        map_file(world.run_file)
    assert "\n" not in str(caught.value)


def test_a_damage_bundle_finds_no_landslides(tmp_path: Path) -> None:
    world = sliding_world(tmp_path)
    edit(
        world.run_file,
        lambda content: content["models"].update(landslide=content["models"]["damage"]),
    )
    with pytest.raises(ConfigError, match="does not find landslides"):
        map_file(world.run_file)


def test_damage_needs_footprints(tmp_path: Path) -> None:
    world = sliding_world(tmp_path)
    edit(world.run_file, lambda content: content.pop("footprints"))
    with pytest.raises(ConfigError, match=r"footprints: is required and missing"):
        map_file(world.run_file)


def write_dem(path: Path, metres_YX: np.ndarray, west_m: float = WEST_M - 100) -> Path:
    """Elevations on a lattice of 5 m from the upper left corner of the world, 100 m around it."""
    height, width = metres_YX.shape
    where = rasterio.Affine(5, 0, west_m, 0, -5, NORTH_M + 100)
    profile = {"driver": "GTiff", "count": 1, "height": height, "width": width}
    kind = {"dtype": "float32", "crs": EPSG, "transform": where, "nodata": -9999.0}
    with rasterio.open(path, "w", **profile, **kind) as dataset:
        dataset.write(metres_YX.astype(np.float32), 1)
    return path


def test_flat_ground_is_not_looked_at_and_slopes_are_those_of_the_dem(tmp_path: Path) -> None:
    world = sliding_world(tmp_path, damage=False)
    plain = mapped(tmp_path, "plain")
    rise_X = np.maximum(np.arange(90) * 5.0 - 205.0, 0.0)  # flat in the west, 45° in the east
    (tmp_path / "tiles").mkdir()
    dem = write_dem(tmp_path / "tiles" / "dem.tif", np.tile(rise_X, (90, 1)))
    edit(world.run_file, lambda content: content.update(terrain={"dem": str(dem.parent)}))
    maps = [mapped(tmp_path, f"out{side}", cell_windows=side) for side in (1, 3)]
    one, other = (slides(tmp_path / f"out{side}") for side in (1, 3))
    assert one.drop(columns="run_id").equals(other.drop(columns="run_id"))
    assert 0 < len(one) < plain.run["counts"]["landslides"]["slides"]
    east = one[one.to_crs(EPSG).bounds.minx > WEST_M + 120]
    assert len(east) > 2
    assert east["slope_deg"].to_numpy() == pytest.approx(45.0, abs=0.26)
    assert any("are flatter than 3°" in note for note in maps[0].run["notes"])
    assert any("1 of 1 tiles" in note for note in maps[0].run["notes"])
    coverage = gpd.read_parquet(tmp_path / "out1" / "coverage.parquet")
    assert {"scored", "too_flat"} <= set(coverage["status"])
    write_dem(dem, np.zeros((90, 90)))
    mapped(tmp_path, "flat", cell_windows=1)
    assert slides(tmp_path / "flat").empty
    flat = gpd.read_parquet(tmp_path / "flat" / "coverage.parquet").set_index("cell_id")["status"]
    seen = coverage.set_index("cell_id")["status"].replace("scored", "too_flat")
    assert dict(flat) == dict(seen)


def test_a_dem_that_does_not_cover_the_area_is_named_and_the_map_is_made(tmp_path: Path) -> None:
    world = sliding_world(tmp_path, damage=False)
    whole = mapped(tmp_path, "whole")
    dem = write_dem(tmp_path / "dem.tif", np.tile(np.arange(40) * 3.0, (90, 1)))
    edit(world.run_file, lambda content: content.update(terrain={"dem": str(dem)}))
    part = mapped(tmp_path, "part")
    (issue,) = part.issues
    assert issue.kind == "terrain"
    assert "does not cover all cells" in issue.cause
    assert part.run["counts"]["landslides"] == whole.run["counts"]["landslides"]
    assert slides(tmp_path / "part")["slope_deg"].isna().any()
    dem.write_bytes(b"no raster")
    broken = mapped(tmp_path, "broken")
    assert [i.kind for i in broken.issues] == ["terrain"]
    assert "every window is looked at" in broken.issues[0].cause
    assert broken.run["counts"]["landslides"] == whole.run["counts"]["landslides"]
    dem.unlink()
    (gone,) = make_plan(open_run(str(world.run_file))).problems
    assert "no such file" in gone.cause


def test_districts_count_slides_roads_and_buildings(tmp_path: Path) -> None:
    world = sliding_world(tmp_path)
    east_m = WEST_M + SIDE_PX / 2
    lines = [LineString([(WEST_M, y), (east_m, y)]) for y in (NORTH_M - 60, NORTH_M - 150)]
    roads = gpd.GeoDataFrame(geometry=[*lines, Point(WEST_M, NORTH_M)], crs=EPSG)
    roads.to_file(tmp_path / "roads.gpkg")
    edit(world.run_file, lambda c: c.update(roads={"path": str(tmp_path / "roads.gpkg")}))
    run = mapped(tmp_path, "out")
    found = slides(tmp_path / "out")
    metres = found.to_crs(EPSG).geometry
    under = sum(metres.intersection(line).length for line in lines)
    assert found["road_m"].to_numpy() == pytest.approx(under.to_numpy(), rel=1e-3, abs=0.02)
    assert under.sum() > 20
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    counts = run.run["counts"]
    assert summary["landslides"].sum() == len(found)
    assert summary["landslide_km2"].sum() == pytest.approx(found["area_m2"].sum() / 1e6, abs=1e-5)
    assert summary["landslide_buildings"].sum() == counts["landslides"]["buildings_touched"]
    assert summary["landslide_road_km"].sum() == pytest.approx(under.sum() / 1000, abs=2e-3)
    assert summary["buildings"].sum() == counts["footprints"]
    assert summary["buildings"].dtype == int
    edit(world.run_file, lambda c: c.update(roads={"path": str(world.run_file)}))
    without = mapped(tmp_path, "without")
    assert [issue.kind for issue in without.issues] == ["roads"]
    assert slides(tmp_path / "without")["road_m"].isna().all()


def test_the_command_line_plans_maps_and_reports_landslides_alone(tmp_path: Path) -> None:
    world = sliding_world(tmp_path, damage=False)
    plan = quakestream("plan", world.run_file)
    assert plan.code == 0, plan.stderr
    assert "small-world with no-slides" in plan.stdout
    done = quakestream("map", world.run_file, "--quiet")
    assert done.code == 0, done.stderr
    number = len(slides(tmp_path / "out"))
    assert f"{number} landslides, " in done.stdout
    assert "building" not in done.stdout
    assert quakestream("report", tmp_path / "out").code == 0
    report = (tmp_path / "out" / "report.html").read_text()
    assert f"<b>{number} landslides</b>" in report
    status = quakestream("status", tmp_path / "out")
    assert re.search(rf"landslides +{number}, \d\.\d{{3}} km²", status.stdout)
    assert "damage" not in status.stdout
    truth = tmp_path / "out" / "landslides.parquet"
    score = quakestream("score", tmp_path / "out", "--truth", truth, "--json")
    figures = json.loads(score.stdout)
    assert (figures["f1"], figures["polygon_recall"]) == (1.0, 1.0)
    assert figures["truth"] + figures["truth_elsewhere"] == number


def test_landslides_of_which_no_pixel_could_be_read_are_no_map(tmp_path: Path) -> None:
    world = sliding_world(tmp_path, damage=False)
    whole = world.post.read_bytes()
    with tifffile.TiffFile(world.post) as file:
        first_block = min(offset for page in file.pages for offset in page.dataoffsets)
    world.post.write_bytes(whole[:first_block])
    done = quakestream("map", world.run_file, "--quiet")
    assert done.code == 3, done.stdout
    assert "no ground could be read" in done.error
    assert not (tmp_path / "out" / "run.json").exists()
    world.post.write_bytes(whole)
    assert quakestream("map", world.run_file, "--quiet").code == 0
