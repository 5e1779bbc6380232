"""Spot checks from a published map to a restated one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import typer
from shapely.geometry import box
from sklearn.metrics import cohen_kappa_score
from typer.testing import CliRunner

from quakestream.cli.common import EXIT_ATTENTION
from quakestream.cli.map import needs_attention, warn_of_kept_answers
from quakestream.cli.sample import sample
from quakestream.cli.verify import INTERVALS, verify
from quakestream.errors import RequestError
from quakestream.fusion.check_counts import (
    DAMAGED,
    DESTROYED,
    INTACT,
    UNKNOWN,
    CheckedMap,
    count_draws,
)
from quakestream.outputs.answers import Answers, read_answers
from quakestream.outputs.buildings import ordered_buildings
from quakestream.outputs.figures import headline
from quakestream.outputs.fixed_names import other_products
from quakestream.outputs.map_layers import layers_of
from quakestream.outputs.publish import publish
from quakestream.outputs.readback import current_buildings, current_run, current_table
from quakestream.outputs.republish import snapshot_products
from quakestream.outputs.restated import restate, threshold_for
from quakestream.outputs.snapshots import changes, snapshots_of
from quakestream.outputs.spot_sample import (
    SAMPLE_CSV,
    SampleRequest,
    districts_in,
    draw_sample,
    map_rows,
    read_sample,
)
from quakestream.outputs.verify_map import publish_verified, verify_map
from quakestream.outputs.viewer_content import about, content_of
from quakestream.pipeline.run import Result
from quakestream.reduce.strata import FREE_LEVELS, STATED_LEVELS, strata_of
from quakestream.storage import StorageOptions, Store, open_store
from tests.helpers.outputs_case import buildings, products

HEAD = "building_id,answer,annotator,answered_at\n"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of 200 buildings, 150 of them assessed, with a sample of 40."""
    store = open_store(str(tmp_path_factory.mktemp("checks") / "out"))
    publish(store, products(buildings=buildings(200)))
    _draw(store, SampleRequest(checks=40))
    return Path(store.uri)


@pytest.fixture
def store(published: Path, tmp_path: Path) -> Store:
    shutil.copytree(published, tmp_path / "out")
    return open_store(str(tmp_path / "out"))


def _draw(store: Store, request: SampleRequest) -> None:
    for name, data in draw_sample(store, current_run(store), request).files().items():
        store.put(name, data)


def _answered(store: Store, path: Path, **changes: str) -> str:
    """Answers that follow the map's own verdicts, but for `changes` by building."""
    table = read_sample(store).table
    label = table["damage_label"].replace("", "intact")
    said = [changes.get(b, a) for b, a in zip(table["building_id"], label, strict=True)]
    lines = [f"{b},{a},ayse,\n" for b, a in zip(table["building_id"], said, strict=True)]
    path.write_text(HEAD + "".join(lines))
    return str(path)


def _commands() -> typer.Typer:
    app = typer.Typer()
    app.command()(sample)
    app.command()(verify)
    return app


def _read(path: Path, text: str) -> Answers:
    path.write_text(text)
    return read_answers([str(path)], StorageOptions())


def test_the_sample_says_how_it_was_drawn(store: Store):
    table = pd.read_csv(store.uri_of(SAMPLE_CSV))
    assert len(table) == table["building_id"].nunique() == 40
    rows = current_buildings(store, current_run(store)).set_index("building_id")
    drawn = rows.loc[table["building_id"]]
    assert (drawn["status"] == "assessed").all()
    assert (1 / table["inclusion_probability"]).sum() == pytest.approx(150, rel=1e-4)
    inside = drawn.geometry.representative_point()
    assert table["longitude"].to_numpy() == pytest.approx(inside.x, abs=1e-6)
    again = read_sample(store)
    same = draw_sample(store, current_run(store), SampleRequest(checks=40))
    assert (again.strata, again.snapshot) == (same.strata, same.snapshot)
    assert again.table["building_id"].tolist() == same.table["building_id"].tolist()


