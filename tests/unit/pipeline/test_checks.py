"""What `plan` finds before `map` stumbles over it."""

import datetime as dt
import json
import os
import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.warp
import shapely

from quakestream.cli.map import report_result
from quakestream.cli.plan import _show_problems, plan_statement
from quakestream.config import RunFile, open_run
from quakestream.errors import BundleError, ConfigError, NoImageryError, RequestError
from quakestream.pipeline.planning.capacity import around_s
from quakestream.pipeline.planning.checks import check_files_exist, later_problems
from quakestream.pipeline.planning.event_time import check_event
from quakestream.pipeline.planning.plan import make_plan
from quakestream.pipeline.result.record import meant_for
from quakestream.synthetic import SyntheticEarthquake
from quakestream.testing import make_world, write_bundle
from quakestream.testing.worlds import write_scene
from tests.helpers.cropping import resample
from tests.helpers.mapping import edit, map_file
from tests.helpers.running import run_content


def opened(town: SyntheticEarthquake, **changed: Any) -> RunFile:
    content = run_content(town, "damage-synthetic", **changed)
    return open_run(content)


def test_all_missing_files_are_told_at_once_the_needed_ones_first(
    town: SyntheticEarthquake, tmp_path: Path
) -> None:
    run = opened(
        town,
        aoi=str(tmp_path / "aoi.geojson"),
        footprints={"path": str(tmp_path / "b.parquet")},
        hazard={"shakemaps": [str(tmp_path / "grid.xml")], "layers": {"dpm": str(tmp_path / "d")}},
    )
    with pytest.raises(ConfigError) as caught:
        check_files_exist(run)
    assert str(caught.value).splitlines() == [
        f"aoi: {tmp_path}/aoi.geojson: there is no such file; check the path",
        f"footprints.path: {tmp_path}/b.parquet: there is no such file; check the path",
        f"hazard.shakemaps: {tmp_path}/grid.xml: there is no such file; check the path",
        f"hazard.layers.dpm: {tmp_path}/d: there is no such file; check the path",
    ]


def test_a_missing_layer_alone_refuses_no_run(town: SyntheticEarthquake, tmp_path: Path) -> None:
    check_files_exist(opened(town, hazard={"layers": {"dpm": str(tmp_path / "none.tif")}}))
    check_files_exist(opened(town, aoi="36.9,37.5,37.0,37.6"))


