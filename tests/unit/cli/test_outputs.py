"""status, view, report and score, as a person calls them."""

import json
import subprocess
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from quakestream.cli.common import left_out_hint, warn_of_other_products
from quakestream.cli.folders import check_folder, make_folder
from quakestream.cli.report import report
from quakestream.cli.score import score
from quakestream.cli.status import status
from quakestream.cli.view import map_server
from quakestream.errors import RequestError, StorageError
from quakestream.outputs.fixed_names import other_products
from quakestream.outputs.ground import covered_text, rate_rows
from quakestream.outputs.lease import held_lease
from quakestream.outputs.progress import read_status
from quakestream.outputs.publish import publish
from quakestream.outputs.readback import current_buildings, current_run
from quakestream.storage import Store, open_store
from tests.helpers.outputs_case import (
    HAZARD_BUNDLE,
    SHARES,
    buildings,
    products,
    with_hazard_evidence,
)
from tests.helpers.running import CLI, ROOT, environment

NOW = datetime(2023, 2, 7, 12, tzinfo=UTC)


def _app() -> typer.Typer:
    app = typer.Typer()
    for command in (status, report, score):
        app.command()(command)
    return app


def _call(*args: str) -> str:
    result = CliRunner().invoke(_app(), args)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def finished(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "out"))
    publish(store, products())
    return store


def _progress(store: Store, **changes: object) -> None:
    started = NOW - timedelta(minutes=30)
    value = {
        "run_id": "r",
        "started": started.isoformat(),
        "updated": NOW.isoformat(),
        "cells_total": 40,
        "cells_done": 10,
        "km2_total": 200.0,
        "km2_done": 50.0,
        "buildings_done": 1234,
        "failed": 1,
    }
    store.put("_ledger/progress.json", json.dumps(value | changes).encode())


def test_a_running_run_has_a_rate_and_an_end(tmp_path: Path):
    store = open_store(str(tmp_path))
    _progress(store)
    store.put("_ledger/cells/abc.parquet", b"x")
    got = read_status(store, NOW + timedelta(seconds=5))
    assert got.state == "running"
    assert got.km2_per_h == pytest.approx(100)
    assert got.remaining_s == pytest.approx(1.5 * 3600)
    assert got.commits == 1


def test_a_rate_is_over_the_time_that_was_mapped(tmp_path: Path):
    """Also where the run is finished: it is that of run.json then."""
    store = open_store(str(tmp_path))
    _progress(store, map_s=900.0, aoi_km2=150.0, covered_km2=75.0)
    assert read_status(store, NOW).km2_per_h == pytest.approx(200)
    shown = " ".join(_call("status", str(tmp_path)).split())
    assert "150.00 km², of which the images in use cover 75.00 km² (50 %)" in shown
    assert "200 km²/h scored, over 15:00 min of mapping" in shown
    _progress(store, map_s=900.0, cells_done=40, km2_done=200.0)
    rates = {"km2": 200.0, "map_s": 1000.0, "km2_per_h": 720.0}
    run = {"published": NOW.isoformat(), "rates": rates}
    store.put("run.json", json.dumps(run).encode())
    got = read_status(store, NOW)
    assert (got.state, got.km2_per_h, got.map_s) == ("finished", pytest.approx(720), 1000)


def test_a_status_names_the_model_and_what_is_expected(tmp_path: Path):
    store = open_store(str(tmp_path))
    _progress(store, models="fast, profile rapid")
    assert read_status(store, NOW).models == "fast, profile rapid"
    _progress(store, cells_done=40)
    counts = {"footprints": 12, "not_assessed": 3}
    bundle = {"name": "fast", "meant_for": "lists"}
    run = {"published": NOW.isoformat(), "counts": counts, "shares": SHARES, "bundle": bundle}
    store.put("run.json", json.dumps(run | {"request": {"profile": "rapid"}}).encode())
    shown = " ".join(_call("status", str(tmp_path)).split())
    assert "model fast, profile rapid" in shown
    assert "expected About 1.8 destroyed (90 %: 0.9 to 2.7)" in shown
    assert "This model is for lists" in shown
    told = json.loads(_call("status", str(tmp_path), "--json"))["expected"]
    assert (told["number"], told["low"], told["high"]) == (1.84, 0.9, 2.72)