def test_a_map_that_states_its_share_has_checks_where_that_is_unsure(store: Store):
    rows = map_rows(store, run := current_run(store))
    seen_N = (rows["status"] == "assessed").to_numpy()
    p_N, nowhere_N = rows.loc[seen_N, "p_destroyed"].to_numpy(float), np.zeros(150, np.int64)
    assert draw_sample(store, run, SampleRequest(checks=40)).strata == strata_of(
        p_N, nowhere_N, 40, FREE_LEVELS
    )
    for column, value in (("score", 0.5), ("share", 0.2), ("share_low", 0.1), ("share_high", 0.3)):
        rows[column] = np.where(seen_N, value, np.nan)
    rows["share_area"] = np.where(seen_N, "all", None)
    publish(store, products(buildings=rows))
    assert draw_sample(store, current_run(store), SampleRequest(checks=40)).strata == strata_of(
        p_N, nowhere_N, 40, STATED_LEVELS
    )


def test_by_district_every_district_gets_checks(store: Store):
    drawn = draw_sample(store, current_run(store), SampleRequest(checks=60, by_district=True))
    counts = drawn.table["district"].value_counts()
    assert len(counts) > 1
    assert counts.min() >= 2
    assert sorted(counts.index) == sorted(name for names in drawn.domains for name in names)


@pytest.mark.parametrize(
    ("checks", "by", "lines"),
    [
        (
            40,
            "",
            ["40 buildings to check, by 4 ranges of p, the map's probability of destroyed:"],
        ),
        (
            12,
            "district",
            [
                "12 buildings to check, by district (1, and 3 smaller ones together):",
                "  (each has too few checks for ranges of p: those take 20 or more)",
            ],
        ),
    ],
)
def test_what_a_sample_is_stratified_by_is_said(
    store: Store, checks: int, by: str, lines: list[str]
):
    shown = CliRunner().invoke(
        _commands(), ["sample", store.uri, "--n", str(checks), *(["--by", by] if by else [])]
    )
    assert shown.stdout.splitlines()[: len(lines)] == lines


def test_answers_restate_the_map_in_a_new_snapshot(store: Store, tmp_path: Path):
    before = current_run(store)
    done = verify_map(store, [_answered(store, tmp_path / "a.csv")])
    snapshot = publish_verified(store, done, lambda: None)
    run = current_run(store)
    assert run["snapshot"] == snapshot != before["snapshot"]
    assert run["verification"]["of"] == before["snapshot"]
    assert other_products(store, run) == []
    rows = current_buildings(store, run)
    told = json.loads(store.get("verification.json"))
    seen = rows["status"] == "assessed"
    p_N = rows.loc[seen, "p_destroyed"].to_numpy(float)
    number = told["totals"]["destroyed"]["value"]
    assert p_N.sum() == pytest.approx(number, abs=1e-3)
    assert run["shares"]["run"]["expected"] == number == (rows["damage"] == 2).sum()
    assert sum(one["value"] for one in told["totals"].values()) == 150
    assert (p_N >= run["shares"]["threshold"]).sum() == (rows["damage"] == 2).sum()
    assert told["restated"]["declared"]["destroyed"] == (rows["damage"] == 2).sum()
    assert (
        current_table(store, run, "summary.csv")["destroyed"].sum() == (rows["damage"] == 2).sum()
    )
    whole = run["shares"]["run"]
    assert whole["expected_low"] < whole["expected"] < whole["expected_high"]
    summary = current_table(store, run, "summary.csv")
    assert summary["expected_destroyed"].notna().sum() == len(run["shares"]["areas"])
    old = current_buildings(store, before)
    unchecked = rows["checked"].isna() & seen
    pair = (frame.loc[unchecked, "p_destroyed"].rank() for frame in (old, rows))
    order = next(pair).corr(next(pair))
    assert order > 0.9
    again = verify_map(store, [])  # from the answers that were kept, and from the model's scores
    assert publish_verified(store, again, lambda: None) == snapshot


