"""Bad input neither kills nor vanishes (law 9): the map is made, and says what it touched."""

import json
import re
import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import geopandas.testing
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine

from quakestream.synthetic import TINY, SyntheticEarthquake, make_earthquake
from tests.helpers.running import (
    CommandResult,
    Map,
    assert_accounted,
    quakestream,
    read_map,
    run_content,
    write_run,
    write_threshold_bundle,
)
from tests.helpers.scenes import (
    ENGINEERING_WKT,
    columns_of,
    corner_points,
    item,
    outline_of,
    spoil,
    truncate,
    write_items,
    write_scene,
)
from tests.helpers.servers import web_server

POST, PRE = "2026-03-16T08:00:00Z", "2025-07-19T08:00:00Z"
BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]>
<shakemap_grid event_id="bomb">&d;&d;&d;&d;</shakemap_grid>
"""
WIDE = replace(TINY, name="wide", extent_m=(480.0, 400.0))
STRIPS = {
    "good": (0, 192),
    "cut-off": (192, 336),
    "spoilt": (336, 448),
    "dropped": (448, 544),
    "no-asset": (544, 640),
    "forbidden": (640, 736),
    "unusable": (736, 832),
    "no-pre": (832, 960),
}
"""Columns of the town that only one post scene, of that name, shows."""
UNUSABLE = ("rotated", "site-grid", "points-only", "unplaced", "no-tiff", "not-there", "grey")


@dataclass(frozen=True, slots=True, kw_only=True)
class Messy:
    """A map of a catalogue in which nearly everything is wrong."""

    done: CommandResult
    made: Map
    again: CommandResult
    """The same command once the web server had come to its senses."""
    cured: Map
    strips: dict[str, shapely.Polygon]

    def mostly_in(self, strip: str) -> list[str]:
        """Buildings that lie in a strip with nine tenths of their area or more."""
        rows = self.made.buildings[self.made.buildings["reason"] != "invalid_geometry"]
        outlines = rows.geometry.to_numpy()
        shown = shapely.area(shapely.intersection(outlines, self.strips[strip]))
        return list(rows["building_id"][shown >= 0.9 * shapely.area(outlines)])

    def reasons_in(self, strip: str) -> set[str]:
        return set(self.made.reasons[self.mostly_in(strip)])


def _post_items(town: SyntheticEarthquake, folder: Path, url: str) -> list[dict[str, Any]]:
    """One scene a strip; the unusable ones lie on top of each other."""
    items = []
    for name, (start, stop) in STRIPS.items():
        pixels_BYX, transform, crs = columns_of(town.post[0], start, stop)
        outline = outline_of(pixels_BYX.shape[1:], transform, crs)
        if name == "unusable":
            items += [
                item(kind, _unusable(folder, kind, pixels_BYX, transform, crs), outline, POST)
                for kind in UNUSABLE
            ]
            continue
        path = write_scene(folder / f"{name}.tif", pixels_BYX, transform, crs)
        href: str | None = path.name
        if name == "cut-off":
            truncate(path, 0.65)
        elif name == "spoilt":
            spoil(path, 0.65, seed=1)
        elif name in ("dropped", "forbidden"):
            href = f"{url}/{path.name}"
        elif name == "no-asset":
            href = None
        # each a platform of its own: scenes, and not tiles of one acquisition
        items.append(item(name, href, outline, POST, platform=name))
    return items


def _unusable(folder: Path, kind: str, pixels_BYX: Any, transform: Affine, crs: Any) -> str:
    path = folder / f"{kind}.tif"
    if kind == "rotated":
        write_scene(path, pixels_BYX, transform @ Affine.rotation(20), crs)
    elif kind == "site-grid":
        write_scene(path, pixels_BYX, transform, ENGINEERING_WKT)
    elif kind == "points-only":
        points = corner_points(pixels_BYX, transform)
        write_scene(path, pixels_BYX, None, None, gcps=(points, crs))
    elif kind == "unplaced":
        write_scene(path, pixels_BYX, None, None)
    elif kind == "no-tiff":
        path.write_text("<html><body>Please log in to download</body></html>")
    elif kind == "grey":
        write_scene(path, pixels_BYX[:1], transform, crs)
    return path.name


def _footprints(town: SyntheticEarthquake, path: Path) -> Path:
    """The town's, and rows that are wrong in every way a file can carry."""
    content = json.loads(town.footprints.read_text())
    features = content["features"]
    first, second = features[0], features[1]
    x, y = shapely.geometry.shape(first["geometry"]).centroid.coords[0]
    bow = [[[x, y], [x + 1e-4, y + 1e-4], [x + 1e-4, y], [x, y + 1e-4], [x, y]]]
    moved = shapely.geometry.mapping(
        shapely.affinity.translate(shapely.geometry.shape(second["geometry"]), 2e-4, 0)
    )
    odd: list[tuple[Any, Any]] = [
        (first["properties"]["id"], first["geometry"]),  # the same again
        (second["properties"]["id"], moved),  # the same id elsewhere
        ("bow", {"type": "Polygon", "coordinates": bow}),
        ("point", {"type": "Point", "coordinates": [x, y]}),
        ("nothing", None),
        ("empty", {"type": "Polygon", "coordinates": []}),
        (None, moved),
        ("abroad", {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}),
    ]
    features += [
        {"type": "Feature", "properties": {"id": name}, "geometry": geometry}
        for name, geometry in odd
    ]
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def messy(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Messy:
    folder = tmp_path_factory.mktemp("messy")
    town = make_earthquake(folder / "town", seed=4, size=WIDE)
    strips = {}
    for name, columns in STRIPS.items():
        pixels_BYX, transform, crs = columns_of(town.post[0], *columns)
        strips[name] = outline_of(pixels_BYX.shape[1:], transform, crs)
    pixels_BYX, transform, crs = columns_of(town.pre[0], 0, STRIPS["no-pre"][0])
    pre = write_scene(folder / "pre.tif", pixels_BYX, transform, crs)
    pre_item = item("pre", pre.name, outline_of(pixels_BYX.shape[1:], transform, crs), PRE)
    (folder / "bomb.xml").write_text(BOMB)
    shutil.copy(town.shakemap, folder / "cut.xml")
    truncate(folder / "cut.xml", 0.5)
    faults = {"forbidden.tif": 403, "dropped.tif": 0.5}
    content = run_content(town, bundle)
    content["footprints"]["path"] = str(_footprints(town, folder / "footprints.geojson"))
    content["hazard"]["shakemaps"] = ["bomb.xml", "cut.xml", str(town.shakemap)]
    content["imagery"]["catalog"] = "items.json"
    run_file = write_run(folder / "run.yaml", content)
    with web_server(folder, faults) as web:
        write_items(folder / "items.json", [pre_item, *_post_items(town, folder, web.url)])
        done = quakestream("map", run_file, "--out", folder / "out", "-v")
        made = read_map(folder / "out")
        web.faults.clear()
        again = quakestream("map", run_file, "--out", folder / "out", "--quiet")
    return Messy(done=done, made=made, again=again, cured=read_map(folder / "out"), strips=strips)


def test_a_messy_run_makes_the_map_and_asks_for_attention(messy: Messy) -> None:
    assert messy.done.code == messy.again.code == 1
    assert "inputs need attention:\n" in messy.done.stdout
    assert "more: all are in quarantine.parquet" in messy.done.stdout
    for made in (messy.made, messy.cured):
        assert_accounted(made)


def test_what_is_good_is_assessed(messy: Messy) -> None:
    assert len(messy.mostly_in("good")) > 5
    assert messy.reasons_in("good") == {"assessed"}
    rows = messy.made.buildings
    assert (rows["mmi"] > 0).all()  # the one ShakeMap of three that can be read
    assert rows["hazard_missing"].str.len().eq(0).all()


@pytest.mark.parametrize("strip", ["cut-off", "spoilt", "dropped"])
def test_lost_blocks_cost_their_own_buildings_only(messy: Messy, strip: str) -> None:
    """The end of the file is the south of the scene: its buildings, and no others."""
    assert messy.reasons_in(strip) == {"assessed", "read_error"}
    rows = messy.made.buildings.set_index("building_id").loc[messy.mostly_in(strip)]
    south_first = rows["reason"].iloc[shapely.bounds(rows.geometry.to_numpy())[:, 1].argsort()]
    assert south_first.iloc[0] == "read_error"
    assert south_first.isna().iloc[-1]
    cause = messy.made.causes(strip)
    assert f"(scene {strip}, block " in cause
    assert "run the same command again" in cause
    assert "See previous exception" not in cause


def test_scenes_that_cannot_be_opened_are_named(messy: Messy) -> None:
    assert messy.reasons_in("forbidden") == messy.reasons_in("unusable") == {"read_error"}
    assert messy.reasons_in("no-asset") == {"no_imagery"}
    assert messy.reasons_in("no-pre") == {"no_pre"}
    causes = {name: messy.made.causes(name) for name in (*UNUSABLE, "forbidden", "no-asset")}
    assert "permission denied (403" in causes["forbidden"]
    assert "no asset 'visual'" in causes["no-asset"]
    assert "rotated" in causes["rotated"]
    assert "not on Earth" in causes["site-grid"]
    assert "ground control points alone are not enough" in causes["points-only"]
    assert "no CRS" in causes["unplaced"]
    assert "not a raster of a supported format" in causes["no-tiff"]
    assert "there is no such file; check the path" in causes["not-there"]
    assert "expected red, green and blue, got 1 band" in causes["grey"]


def test_footprints_that_are_wrong_are_rows_or_counted(messy: Messy) -> None:
    reasons, counts = messy.made.reasons, messy.made.run["counts"]
    assert reasons["bow"] == reasons["point"] == "invalid_geometry"
    assert "b00001#2" in reasons
    assert sum(name.startswith("row-") for name in reasons.index) == 1
    assert not {"nothing", "empty", "abroad"} & set(reasons.index)
    assert (counts["duplicates_collapsed"], counts["outside_aoi"]) == (1, 1)
    assert counts["without_position"] == 2
    assert "Self-intersection" in messy.made.causes("bow")
    assert "with another outline" in messy.made.causes("b00001#2")


def test_hazard_files_that_are_wrong_are_named(messy: Messy) -> None:
    assert "entities" in messy.made.causes("bomb.xml")
    assert "not valid XML" in messy.made.causes("cut.xml")
    assert not messy.made.causes("grid.xml")


def test_the_same_command_retries_what_failed_and_nothing_else(messy: Messy) -> None:
    first, second = messy.made.run["counts"], messy.cured.run["counts"]
    retried = messy.made.reasons[messy.mostly_in("dropped") + messy.mostly_in("forbidden")]
    assert (retried == "read_error").sum() > 3
    assert set(messy.cured.reasons[retried.index]) == {"assessed"}
    assert not messy.cured.causes("forbidden")
    assert not messy.cured.causes("dropped")
    assert second["cells_resumed"] + second["cells_scored"] == second["cells"]
    assert second["cells_resumed"] >= first["cells_scored"] - first["windows_failed"]
    untouched = messy.made.buildings[messy.made.buildings["status"] == "assessed"]
    kept = messy.cured.buildings.set_index("building_id").loc[untouched["building_id"]]
    assert kept["p_destroyed"].tolist() == untouched["p_destroyed"].tolist()


@pytest.mark.slow
def test_a_server_that_stalls_does_not_hang_the_run(
    town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    """It sends half of an image and then nothing, with the connection open."""
    items = []
    for name, source, columns, time in (
        ("pre", town.pre[0], (0, 640), PRE),
        ("good", town.post[0], (0, 320), POST),
        ("stalls", town.post[0], (320, 640), POST),
    ):
        pixels_BYX, transform, crs = columns_of(source, *columns)
        write_scene(tmp_path / f"{name}.tif", pixels_BYX, transform, crs)
        outline = outline_of(pixels_BYX.shape[1:], transform, crs)
        items.append(item(name, f"{name}.tif", outline, time, platform=name))
    content = run_content(town, bundle)
    content["imagery"]["catalog"] = "items.json"
    run_file = write_run(tmp_path / "run.yaml", content)
    with web_server(tmp_path, {"stalls.tif": -0.6}) as web:
        items[-1]["assets"]["visual"]["href"] = f"{web.url}/stalls.tif"
        write_items(tmp_path / "items.json", items)
        env = {"GDAL_HTTP_LOW_SPEED_TIME": "1"}
        done = quakestream("map", run_file, "--out", tmp_path / "out", "--quiet", env=env)
    assert done.code == 1, done.stderr
    made = read_map(tmp_path / "out")
    assert_accounted(made)
    assert set(made.reasons) == {"assessed", "read_error"}
    assert made.causes("stalls")


@pytest.mark.data
def test_fuzzed_and_odd_tiffs_neither_kill_nor_hang(
    town: SyntheticEarthquake, bundle: Path, undisturbed: Map, data_dir: Path, tmp_path: Path
) -> None:
    """All 33 fuzzed files and four odd ones claim to be clear scenes of the whole town, and to
    be images with a date; the good pair is used, and every one of them is named."""
    folder = data_dir / "cog-edge-cases"
    files = sorted((folder / "fuzzed-tiff").glob("*.tif"))
    assert len(files) == 33
    files += [folder / "rio-tiler" / f"cog_{n}.tif" for n in ("nonearth", "gcps")]
    files += [folder / "rasterio" / f"{n}.tif" for n in ("rotated", "corrupt")]
    aoi = gpd.read_file(town.aoi).geometry.iloc[0]
    items = [item(f.stem, str(f), aoi, POST, **{"eo:cloud_cover": 0.0}) for f in files]
    images = [shutil.copy(f, tmp_path / f"{f.stem}_20260316.tif") for f in files]
    content = run_content(town, bundle)
    catalogue = write_items(tmp_path / "items.json", items)
    content["imagery"]["catalog"] = [str(town.catalogue), str(catalogue), *map(str, images)]
    run_file = write_run(tmp_path / "run.yaml", content)
    done = quakestream("map", run_file, "--out", tmp_path / "out", "--quiet", timeout_s=100)
    assert done.code == 1, done.stderr
    made = read_map(tmp_path / "out")
    assert_accounted(made)
    assert_same_verdicts(made, undisturbed)
    for file in files:
        assert made.causes(file.stem), file
        assert file.stem == "corrupt" or made.causes(f"{file.stem}_20260316.tif"), file


def assert_same_verdicts(one: Map, other: Map) -> None:
    """The same answers; the request, and so the run's id, may differ."""
    left, right = (m.buildings.drop(columns=["run_id"]) for m in (one, other))
    gpd.testing.assert_geodataframe_equal(left, right)


def test_a_pair_that_lies_30_m_apart_is_misaligned(
    town: SyntheticEarthquake, bundle: Path, tmp_path: Path
) -> None:
    pixels_BYX, transform, crs = columns_of(town.pre[0], 0, 640)
    moved = Affine.translation(-24.0, 18.0) @ transform
    items = []
    for name, place, time in (("pre", moved, PRE), ("post", transform, POST)):
        if name == "post":
            pixels_BYX, _, _ = columns_of(town.post[0], 0, 640)
        path = write_scene(tmp_path / f"{name}.tif", pixels_BYX, place, crs)
        items.append(item(name, str(path), outline_of(pixels_BYX.shape[1:], place, crs), time))
    content = run_content(town, bundle)
    content["imagery"]["catalog"] = str(write_items(tmp_path / "items.json", items))
    run_file = write_run(tmp_path / "run.yaml", content)
    done = quakestream("map", run_file, "--out", tmp_path / "out", "--quiet")
    assert done.code == 1, done.stderr
    made = read_map(tmp_path / "out")
    assert_accounted(made)
    assert set(made.reasons) <= {"misaligned", "no_pre"}
    assert (made.reasons == "misaligned").mean() > 0.7
    assert re.search(r"pre image lies (2[6-9]|3[0-4]) m off the post", made.causes("post__pre"))
    assert made.buildings["damage"].isna().all()


@pytest.mark.data
def test_real_pairs_that_do_not_fit_are_not_damage(data_dir: Path, tmp_path: Path) -> None:
    """gaziantep2's images lie 2 km apart; adiyaman2's pre image is moved by 30 m here; and the
    only ShakeMap is the real one that was cut off after nine rows."""
    scenes = data_dir / "turkiye-2023-scenes"
    moved = tmp_path / "adiyaman2_pre_20220817.tif"
    with rasterio.open(scenes / "imagery" / "adiyaman2_pre_20220817_50cm.tif") as source:
        pixels_BYX, transform, crs = source.read(), source.transform, source.crs
    write_scene(moved, pixels_BYX, Affine.translation(30.0, 0.0) @ transform, crs)
    images = [
        moved,
        scenes / "imagery" / "adiyaman2_post_20230212_50cm.tif",
        scenes / "imagery" / "gaziantep2_pre_20220620_50cm.tif",
        scenes / "imagery" / "gaziantep2_post_20230208_50cm.tif",
    ]
    boxes, areas = _boxes_and_areas(scenes, images)
    boxes.to_file(tmp_path / "boxes.gpkg")
    areas.to_file(tmp_path / "aoi.gpkg")
    bundle = write_threshold_bundle(tmp_path / "bundle", window_px=512, halo_px=64)
    cut = data_dir / "turkiye-2023-shaking" / "us6000jllz_grid_truncated_9rows.xml"
    content: dict[str, Any] = {
        "event": {"id": "pairs", "time": "2023-02-06T01:17:34Z"},
        "aoi": "aoi.gpkg",
        "imagery": {
            "catalog": [str(i) for i in images],
            "post": {"datetime": "2023-02-06/2023-03-01"},
            "pre": {"datetime": "2018-01-01/2023-02-05"},
        },
        "footprints": {"path": "boxes.gpkg", "id": "id"},
        "hazard": {"shakemaps": [str(cut)]},
        "models": {"damage": str(bundle)},
        "execution": {"runtime": "threshold"},
    }
    run_file = write_run(tmp_path / "run.yaml", content)
    done = quakestream("map", run_file, "--out", tmp_path / "out", "--quiet")
    assert done.code == 1, done.stderr
    made = read_map(tmp_path / "out")
    assert_accounted(made)
    reasons = made.reasons
    assert set(reasons[reasons.index.str.startswith("gaziantep2")]) == {"no_pre"}
    adiyaman = reasons[reasons.index.str.startswith("adiyaman2")]
    assert set(adiyaman) <= {"misaligned", "no_pre"}  # the moved image ends 30 m further east
    assert (adiyaman == "misaligned").mean() > 0.9
    assert made.buildings["damage"].isna().all()
    assert made.causes(cut.name)
    assert made.buildings["mmi"].isna().all()


def _boxes_and_areas(scenes: Path, images: list[Path]) -> tuple[Any, Any]:
    """Detector boxes of both places inside their post image, and those images' outlines."""
    frames, outlines = [], []
    for name, image in (("adiyaman2", images[1]), ("gaziantep2", images[3])):
        boxes = gpd.read_file(scenes / "labels" / f"{name}_detection_boxes.geojson")
        with rasterio.open(image) as scene:
            outline = shapely.box(*scene.bounds)
        boxes = boxes.to_crs(32637)
        boxes = boxes[boxes.within(outline)].reset_index(drop=True)
        boxes["id"] = [f"{name}-{n}" for n in range(len(boxes))]
        assert len(boxes) > 10
        frames.append(boxes[["id", "geometry"]])
        outlines.append(outline)
    return pd.concat(frames), gpd.GeoDataFrame(geometry=outlines, crs=32637)


Spoiler = Callable[[dict[str, Any], Path], list[str]]


def _aoi_without_footprints(content: dict[str, Any], folder: Path) -> list[str]:
    content["aoi"] = "10.0,50.0,10.1,50.1"
    return ["no footprint lies in the AOI", "got 60 in 38.5", "check the AOI and the CRS"]


def _aoi_outside_imagery(content: dict[str, Any], folder: Path) -> list[str]:
    frame = gpd.read_file(content["footprints"]["path"])
    frame.translate(-28.5, 13.0).to_frame("geometry").assign(id=frame["id"]).to_file(
        folder / "moved.gpkg"
    )
    content["footprints"]["path"] = "moved.gpkg"
    content["aoi"] = "10.0,50.0,10.2,50.2"
    return ["no post-event scene", "catalog.json", "10.0000, 50.0000", "check the AOI"]


def _no_imagery_in_time(content: dict[str, Any], folder: Path) -> list[str]:
    content["imagery"]["post"] = {"datetime": "2026-05-01/2026-05-02"}
    return ["no post-event scene", "catalog.json", "imagery.post.datetime"]


def _no_footprints(content: dict[str, Any], folder: Path) -> list[str]:
    (folder / "none.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    content["footprints"]["path"] = "none.geojson"
    return ["none.geojson", "no features", "expected features with geometry"]


def _footprints_without_crs(content: dict[str, Any], folder: Path) -> list[str]:
    frame = gpd.read_file(content["footprints"]["path"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame.set_crs(None, allow_override=True).to_file(folder / "plain.gpkg")
    content["footprints"]["path"] = "plain.gpkg"
    return ["plain.gpkg: file has no CRS", "ogr2ogr -a_srs"]


def _misspelt_key(content: dict[str, Any], folder: Path) -> list[str]:
    content["imagery"]["assett"] = content["imagery"].pop("asset")
    return ["run.yaml", "line ", "imagery.assett", "asset"]


def _wrong_digest(content: dict[str, Any], folder: Path) -> list[str]:
    shutil.copytree(content["models"]["damage"], folder / "bundle")
    (folder / "bundle" / "model.onnx").write_bytes(b"another graph")
    content["models"]["damage"] = "./bundle"
    return ["bundle", "model.onnx differs from the manifest", "expected sha256"]


def _unknown_bundle(content: dict[str, Any], folder: Path) -> list[str]:
    content["models"]["damage"] = "damage-turkye"
    return ["damage-turkye: no bundle", "expected a shipped name"]


def _unreadable_aoi(content: dict[str, Any], folder: Path) -> list[str]:
    (folder / "aoi.geojson").write_text('{"type": "FeatureCollection", "features": [{')
    content["aoi"] = "aoi.geojson"
    return ["aoi.geojson: cannot be read as a vector file"]


def _no_catalogue(content: dict[str, Any], folder: Path) -> list[str]:
    content["imagery"]["catalog"] = "nowhere/catalog.json"
    return ["imagery.catalog", "nowhere/catalog.json", "there is no such file"]


def _unknown_runtime(content: dict[str, Any], folder: Path) -> list[str]:
    content["execution"]["runtime"] = "tensorflow"
    return ["execution.runtime: tensorflow: no runtime of that name", "onnxruntime"]


WRONG_REQUESTS: dict[str, Spoiler] = {
    "aoi outside all imagery": _aoi_outside_imagery,
    "aoi without footprints": _aoi_without_footprints,
    "no imagery in time": _no_imagery_in_time,
    "empty footprints": _no_footprints,
    "footprints without crs": _footprints_without_crs,
    "misspelt key": _misspelt_key,
    "wrong digest": _wrong_digest,
    "unknown bundle": _unknown_bundle,
    "unreadable aoi": _unreadable_aoi,
    "no catalogue": _no_catalogue,
    "unknown runtime": _unknown_runtime,
}


@pytest.fixture(scope="module")
def refused(
    town: SyntheticEarthquake, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[CommandResult, list[str], Path]]:
    """Each wrong request as a process, two at a time: what came of it, and what it must say."""
    prepared = {}
    for name, spoiler in WRONG_REQUESTS.items():
        folder = tmp_path_factory.mktemp("refused")
        content = run_content(town, bundle)
        expected = spoiler(content, folder)
        prepared[name] = (write_run(folder / "run.yaml", content), expected, folder / "out")
    with ThreadPoolExecutor(2) as pool:
        done = pool.map(
            lambda p: quakestream("map", p[0], "--out", p[2], "--quiet"), prepared.values()
        )
        return {
            name: (finished, expected, out)
            for (name, (_, expected, out)), finished in zip(prepared.items(), done, strict=True)
        }


@pytest.mark.parametrize("name", WRONG_REQUESTS)
def test_a_wrong_request_is_refused_in_one_line(
    refused: dict[str, tuple[CommandResult, list[str], Path]], name: str
) -> None:
    done, expected, out = refused[name]
    assert done.code == 2, (done.code, done.stderr)
    for part in expected:
        assert part in done.error
    assert done.stdout == ""
    assert not out.exists()