def test_the_report_names_what_a_figure_counts():
    rows = dict(rate_rows({"rates": {"aoi_km2": 0.76, "km2": 0.86, "km2_per_h": 1515.4}}))
    assert rows["AOI, km²"] == "0.760"
    assert rows["km² scored in an hour of mapping"] == "1515.400"
    nothing = {"km2": 0.0, "km2_per_h": 0.0}
    assert [text for _, text in rate_rows({"rates": nothing})] == ["0.000", "0.000"]
    resumed = rate_rows({"rates": nothing, "counts": {"cells_resumed": 8}})
    assert [text for _, text in resumed] == ["0 (earlier runs scored it all)", "–"]
    assert covered_text(1.0, 1.0) == "1.00 km², all of it covered by the images in use"
    assert covered_text(1.0, 0.0).endswith("cover 0.00 km² (0 %)")


def test_a_resumed_run_does_not_count_what_it_found_done(tmp_path: Path):
    store = open_store(str(tmp_path))
    _progress(store, km2_resumed=30.0)
    assert read_status(store, NOW).km2_per_h == pytest.approx(40)


def test_silence_with_work_left_is_a_stopped_run(tmp_path: Path):
    store = open_store(str(tmp_path))
    _progress(store)
    got = read_status(store, NOW + timedelta(minutes=5))
    assert (got.state, got.remaining_s) == ("stopped", None)
    shown = _call("status", str(tmp_path))
    assert "it resumes" in " ".join(shown.split())
    assert "10 of 40 (25%), a cell once for each view and model" in " ".join(shown.split())


def test_done_but_unpublished_is_publishing(tmp_path: Path):
    store = open_store(str(tmp_path))
    _progress(store, cells_done=40)
    assert read_status(store, NOW).state == "publishing"


def test_a_finished_run_shows_its_counts(finished: Store):
    got = json.loads(_call("status", finished.uri, "--json"))
    assert got["state"] == "finished"
    assert got["counts"]["not_assessed"] == 3
    assert got["counts"]["coverage"] == {"rows": 2, "status": {"not_scored": 1, "scored": 1}}
    shown = " ".join(_call("status", finished.uri).split())
    assert "cloud" in shown
    assert "2 in coverage.parquet, each once for each model: 1 not_scored, 1 scored" in shown


def test_an_update_under_way_is_not_finished(finished: Store):
    now = datetime.now(UTC)
    _progress(finished, started=now.isoformat(), updated=now.isoformat())
    assert read_status(finished, now).state == "running"


def test_a_run_that_ended_before_a_commit_says_so(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), held_lease(store, print):
        raise KeyboardInterrupt
    shown = _call("status", store.uri)
    assert "it resumes; nothing was committed as yet" in " ".join(shown.split())
    assert "run " not in [line.strip()[:4] for line in shown.splitlines()]


def test_nowhere_is_an_error(tmp_path: Path):
    with pytest.raises(RequestError, match="holds no run"):
        read_status(open_store(str(tmp_path)))