def test_a_census_gives_the_answers_themselves(store: Store, tmp_path: Path):
    _draw(store, SampleRequest(checks=1000))
    path = _answered(store, tmp_path / "a.csv")
    told = verify_map(store, [path]).result.record
    labels = current_buildings(store, current_run(store))["damage_label"].value_counts()
    for name, one in told["totals"].items():
        assert (one["low"], one["value"], one["high"]) == (labels[name],) * 3
    assert told["precision"] == told["recall"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert told["by_design_alone"]["low"] == told["by_design_alone"]["high"] == labels["destroyed"]


def test_unsure_missing_and_foreign_answers_are_counted(store: Store, tmp_path: Path):
    path = tmp_path / "a.csv"
    ids = read_sample(store).table["building_id"].tolist()
    _answered(store, path, **{ids[0]: "cannot_tell", ids[1]: "cannot_tell"})
    lines = path.read_text().splitlines()
    spare = next(b for b in (f"b{n:02d}" for n in range(200)) if b not in ids)
    kept = [line for line in lines if not line.startswith(f"{ids[2]},")]
    path.write_text("\n".join([*kept, f"{spare},intact,ayse,", "nowhere,intact,ayse,"]))
    told = verify_map(store, [str(path)]).result.record
    assert told["answers"]["answered"] == 37
    assert (told["answers"]["cannot_tell"], told["answers"]["missing"]) == (2, 1)
    assert told["answers"]["outside_sample"] == sorted([spare, "nowhere"])
    assert told["answers"]["not_in_map"] == ["nowhere"]
    worst, best = (told["bounds"][f"if all of these are {a}"] for a in ("destroyed", "intact"))
    assert told["bounds"]["buildings"] == 3
    assert best["value"] <= told["totals"]["destroyed"]["value"] <= worst["value"]


def test_only_intact_answers_are_an_answer(store: Store, tmp_path: Path):
    ids = read_sample(store).table["building_id"]
    path = tmp_path / "a.csv"
    path.write_text(HEAD + "".join(f"{b},intact,ayse,\n" for b in ids))
    done = verify_map(store, [str(path)])
    record, restated = done.result.record, done.result.restated
    told = record["totals"]["destroyed"]
    assert told["low"] == 0
    assert told["high"] < 15
    assert (restated["damage"] == 2).sum() == told["value"]
    assert not (restated["damage"] == 2)[restated["checked"] == "intact"].any()
    assert record["recall"] == {"value": None, "low": None, "high": None}
    assert record["warnings"] == [
        "Every answer is intact (40 of 40): answers of one class cannot say whether the map's "
        "order is right."
    ]
    shown = CliRunner().invoke(_commands(), ["verify", store.uri, str(path), "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "recall – (nothing fell in the sample)" in shown.output


def test_checked_buildings_carry_their_answers(store: Store, tmp_path: Path):
    table = read_sample(store).table.set_index("building_id")
    wrong = [table.index[table["damage_label"] == a][0] for a in ("destroyed", "damaged", "intact")]
    said = dict(zip(wrong, ("intact", "destroyed", "damaged"), strict=True))
    unsure = next(b for b in table.index if b not in said)
    path = _answered(store, tmp_path / "a.csv", **said, **{unsure: "cannot_tell"})
    publish_verified(store, verify_map(store, [path]), lambda: None)
    rows = current_buildings(store, current_run(store)).set_index("building_id")
    answers = table["damage_label"].to_dict() | said
    del answers[unsure]
    assert rows["checked"].dropna().to_dict() == answers
    checked = rows.loc[list(answers)]
    assert checked["damage_label"].tolist() == list(answers.values())
    for label in ("destroyed", "damaged", "intact"):
        assert checked[f"p_{label}"].tolist() == [float(a == label) for a in answers.values()]
    assert (checked["uncertainty"] == 0).all()


def test_damaged_is_not_destroyed_on_a_scale_of_two_classes():
    rows = buildings(24).query("status == 'assessed'").reset_index(drop=True)
    rows["p_intact"] = 1 - rows["p_destroyed"]
    rows.attrs["labels"] = ("intact", "destroyed")
    answer_N = np.array([DAMAGED, DESTROYED, INTACT, *[UNKNOWN] * 15])
    p_N, zero_N = rows["p_destroyed"].to_numpy(float), np.zeros(18, np.int64)
    seen = CheckedMap(
        p_N=p_N,
        p_damaged_N=p_N,
        stratum_N=zero_N,
        strata=1,
        district_N=zero_N,
        districts=1,
        declared_N=p_N > 0.5,
        answer_N=answer_N,
    )
    drawn = count_draws(seen, draws=200)
    told, _ = restate(rows, answer_N, seen, drawn)
    assert told["checked"].dropna().tolist() == ["damaged", "destroyed", "intact"]
    assert told["damage_label"].tolist()[:3] == ["intact", "destroyed", "intact"]
    assert told["p_destroyed"].tolist()[:3] == [0, 1, 0]
    assert (told["damage"] == 1).sum() == drawn.destroyed
    assert told["p_destroyed"].sum() == pytest.approx(drawn.destroyed, abs=1e-5)


def test_answers_against_the_map_are_said_and_its_order_stays(store: Store, tmp_path: Path):
    _draw(store, SampleRequest(checks=60))
    table = read_sample(store).table.set_index("building_id")
    median = table["p_destroyed"].median()
    said = {b: "intact" if p > median else "destroyed" for b, p in table["p_destroyed"].items()}
    done = verify_map(store, [_answered(store, tmp_path / "a.csv", **said)])
    told = done.result.record
    assert told["warnings"][-1].startswith("The answers do not follow the map's score")
    least, most = told["totals"]["destroyed"]["low"], told["totals"]["destroyed"]["high"]
    assert 50 < least < most < 110  # about half of 150, though the map names less
    before, after = current_buildings(store, done.base), done.result.restated
    free_N = (after["checked"].isna() & (after["status"] == "assessed")).to_numpy()
    district_N = districts_in(store, done.base, before)
    for name in np.unique(district_N[free_N]):
        rows_N = free_N & (district_N == name)
        order = np.argsort(before.loc[rows_N, "p_destroyed"].to_numpy(), kind="stable")
        assert (np.diff(after.loc[rows_N, "p_destroyed"].to_numpy()[order]) >= 0).all()


def test_buildings_of_equal_score_are_declared_alike():
    p_N = np.array([0.9, 0.5, 0.5, 0.5, 0.1], np.float32)
    reached = [int((p_N >= threshold_for(p_N, number)).sum()) for number in range(6)]
    assert reached == [0, 1, 1, 4, 4, 5]


def test_checks_that_nobody_could_tell_are_said_first(store: Store, tmp_path: Path):
    ids = read_sample(store).table["building_id"]
    unsure = dict.fromkeys(ids[:32], "cannot_tell")
    path = _answered(store, tmp_path / "a.csv", **unsure)
    shown = CliRunner().invoke(_commands(), ["verify", store.uri, path])
    assert shown.exit_code == EXIT_ATTENTION, shown.output
    told = json.loads(store.get("verification.json"))
    low, high = (told["bounds"][f"if all of these are {a}"] for a in ("intact", "destroyed"))
    total = told["totals"]["destroyed"]
    assert low["value"] < total["low"] or high["value"] > total["high"]
    warning = (
        "Only 8 of 40 checks say what state a building is in. If the others differ, the number is "
        f"{low['low']} to {high['high']}: do not quote {total['value']} without this."
    )
    lines = shown.output.splitlines()
    assert lines[lines.index(INTERVALS) + 1] == warning
    run = current_run(store)
    assert run["notes"] == run["verification"]["warnings"] == [warning]
    products = snapshot_products(store, run)
    rows = ordered_buildings(products.buildings, products.labels, products.layers)
    assert layers_of(products, rows).caveat.startswith(warning)  # hand-over files say it, too
    assert headline(run).caveat[0] == warning  # and the page, and the report


def test_a_folder_without_a_map_stays_as_it_is(tmp_path: Path):
    (tmp_path / "a.csv").write_text(HEAD + "b01,intact,a,\n")
    (tmp_path / "empty").mkdir()
    refused = CliRunner().invoke(
        _commands(), ["verify", str(tmp_path / "empty"), str(tmp_path / "a.csv")]
    )
    assert isinstance(refused.exception, RequestError)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_later_map_says_that_answers_are_kept(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    done = verify_map(store, [_answered(store, tmp_path / "a.csv")])
    publish_verified(store, done, lambda: None)
    publish(store, products(buildings=buildings(200, seed=1)))
    run = current_run(store)
    assert run["answers_not_applied"] == "spot_checks/answers.csv"
    verified = next(one.id for one in snapshots_of(store) if "verification" in one.run)
    of_model = changes(store, done.base["snapshot"], run["snapshot"])
    assert of_model.unapplied is None
    waiting = changes(store, verified, run["snapshot"])
    assert waiting.unapplied == sum(n for _, _, n in of_model.verdicts) > 0
    assert "kept answers are not applied" in waiting.model_lines[-1]
    later = Result(out=store.uri, run={**run, "bundle": {}}, issues=(), store=store)
    assert needs_attention(later)
    warn_of_kept_answers(later)
    told = capsys.readouterr()
    assert told.err == (
        "the numbers of this map are not verified: answers of an earlier one are kept in "
        f"spot_checks/answers.csv; `quakestream verify {store.uri}` applies them\n"
    )
    assert told.out == ""
    assert not store.exists("verification.json")
    again = verify_map(store, [])
    told = again.result.record
    assert told["answers"]["answered"] == 40
    assert told["sample"]["snapshot"] == done.base["snapshot"] != run["snapshot"]
    publish_verified(store, again, lambda: None)
    applied = current_run(store)
    assert "answers_not_applied" not in applied
    assert not needs_attention(replace(later, run={**applied, "bundle": {}}))
    assert applied["notes"] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no answers"),
        (HEAD, "holds no answers"),
        (HEAD + "b01,,a,\n", "holds no answers"),
        (
            "id,answer\nb01,intact\n",
            "lacks the column building_id: expected building_id and",
        ),
        ("b,id,a\n1,2,3\n", "lacks the columns building_id and answer: .* got b, id, a$"),
        (HEAD + "b01,colapsed,a,\n", "unknown answer"),
        (HEAD + ",intact,a,\n", "has no building_id"),
        (HEAD + "b01,intact,a,\nb01,damaged,a,\n", "two answers"),
        ('{"type": "FeatureCollection"}', "is not GeoJSON"),
    ],
)
def test_bad_answers_are_refused_with_their_place(tmp_path: Path, text: str, said: str):
    with pytest.raises(RequestError, match=said):
        _read(tmp_path / "a.csv", text)


def test_a_file_of_answers_that_is_not_there_is_told_once(tmp_path: Path):
    path = tmp_path / "none.csv"
    with pytest.raises(RequestError) as caught:
        read_answers([str(path)], StorageOptions())
    assert str(caught.value) == f"answers {path}: cannot be read: there is no such file"


def test_answers_of_another_sample_are_refused(store: Store, tmp_path: Path):
    (tmp_path / "a.csv").write_text(HEAD + "x1,intact,a,\n")
    with pytest.raises(RequestError, match="no answer is one of a building of the sample"):
        verify_map(store, [str(tmp_path / "a.csv")])


def test_a_map_without_a_sample_says_how_to_draw_one(tmp_path: Path):
    store = open_store(str(tmp_path / "out"))
    publish(store, products())
    (tmp_path / "a.csv").write_text(HEAD + "b01,intact,a,\n")
    with pytest.raises(RequestError, match="no sample was drawn"):
        verify_map(store, [str(tmp_path / "a.csv")])


def test_spreadsheets_and_geojson_are_read(tmp_path: Path):
    text = "\ufeffbuilding_id;answer;annotator\r\n007;Cannot tell;\r\n8;Intact;ben\r\n"
    told = _read(tmp_path / "cem.csv", text)
    assert [(a.building_id, a.answer, a.annotator) for a in told.rows] == [
        ("007", "cannot_tell", "cem"),
        ("8", "intact", "ben"),
    ]
    feature = {"type": "Feature", "properties": {"building_id": 7, "answer": "destroyed"}}
    document = json.dumps({"type": "FeatureCollection", "features": [feature]})
    assert _read(tmp_path / "a.geojson", document).settled == {"7": "destroyed"}


def test_the_majority_settles_and_a_tie_cannot_be_told(tmp_path: Path):
    rows = ["b1,intact,a", "b1,intact,b", "b1,damaged,c", "b2,intact,a", "b2,damaged,b"]
    rows += ["b3,cannot_tell,a", "b3,destroyed,b", "b4,cannot_tell,a", "b1,intact,a"]
    told = _read(tmp_path / "a.csv", "building_id,answer,annotator\n" + "\n".join(rows))
    expected = {"b1": "intact", "b2": "cannot_tell", "b3": "destroyed", "b4": "cannot_tell"}
    assert told.settled == expected
    assert told.tied == ("b2",)
    assert set(told.conflicts) == {"b1", "b2"}
    assert told.repeated == 1


def test_kappa_is_that_of_scikit_learn(tmp_path: Path):
    words = np.array(["destroyed", "damaged", "intact"])
    rng = np.random.default_rng(2)
    one = words[rng.integers(0, 3, 60)]
    two = np.where(rng.random(60) < 0.7, one, words[rng.integers(0, 3, 60)])
    lines = [f"b{n},{a},x\nb{n},{b},y" for n, (a, b) in enumerate(zip(one, two, strict=True))]
    told = _read(tmp_path / "a.csv", "building_id,answer,annotator\n" + "\n".join(lines))
    assert told.agreement[0].agree == pytest.approx((one == two).mean())
    assert told.agreement[0].kappa == pytest.approx(cohen_kappa_score(one, two))


def test_the_commands_write_a_sheet_and_print_the_numbers(store: Store, tmp_path: Path):
    app, run = _commands(), CliRunner().invoke
    folder = tmp_path / "check"
    drawn = run(app, ["sample", store.uri, "--n", "12", "--not-assessed", "3", "-o", str(folder)])
    assert drawn.exit_code == 1, drawn.output  # this map has no scenes to show
    assert "15 buildings without a picture" in drawn.output
    assert "b0" in (folder / "sheet.html").read_text()
    path = _answered(store, tmp_path / "a.csv")
    told = run(app, ["verify", store.uri, path, "--dry-run"])
    assert told.exit_code == 0, told.output
    assert "150 assessed buildings" in told.output
    assert "by 3 checks" in told.output
    shown = run(app, ["verify", store.uri, path, "--json"])
    assert json.loads(shown.output)["totals"].keys() == {"destroyed", "damaged", "intact"}
    refused = run(app, ["sample", store.uri])
    assert isinstance(refused.exception, RequestError)
    assert "--replace" in refused.exception.remedy


def test_a_calibrated_map_has_the_shares_and_the_names_of_its_districts(tmp_path: Path):
    rows = buildings(80)
    seen = (rows["status"] == "assessed").to_numpy()
    for column in ("score", "share", "share_low", "share_high"):
        rows[column] = np.where(seen, 0.5, np.nan)
    rows["share_area"] = np.where(seen, "all", None)
    store = open_store(str(tmp_path / "out"))
    west, south, east, north = rows.total_bounds
    halves = [
        box(west, south, (west + east) / 2, north),
        box((west + east) / 2, south, east, north),
    ]
    admin = gpd.GeoDataFrame(
        {"name": ["Onikişubat", "Merkez"], "code": ["046", None]}, geometry=halves, crs=4326
    )
    case = products(buildings=rows)
    publish(store, replace(case, admin=admin, admin_id="name", admin_code="code"))
    _draw(store, SampleRequest(checks=30, by_district=True))
    sampled = read_sample(store)
    assert set(zip(sampled.table["district"], sampled.table["district_name"], strict=True)) == {
        ("046", "Onikişubat"),
        ("Merkez", "Merkez"),
    }
    assert any(name.startswith("Onikişubat (046)") for name in sampled.table["stratum"])
    done = verify_map(store, [_answered(store, tmp_path / "a.csv")])
    publish_verified(store, done, lambda: None)
    assert {one["name"] for one in done.result.record["districts"]} == {"Onikişubat", "Merkez"}
    shown = CliRunner().invoke(_commands(), ["verify", store.uri, "--dry-run"])
    for text in (shown.stdout, store.get("report.html").decode()):
        assert "Onikişubat (046)" in text
    assert f"People told the state of {len(sampled.table)} of {len(sampled.table)}" in text
    page = about(content_of(snapshot_products(store, current_run(store)), current_run(store)), [])
    assert {"Onikişubat (046)", "Merkez"} <= {one["title"] for one in page["shares"]}
    assert {"046", "Merkez"} <= set(page["areas"]["unit"])
    after = current_buildings(store, run := current_run(store)).set_index("building_id")
    for area in run["shares"]["areas"]:
        inside = after[after["share_area"] == area["id"]]
        assert len(inside) == area["buildings"]
        assert inside["share"].unique() == pytest.approx([area["share"]], abs=1e-6)
        assert inside["share_high"].unique() == pytest.approx([area["high"]], abs=1e-6)
    assert after.loc[after["status"] == "assessed", "score"].eq(0.5).all()
