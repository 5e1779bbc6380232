"""Secrets in every place of a run where a URI may stand: no file and no stream repeats one."""

import json
import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import shapely

from quakestream.synthetic import SyntheticEarthquake
from tests.helpers.running import (
    assert_same_map,
    earthquake_in,
    quakestream,
    read_map,
    run_content,
    write_run,
    write_threshold_bundle,
)
from tests.helpers.servers import WebServer, web_server

SECRET = "hunter2hunter2"
"""Each place has its own, such as `hunter2hunter2-vs30`."""


def signed(url: str, place: str) -> str:
    return f"{url}?sv=2024&sig={SECRET}-{place}"


@pytest.fixture
def web(town: SyntheticEarthquake, tmp_path: Path) -> Any:
    """The town with a signature on every asset of its items, on a server on loopback."""
    from quakestream.synthetic import TINY

    folder = tmp_path / "town"
    shutil.copytree(town.out, folder)
    districts = gpd.GeoDataFrame(
        {"name": ["all"]}, geometry=[shapely.box(-180, -90, 180, 90)], crs=4326
    )
    districts.to_file(folder / "districts.geojson")
    with web_server(folder) as server:
        for path in (folder / "imagery").rglob("*.json"):
            content = json.loads(path.read_text())
            for asset in content.get("assets", {}).values():
                href = f"{server.url}/imagery/{content['id']}/{Path(asset['href']).name}"
                asset["href"] = signed(href, "asset")
            path.write_text(json.dumps(content))
        yield server, earthquake_in(folder, TINY)


def content_of(server: WebServer, town: SyntheticEarthquake, bundle: Path) -> dict[str, Any]:
    url = server.url
    content = run_content(town, bundle)
    content["imagery"]["catalog"] = signed(f"{url}/imagery/catalog.json", "catalog")
    content["footprints"]["path"] = signed(f"{url}/footprints.geojson", "footprints")
    content["aoi"] = signed(f"{url}/aoi.geojson", "aoi")
    content["hazard"] = {
        "shakemaps": [signed(f"{url}/shakemap/grid.xml", "shakemap")],
        "vs30": signed(f"{url}/vs30.tif", "vs30"),
        "layers": {"dpm": signed(f"{url}/dpm.tif", "layer")},
    }
    content["summary"] = {"admin": signed(f"{url}/districts.geojson", "admin"), "id": "name"}
    return content


def assert_no_secret(*places: Path | str) -> None:
    for place in places:
        files = [p for p in place.rglob("*") if p.is_file()] if isinstance(place, Path) else []
        texts = [place] if isinstance(place, str) else []
        for text in texts:
            assert SECRET not in text
        for path in files:
            assert SECRET.encode() not in path.read_bytes(), path


def test_no_output_repeats_a_secret(
    web: tuple[WebServer, SyntheticEarthquake], town: SyntheticEarthquake, tmp_path: Path
) -> None:
    server, there = web
    bundle = write_threshold_bundle(tmp_path / "bundle")
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    env = {"TMPDIR": str(temporary)}
    run_file = write_run(tmp_path / "run.yaml", content_of(server, there, bundle))
    plan = quakestream("plan", run_file, "--json", env=env)
    done = quakestream("map", run_file, "--out", out, "-v", env=env)
    assert done.code == 0, done.stderr
    status = quakestream("status", out)
    report = quakestream("report", out)
    assert report.code == 0, report.stderr
    texts = [t for d in (plan, done, status, report) for t in (d.stdout, d.stderr)]
    assert_no_secret(out, temporary, *texts)

    plain = run_content(town, bundle)
    plain["hazard"]["layers"] = {"dpm": str(town.dpm)}
    plain["summary"] = {"admin": str(there.out / "districts.geojson"), "id": "name"}
    plain_out = tmp_path / "plain"
    same = quakestream("map", write_run(tmp_path / "plain.yaml", plain), "--out", plain_out)
    assert same.code == 0, same.stderr
    made = read_map(out)
    assert_same_map(made, read_map(plain_out), but=("run_id", "cause"))
    assert made.run["inputs"]["catalog"].endswith("/imagery/catalog.json?sv=***&sig=***")
    assert all(s["href"].endswith("?sv=***&sig=***") for s in made.run["inputs"]["scenes"])


@pytest.mark.slow
def test_a_virtual_tile_store_of_signed_scenes_holds_no_signature_and_is_read(
    web: tuple[WebServer, SyntheticEarthquake], tmp_path: Path
) -> None:
    server, there = web
    bundle = write_threshold_bundle(tmp_path / "bundle")
    content = content_of(server, there, bundle)
    run_file, store = write_run(tmp_path / "run.yaml", content), tmp_path / "tiles.zarr"
    done = quakestream("tile", run_file, "--store", store, "--virtual")
    assert done.code in (0, 1), done.stderr
    assert list(store.rglob("refs.json"))
    assert_no_secret(store, done.stdout, done.stderr)
    content["imagery"]["store"] = str(store)
    tiled = quakestream("map", write_run(tmp_path / "tiled.yaml", content), "--out", tmp_path / "a")
    plain = quakestream("map", run_file, "--out", tmp_path / "b")
    assert (tiled.code, plain.code) == (0, 0), tiled.stderr + plain.stderr
    rows = [read_map(tmp_path / name).buildings.drop(columns="run_id") for name in "ab"]
    assert rows[0].equals(rows[1])
    assert_no_secret(tmp_path / "a")


@pytest.mark.parametrize(
    ("place", "name", "code"),
    [
        ("catalog", "imagery/catalog.json", (2, 3)),
        ("footprints", "footprints.geojson", (2, 3)),
        ("aoi", "aoi.geojson", (2, 3)),
        ("shakemap", "shakemap/grid.xml", (1, 2, 3)),
        pytest.param("vs30", "vs30.tif", (1, 2, 3), marks=pytest.mark.slow),
        pytest.param("layer", "dpm.tif", (1, 2, 3), marks=pytest.mark.slow),
        pytest.param("admin", "districts.geojson", (1, 2, 3), marks=pytest.mark.slow),
        ("asset", "imagery", (1, 3)),
    ],
)
def test_no_error_repeats_a_secret(
    web: tuple[WebServer, SyntheticEarthquake],
    tmp_path: Path,
    place: str,
    name: str,
    code: tuple[int, ...],
) -> None:
    """The server refuses one kind of object."""
    server, there = web
    bundle = write_threshold_bundle(tmp_path / "bundle")
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    names = [name]
    if place == "asset":
        names = [str(p.relative_to(there.out)) for p in (there.out / "imagery").rglob("*.tif")]
    server.faults.update(dict.fromkeys(names, 403))
    run_file = write_run(tmp_path / "run.yaml", content_of(server, there, bundle))
    done = quakestream("map", run_file, "--out", out, "-v", env={"TMPDIR": str(temporary)})
    assert done.code in code, (done.code, done.stderr)
    assert_no_secret(out, temporary, done.stdout, done.stderr)
