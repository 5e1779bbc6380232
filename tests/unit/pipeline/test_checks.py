"""What `plan` finds before `map` stumbles over it."""

import json
import os
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely

from quakestream.cli.plan import plan_statement
from quakestream.config import RunFile, open_run
from quakestream.errors import ConfigError, RequestError
from quakestream.pipeline.planning.capacity import around_s
from quakestream.pipeline.planning.checks import check_files_exist, later_problems
from quakestream.pipeline.planning.plan import make_plan
from quakestream.synthetic import SyntheticEarthquake
from quakestream.testing import write_bundle
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