def test_an_output_below_a_file_is_found(town: SyntheticEarthquake, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    (issue,) = later_problems(opened(town, out=str(tmp_path / "taken" / "out")))
    assert (issue.kind, issue.subject) == ("out", str(tmp_path / "taken" / "out"))
    assert f"{tmp_path}/taken is a file, not a folder; choose another `out`" in issue.cause
    assert later_problems(opened(town, out=str(tmp_path / "new" / "out"))) == []
    assert not (tmp_path / "new").exists(), "planning made a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_without_rights_is_found(town: SyntheticEarthquake, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (issue,) = later_problems(opened(town, out=str(tmp_path / "out")))
    assert "may not be written by this user" in issue.cause


def test_an_output_in_no_bucket_is_found(town: SyntheticEarthquake) -> None:
    (issue,) = later_problems(opened(town, out="http://127.0.0.1:9/out"))
    assert "the map cannot be written" in issue.cause


@pytest.mark.parametrize("column", ["name", "nmae"])
def test_districts_and_their_column_are_looked_at(
    town: SyntheticEarthquake, tmp_path: Path, column: str
) -> None:
    districts = gpd.GeoDataFrame(
        {"name": ["a"]}, geometry=[shapely.box(38, 37, 39, 38)], crs="EPSG:4326"
    )
    districts.to_file(tmp_path / "d.gpkg")
    run = opened(town, summary={"admin": str(tmp_path / "d.gpkg"), "id": column})
    if column == "name":
        assert make_plan(run).admin is not None
    else:
        with pytest.raises(RequestError, match="nmae"):
            make_plan(run)


def test_a_plan_with_nothing_to_score_says_so(town: SyntheticEarthquake, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "difference", window_px=128, halo_px=16)
    content = run_content(town, bundle)
    content["imagery"]["pre"]["datetime"] = "2001-01-01/2001-12-31"
    statement = plan_statement(make_plan(open_run(content)))
    assert statement["cells"] == 0
    assert statement["coverage"] == {"no_pre": statement["footprints"]}
    assert json.dumps(statement)


def nameless(path: Path) -> None:
    """Writes a scene anew with a fourth band, and no names."""
    with rasterio.open(path) as dataset:
        counts_BYX, transform = dataset.read(), dataset.transform
    path.unlink()
    four_BYX = np.concatenate([counts_BYX, counts_BYX[:1] // 2])
    write_scene(path, four_BYX, transform=transform, photometric="minisblack")


@pytest.mark.parametrize("both", [True, False])
def test_scenes_whose_bands_nothing_names_are_asked_for(tmp_path: Path, both: bool) -> None:
    world = make_world(tmp_path, side_px=200, buildings=10)
    nameless(world.post)
    if both:
        nameless(world.pre)
    with pytest.raises(ConfigError) as caught:
        make_plan(open_run(world.run_file))
    (problem,) = caught.value.problems
    assert problem.where == f"{world.post}{' and 1 more' if both else ''}"
    assert problem.got == "4 bands without names"
    assert "imagery.bands, such as [3, 2, 1]" in problem.remedy
    edit(world.run_file, lambda content: content["imagery"].update(bands=[1, 2, 3]))
    assert make_plan(open_run(world.run_file)).units


def test_a_scene_without_names_beside_one_with_them_is_quarantined(tmp_path: Path) -> None:
    world = make_world(tmp_path, side_px=200, buildings=10)
    other = shutil.copy(world.post, tmp_path / "post_20230212.tif")
    nameless(Path(other))
    edit(world.run_file, lambda content: content["imagery"]["catalog"].append(str(other)))
    plan = make_plan(open_run(world.run_file))
    assert plan.units
    (issue,) = plan.problems
    assert (issue.kind, issue.subject) == ("scene", "post_20230212")


def test_a_scene_too_coarse_for_the_model_is_named(tmp_path: Path) -> None:
    world = make_world(tmp_path, side_px=200, buildings=10)
    resample(world.pre, 1.3)
    plan = make_plan(open_run(world.run_file))
    assert set(plan.assignment.reason_N) <= {"outside_model_scale", "no_imagery"}
    (note,) = [note for note in plan.notes if "too coarse" in note]
    assert note == (
        "1 scene is too coarse for no-network, which takes pixels of up to 1 m: "
        "pre_20220801 (1.3 m)"
    )


def test_only_what_is_shipped_is_known_to_be_for_lists_or_numbers() -> None:
    assert meant_for("shipped:damage-turkiye-2023", "damage-turkiye-2023") == {"meant_for": "lists"}
    context = meant_for("shipped:damage-context-2023", "damage-context-2023")
    assert context == {"meant_for": "numbers"}
    assert meant_for("event-model", "damage-turkiye-2023") == {}
    assert meant_for("shipped:damage-synthetic", "damage-synthetic") == {}


def test_footprints_outside_the_area_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = make_world(tmp_path, side_px=200, buildings=10)
    frame = gpd.read_file(world.footprints)
    far = frame.iloc[:3].assign(id=["x", "y", "z"]).set_geometry(frame.geometry[:3].translate(1))
    pd.concat([frame, far]).to_file(world.footprints)
    statement = plan_statement(make_plan(open_run(world.run_file)))
    assert statement["outside_aoi"] == 3
    result = map_file(world.run_file)
    report_result(result, as_json=False)
    said = capsys.readouterr().out
    assert said.startswith("map with no-network\n")
    assert statement["profile"] is None
    assert "3 footprints of the file lie outside the AOI: not on the map" in said
    (doubt,) = result.run["footprint_doubts"]
    assert doubt.startswith("footprints are boxes: 100 % of 10 outlines are rectangles")
    assert doubt == statement["notes"][0] == result.run["notes"][0]
    assert f"note: {doubt}\n" in said


@pytest.mark.parametrize(
    ("measured_s", "scenes", "mpx", "footprints"),
    [
        (5.65, 2, 25, 447),  # Kahramanmaraş, two cores: all but the map stage
        (11.9, 14, 180, 6016),  # six regions of Türkiye
        (35.4, 2, 2123, 38144),  # benchmarks.end_to_end
        (31.2, 2, 2123, 9702),
    ],
)
def test_the_time_around_the_stream_is_that_of_measured_runs(
    measured_s: float, scenes: int, mpx: float, footprints: int
) -> None:
    told_s = around_s(scenes=scenes, mpx=mpx, footprints=footprints, cores=2)
    assert measured_s / 1.5 < told_s < measured_s * 1.5


def test_images_after_the_event_that_are_from_before_it_are_named(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=1, side_px=200, buildings=5)
    edit(world.run_file, lambda c: c["event"].update(time="2024-02-06T01:17:34Z"))
    edit(world.run_file, lambda c: c["imagery"]["post"].update(datetime="2023-02-06/.."))
    said = rf"run.yaml, line \d+, event.time: no image after the event: .*{world.post.stem}"
    with pytest.raises(NoImageryError, match=rf"{said} of 2023-02-1\d, 360 days before it"):
        make_plan(open_run(world.run_file))
    late = world.post.with_name("post_20240301.tif")
    shutil.copy(world.post, late)
    edit(world.run_file, lambda c: c["imagery"]["catalog"].append(str(late)))
    (problem,) = make_plan(open_run(world.run_file)).problems
    assert "taken as an image after the event, and acquired 360 days before it" in problem.cause
    assert problem.subject == world.post.stem


def test_an_event_in_the_future_is_refused(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=1, side_px=200, buildings=5)
    edit(world.run_file, lambda c: c["event"].update(time="2203-02-06T01:17:34Z"))
    edit(world.run_file, lambda c: c["imagery"]["post"].update(datetime="2023-02-06/.."))
    with pytest.raises(ConfigError, match=r"line \d+, event.time: lies in the future: .*got 2203-"):
        make_plan(open_run(world.run_file))
    edit(world.run_file, lambda c: c["event"].update(time="2026-03-02T20:00:00Z"))
    run, noon = open_run(world.run_file), dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
    check_event(run, noon)  # a zone of time that was forgotten
    with pytest.raises(ConfigError, match="a time before now, 2026-03-01T12:00Z"):
        check_event(run, noon - dt.timedelta(days=1))


def test_an_image_after_the_event_that_lies_elsewhere_is_named_with_its_place(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path, seed=1, side_px=200, buildings=5)
    with rasterio.open(world.post, "r+") as scene:
        scene.crs = 32636
    with pytest.raises(NoImageryError) as caught:
        make_plan(open_run(world.run_file))
    told = caught.value.got.rsplit(" at ", 1)
    assert told[0] == (
        "2 items in the catalogue, 1 of them in the AOI: 1 in imagery.pre.datetime; 1 item lies "
        f"outside the AOI: {world.post.stem}"
    )
    with rasterio.open(world.pre) as scene:
        west, south, _, _ = rasterio.warp.transform_bounds(scene.crs, 4326, *scene.bounds)
    place = [float(degrees) for degrees in told[1].split(",")]
    assert place[:2] == pytest.approx([west - 6, south], abs=2e-3)
    assert caught.value.remedy.startswith("check its CRS, or the AOI; ")


def test_a_wrong_name_of_a_bundle_is_told_with_its_line_and_the_bundles_of_its_task(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path, seed=1, side_px=200, buildings=5)
    edit(world.run_file, lambda c: c["models"].update(damage="damage-context"))
    line = world.run_file.read_text().splitlines().index("  damage: damage-context") + 1
    with pytest.raises(BundleError) as caught:
        make_plan(open_run(world.run_file))
    assert caught.value.where == f"{world.run_file}, line {line}, models.damage: damage-context"
    assert caught.value.remedy == "did you mean damage-context-2023?"
    assert "landslide" not in caught.value.expected
    assert "hazard" not in caught.value.expected
    for name in ("damage-turkiye-2023", "grades-synthetic"):
        assert name in caught.value.expected


def test_a_file_of_points_is_refused_as_footprints(tmp_path: Path) -> None:
    world = make_world(tmp_path, seed=1, side_px=200, buildings=5)
    rows = gpd.read_file(world.footprints)
    rows.geometry = rows.geometry.representative_point()
    rows.to_file(tmp_path / "points.geojson")
    edit(world.run_file, lambda c: c["footprints"].update(path=str(tmp_path / "points.geojson")))
    with pytest.raises(RequestError, match="no outlines: expected polygons, got 5 of Point"):
        make_plan(open_run(world.run_file))


def test_the_console_names_some_problems_of_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [{"kind": "scene", "subject": f"s{n}", "cause": "timed out"} for n in range(30)]
    _show_problems([*problems, {"kind": "item", "subject": "i", "cause": "no datetime"}])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[8].strip() == "and 22 more of kind scene: --json lists all"
    assert lines[9].strip() == "item i: no datetime"
