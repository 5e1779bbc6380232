"""`update` and `watch`: what is new comes into a map, and nothing is done where nothing is new."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import typer
from rasterio.windows import Window
from typer.testing import CliRunner, Result

from quakestream.cli.map import attention
from quakestream.cli.update import update
from quakestream.cli.watch import duration_s, watch
from quakestream.errors import (
    ConfigError,
    NoPairError,
    NothingReadError,
    QuakestreamError,
    RequestError,
)
from quakestream.testing import World, make_world
from tests.helpers.mapping import by_id, edit, map_file

UPDATE, WATCH = typer.Typer(), typer.Typer()
UPDATE.command()(update)
WATCH.command()(watch)


def small(folder: Path) -> World:
    return make_world(folder, seed=4, side_px=300, buildings=30)


def updated(world: World, *more: str) -> Result:
    return CliRunner().invoke(UPDATE, [str(world.run_file), "--json", "--quiet", *more])


def test_an_update_without_news_touches_no_product(tmp_path: Path) -> None:
    world = small(tmp_path)
    out = Path(map_file(world.run_file).out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if "_ledger" not in p.parts}
    done = updated(world)
    told = json.loads(done.stdout)
    assert (done.exit_code, told["unchanged"], told["changes"]) == (0, True, None)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_an_update_takes_in_a_new_scene_and_counts_what_changed(tmp_path: Path) -> None:
    world = small(tmp_path)
    post = world.post.with_name("hidden.tif")
    shutil.copy(world.post, post)
    edit(world.run_file, lambda c: c["imagery"]["catalog"].remove(str(world.post)))
    half = world.post.with_name(f"half_{world.post.name}")
    crop_left_half(post, half)
    edit(world.run_file, lambda c: c["imagery"]["catalog"].append(str(half)))
    map_file(world.run_file)
    edit(world.run_file, lambda c: c["imagery"]["catalog"].append(str(world.post)))
    told = json.loads(updated(world).stdout)
    assert told["unchanged"] is False
    seen = [c for c in told["changes"]["changed"] if c["before"] == "not_assessed"]
    assert sum(c["buildings"] for c in seen) > 3
    fresh = map_file(world.run_file, tmp_path / "fresh")
    rows = by_id(map_file(world.run_file).buildings)
    pd.testing.assert_series_equal(rows["damage_label"], by_id(fresh.buildings)["damage_label"])


def test_an_update_that_would_lose_every_verdict_leaves_the_map(tmp_path: Path) -> None:
    world = small(tmp_path)
    out = Path(map_file(world.run_file).out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if "_ledger" not in p.parts}
    good = world.post.read_bytes()

    def refused(error: type[QuakestreamError], cause: str) -> None:
        done = updated(world)
        assert isinstance(done.exception, error), done.stdout
        assert cause in str(done.exception)
        assert "nothing was published" in str(done.exception)
        assert {p: p.stat().st_mtime_ns for p in before} == before

    world.post.write_bytes(b"")
    refused(NothingReadError, "got an empty file")
    world.post.write_bytes(good)
    with rasterio.open(world.post, "r+") as dataset:
        dataset.write(np.zeros((dataset.count, dataset.height, dataset.width), np.uint8))
    refused(NothingReadError, "stays as it is")
    world.post.write_bytes(good)
    edit(world.run_file, lambda c: c["imagery"]["pre"].update(datetime="2001-01-01/2001-12-31"))
    refused(NoPairError, "9 no_imagery, 21 no_pre of 30")


def test_a_first_map_without_a_verdict_says_why_it_needs_attention(tmp_path: Path) -> None:
    world = small(tmp_path)
    with rasterio.open(world.post, "r+") as dataset:
        dataset.write(np.zeros((dataset.count, dataset.height, dataset.width), np.uint8))
    result = map_file(world.run_file)
    reasons = result.run["counts"]["reasons"]
    assert result.run["counts"]["assessed"] == 0
    assert attention(result) == [
        f"no building was assessed ({', '.join(f'{n} {r}' for r, n in reasons.items())}); check "
        "the AOI, the dates and the images"
    ]


def test_a_later_image_that_shows_no_building_better_is_named_once(tmp_path: Path) -> None:
    world = small(tmp_path)
    map_file(world.run_file)
    later = world.post.with_name("later_20230220.tif")
    shutil.copy(world.post, later)
    edit(world.run_file, lambda c: c["imagery"]["catalog"].append(str(later)))
    done = CliRunner().invoke(UPDATE, [str(world.run_file), "--quiet"])
    assert "later_20230220: new, shows no building better, not used" in done.stdout.splitlines()
    told = json.loads(updated(world).stdout)
    assert (told["scenes_not_used"], told["new_not_used"]) == (["later_20230220"], [])


def crop_left_half(source: Path, target: Path) -> None:
    with rasterio.open(source) as dataset:
        window = Window(0, 0, dataset.width // 2, dataset.height)
        profile = dataset.profile | {"width": dataset.width // 2}
        with rasterio.open(target, "w", **profile) as half:
            half.write(dataset.read(window=window))
            half.update_tags(**dataset.tags())


def test_a_district_file_that_changes_is_news(tmp_path: Path) -> None:
    world = small(tmp_path)
    districts = tmp_path / "districts.geojson"
    districts.write_text(square("old"))
    edit(world.run_file, lambda c: c.update(summary={"admin": str(districts), "id": "name"}))
    map_file(world.run_file)
    assert json.loads(updated(world).stdout)["unchanged"] is True
    districts.write_text(square("new"))
    told = json.loads(updated(world).stdout)
    assert told["unchanged"] is False
    assert "new," in (Path(told["out"]) / "summary.csv").read_text()


def square(name: str) -> str:
    ring = [[30, 30], [45, 30], [45, 45], [30, 45], [30, 30]]
    feature = {
        "type": "Feature",
        "properties": {"name": name},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    return json.dumps({"type": "FeatureCollection", "features": [feature]})


def test_an_update_of_no_map_is_refused(tmp_path: Path) -> None:
    done = updated(small(tmp_path))
    assert isinstance(done.exception, RequestError)
    assert "no map yet" in str(done.exception)


@pytest.mark.slow
def test_watching_waits_for_the_first_image_then_maps_then_rests(tmp_path: Path) -> None:
    world = small(tmp_path)
    edit(world.run_file, lambda c: c["imagery"].update(catalog=[str(world.pre)]))
    arguments = ["watch", str(world.run_file), "--quiet", "--every", "1s", "--until", "1h"]
    with subprocess.Popen(
        [sys.executable, "-m", "quakestream.cli.main", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "UTC" in process.stdout.readline()
        assert "no image after the event yet" in process.stdout.readline()
        edit(world.run_file, lambda c: c["imagery"]["catalog"].append(str(world.post)))
        seen = ""
        while "nothing new" not in seen:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            seen += line
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert seen.index("30 buildings: ") < seen.index("nothing new")


def test_watching_a_wrong_request_ends_at_once(tmp_path: Path) -> None:
    world = small(tmp_path)
    edit(world.run_file, lambda c: c.update(aoi="nowhere.geojson"))
    done = CliRunner().invoke(WATCH, [str(world.run_file), "--every", "1h"])
    assert isinstance(done.exception, ConfigError)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("10m", 600.0), ("1.5h", 5400.0), (" 5d ", 432_000.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text, "--every") == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "-1h", "10 minutes"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="not a duration: expected 30s, 10m, 2h or 1d"):
        duration_s(text, "--every")