def test_view_serves_the_snapshot_and_nothing_else(finished: Store):
    finished.put("_ledger/secret.json", b"{}")
    with map_server(finished) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        with urllib.request.urlopen(base) as page:
            assert b'data-served="yes"' in page.read()
            assert page.headers["Content-Type"].startswith("text/html")
        with urllib.request.urlopen(f"{base}/index.html") as page:
            assert page.read() == finished.get("index.html")
        with urllib.request.urlopen(f"{base}/report.html") as page:
            assert b"assessed" in page.read()
        with urllib.request.urlopen(f"{base}/run.json") as run:
            assert json.load(run)["counts"]["footprints"] == 12
            assert run.headers["Content-Type"] == "application/json"
        with urllib.request.urlopen(f"{base}/live/core") as core:
            assert core.headers["Content-Type"] == "application/gzip"
        for path in ("/_ledger/secret.json", "/../out/run.json", "/%2e%2e/x", "/snapshots/"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(base + path)
        foreign = urllib.request.Request(base, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(foreign)
        server.shutdown()


def test_a_server_that_is_terminated_has_nothing_to_go_on_with(finished: Store) -> None:
    command = [*CLI, "view", finished.uri, "--no-browser"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"http://127.0.0.1:")
    process.terminate()
    said = process.communicate(timeout=60)[1].decode().splitlines()
    assert process.returncode == 143
    assert said[-1] == "error: terminated; the map is served no longer"
    assert not any("again" in line or "groups" in line for line in said)


def test_a_map_has_its_report_and_the_command_writes_it_anew(finished: Store, tmp_path: Path):
    assert b"no comparison with a reference" in finished.get("report.html")
    assert 'href="report.html"' in finished.get("index.html").decode()
    rows = current_buildings(finished, current_run(finished))
    grades = ["Destroyed", "No visible damage"] * (len(rows) // 2)
    rows[["geometry"]].assign(damage_gra=grades).to_file(tmp_path / "truth.geojson")
    scores = _call("score", finished.uri, "--truth", str(tmp_path / "truth.geojson"), "--json")
    (tmp_path / "scores.json").write_text(scores)
    _call("report", finished.uri, "--scores", str(tmp_path / "scores.json"))
    assert b"no comparison with a reference" not in finished.get("report.html")
    assert other_products(finished, current_run(finished)) == []


def test_view_says_when_a_port_is_taken(finished: Store):
    with map_server(finished) as server, pytest.raises(RequestError, match="--port 0"):
        map_server(finished, server.server_port)


def test_score_then_report_tell_one_story(finished: Store, tmp_path: Path):
    truth = buildings()
    truth["damage_label"] = ["destroyed", "intact", "damaged", "intact"] * 3
    truth[["building_id", "damage_label", "geometry"]].to_parquet(tmp_path / "truth.parquet")
    reference = ("--truth", str(tmp_path / "truth.parquet"), "--bootstrap", "20")
    text = _call("score", finished.uri, *reference, "--json")
    figures = json.loads(text)
    assert figures["coverage"]["footprints_compared"] == 9
    assert figures["coverage"]["footprints_not_assessed"] == 3
    shown = " ".join(_call("score", finished.uri, *reference).split())
    assert "pre/post difference" in shown
    assert "3 not assessed (0 of them severe)" in shown
    assert figures["rule"] in shown
    (tmp_path / "scores.json").write_text(text)
    where = _call("report", finished.uri, "--scores", str(tmp_path / "scores.json")).strip()
    page = Path(where).read_text()
    assert f"{figures['auc']['value']:.3f}" in page
    assert figures["rule"] in page
    assert "403 Forbidden" in page
    assert "<script" not in page


def test_a_report_says_what_hazard_values_said(tmp_path: Path):
    store = open_store(str(tmp_path))
    bundle = {"name": "threshold", "version": "1"}
    run = {"counts": {"footprints": 12}, "hazard_bundle": HAZARD_BUNDLE, "bundle": bundle}
    publish(store, products(buildings=with_hazard_evidence(buildings()), run=run))
    page = Path(_call("report", store.uri).strip()).read_text()
    for words in (
        "shaking 2",
        "10 of 12",
        "0 of 12",
        "2 have a probability of damage from hazard values only",
        "8 verdicts",
    ):
        assert words in page
    assert "their state is unknown" not in page


def test_one_side_of_the_question_is_not_a_question(finished: Store, tmp_path: Path):
    with pytest.raises(RequestError, match="go together"):
        _call("score", finished.uri, "--truth", "x.geojson", "--positive", "a")
    with pytest.raises(RequestError, match=r"give the values of --positive too$"):
        _call("score", finished.uri, "--truth", "x.geojson", "--negative", "a")


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--label-column", "destroyed_building"),
        ("--label-column", "destroyed_building", "--positive", "yes"),
        ("--label-column", "destroyed_building", "--positive", "yes", "--negative", "no"),
    ],
    ids=["nothing", "column", "positive", "both"],
)
def test_a_file_of_destroyed_buildings_alone_is_the_positive_file(
    finished: Store, tmp_path: Path, more: tuple[str, ...]
):
    """As OpenStreetMap has them. What the error says to do is then done."""
    rows = current_buildings(finished, current_run(finished))
    fallen = rows[["geometry"]].iloc[:4].assign(destroyed_building="yes", osm_id=range(4))
    fallen.to_file(tmp_path / "osm.geojson")
    with pytest.raises(RequestError) as caught:
        _call("score", finished.uri, "--truth", str(tmp_path / "osm.geojson"), *more)
    way = f"--truth graded.json --positive-file {tmp_path}/osm.geojson"
    assert caught.value.remedy.endswith(f"beside graded or harmless buildings: {way}")
    graded = rows[["geometry"]].iloc[4:].assign(damage_gra="No visible damage")
    graded.to_file(tmp_path / "graded.json", driver="GeoJSON")
    arguments = way.replace("graded.json", str(tmp_path / "graded.json")).split()
    said = _call("score", finished.uri, *arguments, "--json")
    assert json.loads(said)["positive"] == "polygons of the positive file"


def test_a_report_escapes_what_strangers_wrote(tmp_path: Path):
    store = open_store(str(tmp_path))
    run = {"event": {"id": "<b>x</b>"}, "counts": {"footprints": 12}}
    run["inputs"] = {"scenes": [{"href": "<img src=x onerror=alert(1)>"}], "aoi": "<img>"}
    publish(store, products(run=run))
    page = Path(_call("report", store.uri).strip()).read_text()
    assert "<img" not in page
    assert "<b>x" not in page
    assert "no comparison with a reference" in page


@pytest.mark.parametrize("damage", [b"garbage", b"", None])
def test_products_that_run_json_does_not_name_are_said_and_not_read(
    finished: Store, damage: bytes | None, capsys: pytest.CaptureFixture[str]
):
    """Fixed names of another run, then a damaged snapshot as well."""
    run, rows = current_run(finished), current_buildings(finished, current_run(finished))
    warn_of_other_products(finished)
    assert capsys.readouterr().err == ""
    good = finished.get("buildings.parquet")
    if damage is None:
        finished.delete("buildings.parquet")
    else:
        finished.put("buildings.parquet", damage)
    warn_of_other_products(finished)
    line = capsys.readouterr().err
    assert "buildings.parquet is not the product that run.json names" in line
    assert f"snapshots/{run['snapshot']} holds them" in line
    assert current_buildings(finished, run).equals(rows)

    inside = f"snapshots/{run['snapshot']}/buildings.parquet"
    finished.put(inside, b"PAR1garbage")
    with pytest.raises(StorageError, match=r"not the product that run\.json names"):
        current_buildings(finished, run)
    finished.put("buildings.parquet", good)
    assert current_buildings(finished, run).equals(rows)


def test_a_flipped_bit_of_the_same_length_is_seen(finished: Store):
    data = bytearray(finished.get("summary.csv"))
    data[5] ^= 1
    finished.put("summary.csv", bytes(data))
    assert other_products(finished, current_run(finished)) == ["summary.csv"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"[" * 100_000, b'{"snapshot": "x"}'])
def test_a_damaged_run_json_is_one_line(finished: Store, content: bytes):
    finished.put("run.json", content)
    for command in ("report", "score"):
        extra = ("--truth", "truth.parquet") if command == "score" else ()
        with pytest.raises(RequestError, match=r"run\.json: not .*quakestream map"):
            _call(command, finished.uri, *extra)
    with pytest.raises(RequestError, match=r"run\.json: not "):
        map_server(finished)
    if b"snapshot" not in content:  # and there is no ledger beside it
        with pytest.raises(RequestError, match="holds no run"):
            _call("status", finished.uri)


def test_folders_are_made_or_refused_in_words(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    check_folder(tmp_path / "c" / "d")
    assert not (tmp_path / "c").exists()
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(RequestError, match="file"):
            check_folder(path)
    with pytest.raises(RequestError, match="cannot make the folder /proc/none"):
        make_folder(Path("/proc/none"))


def test_a_count_without_images_points_to_the_images_left_out() -> None:
    assert "see below" in left_out_hint("no_imagery", ["item"])
    assert not left_out_hint("no_imagery", ["hazard"])
    assert not left_out_hint("nodata", ["item"])
