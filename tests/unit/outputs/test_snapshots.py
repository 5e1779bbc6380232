"""Published states of a map: listed, compared, verified and pruned."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from quakestream.cli.snapshots import snapshots
from quakestream.errors import RequestError
from quakestream.outputs.layout import SNAPSHOTS
from quakestream.outputs.publish import publish
from quakestream.outputs.readback import current_run
from quakestream.outputs.snapshots import (
    changes,
    chosen,
    damaged_objects,
    fates,
    prune,
    snapshots_of,
)
from quakestream.outputs.spot_sample import SAMPLE_JSON
from quakestream.storage import Store, open_store
from tests.helpers.outputs_case import buildings, products

APP = typer.Typer()
APP.command()(snapshots)


def run_command(*arguments: str) -> tuple[int, dict[str, object]]:
    done = CliRunner().invoke(APP, [*arguments, "--json"])
    return done.exit_code, json.loads(done.stdout)


class Clock(datetime):
    """A clock that goes on by an hour each time it is read."""

    hours = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Clock":
        cls.hours += 1
        return cls(2026, 1, 1, tzinfo=tz) + timedelta(hours=cls.hours)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quakestream.outputs.publish.datetime", Clock)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three states: all, two verdicts changed and a building more, and the first one again."""
    store = open_store(str(tmp_path))
    ids = []
    for rows in (buildings(), changed(), buildings()):
        ids.append(publish(store, products(buildings=rows)))
    assert ids[0] == ids[2] != ids[1]  # the same map keeps its snapshot
    publish(store, products(buildings=changed()))
    return store


def changed() -> pd.DataFrame:
    frame = buildings(13)
    others = buildings()
    frame.iloc[:12] = others
    known = frame.index[frame["damage"].notna()]
    frame.loc[known[0], "damage"] = (frame.loc[known[0], "damage"] + 1) % 3
    frame.loc[known[1], ["status", "reason", "damage"]] = ["not_assessed", "cloud", None]
    for label in ("intact", "damaged", "destroyed"):
        frame.loc[known[1], f"p_{label}"] = None
    return frame


def test_snapshots_are_listed_in_the_order_in_which_they_became_current(store: Store) -> None:
    known = snapshots_of(store)
    assert [one.current for one in known] == [False, True]
    assert [one.run["counts"]["footprints"] for one in known] == [12, 13]
    code, told = run_command(store.uri)
    assert code == 0
    assert [one["id"] for one in told["snapshots"]] == [one.id for one in known]  # type: ignore[attr-defined]
    assert known[0].bytes > 1000


def test_a_state_without_a_verdict_says_why(tmp_path: Path) -> None:
    rows = buildings()
    rows[["status", "reason", "damage"]] = ["not_assessed", "nodata", None]
    rows[["p_intact", "p_damaged", "p_destroyed"]] = None
    judged = products(buildings=rows)
    publish(
        open_store(str(tmp_path)),
        replace(judged, run={**judged.run, "bundle": {"name": "model"}}),
    )
    for arguments in ([str(tmp_path)], [str(tmp_path), "show"]):
        lines = CliRunner().invoke(APP, arguments).stdout.splitlines()
        assert "  0 of 12 assessed: 12 nodata" in lines


def test_what_changed_is_counted_by_verdict(store: Store) -> None:
    older, newer = snapshots_of(store)
    found = changes(store, older.id, newer.id)
    assert (found.added, found.removed, found.unchanged) == (1, 0, 10)
    assert sum(n for _, _, n in found.verdicts) == 2
    before = buildings().set_index("building_id")["damage"].dropna()
    labels = ("intact", "damaged", "destroyed")
    first, second = labels[before.iloc[0]], labels[before.iloc[1]]
    after = labels[(before.iloc[0] + 1) % 3]
    assert set(found.verdicts) == {(first, after, 1), (second, "not_assessed", 1)}
    code, told = run_command(store.uri, "show", newer.id)
    assert code == 0
    assert told["changes"] == found.to_json()


def test_another_model_is_said_before_the_verdicts_that_changed(tmp_path: Path) -> None:
    store, rows = open_store(str(tmp_path)), buildings()
    for name, profile in (("fast", "rapid"), ("sure", "standard")):
        bundle = {"name": name, "version": "1", "digest": name}
        run = products(buildings=rows).run | {"bundle": bundle, "request": {"profile": profile}}
        publish(store, products(buildings=rows, run=run))
        rows = changed()
    older, newer = snapshots_of(store)
    assert changes(store, older.id, newer.id).models == (("fast 1", "sure 1"),)
    assert changes(store, newer.id, newer.id).models == ()
    assert [one.told for one in (older, newer)] == [
        "map with fast, profile rapid",
        "map with sure, profile standard",
    ]
    shown = CliRunner().invoke(APP, [store.uri, "show"]).stdout
    assert "the model changed from fast 1 to sure 1" in " ".join(shown.split())


def test_the_first_state_has_nothing_before_it(store: Store) -> None:
    older, newer = snapshots_of(store)
    assert run_command(store.uri, "show", older.id)[1]["changes"] is None
    back = run_command(store.uri, "show", older.id, "--against", newer.id)[1]["changes"]
    assert (back["added"], back["removed"]) == (0, 1)  # type: ignore[index]


def test_a_damaged_or_missing_product_is_named(store: Store, tmp_path: Path) -> None:
    older, newer = snapshots_of(store)
    assert damaged_objects(store, older) == damaged_objects(store, newer) == []
    assert run_command(store.uri, "verify")[0] == 0
    folder = tmp_path / SNAPSHOTS / older.id
    (folder / "summary.csv").write_bytes(b"x" + (folder / "summary.csv").read_bytes()[1:])
    (folder / "report.html").unlink()
    code, told = run_command(store.uri, "verify")
    assert code == 1
    damaged = {one["id"]: set(one["damaged"]) for one in told["snapshots"]}  # type: ignore[attr-defined]
    assert damaged == {older.id: {"summary.csv", "report.html"}, newer.id: set()}


def test_pruning_keeps_the_newest_the_current_and_the_sampled(store: Store) -> None:
    known = snapshots_of(store)
    store.put(SAMPLE_JSON, json.dumps({"snapshot": known[0].id}).encode())
    assert [one.why for one in prune(store, known, 1)] == [
        "spot checks were drawn from it",
        "the map shows it",
    ]
    store.delete(SAMPLE_JSON)
    assert [one.kept for one in prune(store, known, 2)] == [True, True]
    code, told = run_command(store.uri, "prune", "--keep", "1")
    assert (code, told["deleted"], told["kept"]) == (0, [known[0].id], 1)
    assert [one["why"] for one in told["states"]] == ["not the newest", "the map shows it"]  # type: ignore[attr-defined]
    assert not store.list(f"{SNAPSHOTS}{known[0].id}/")
    assert current_run(store)["snapshot"] == known[1].id
    assert damaged_objects(store, known[1]) == []


def test_a_state_that_comes_again_is_the_newest_and_says_so(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for rows in (buildings(), changed(), buildings()):
        publish(store, products(buildings=rows))
    other, current = snapshots_of(store)
    assert (other.current, current.current) == (False, True)
    assert current.id < other.id  # its name has the time of its first publication
    lines = CliRunner().invoke(APP, [store.uri]).stdout.splitlines()
    assert lines[0] == "2 states, the oldest first; the map shows the last"
    again = current.published[:19].replace("T", " ")
    assert lines[4].startswith(f"{current.id}  published 2026-01-0")
    assert lines[4].endswith(f", again {again} UTC  <- current")
    assert [one.snapshot.id for one in prune(store, [other, current], 1) if not one.kept] == [
        other.id
    ]


def test_the_state_that_answers_were_applied_to_stays(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    model = publish(store, products(buildings=buildings()))
    between = publish(store, products(buildings=changed().iloc[:12]))
    case = products(buildings=changed())
    unknown = {"value": None, "low": None, "high": None}
    verification = {
        "of": model,
        "answers": {"answered": 40, "sampled": 50, "cannot_tell": 10},
        "totals": {"destroyed": {"value": 3, "low": 1, "high": 6}},
        "precision": unknown,
        "recall": unknown,
    }
    publish(store, replace(case, run=dict(case.run) | {"verification": verification}))
    found = fates(store, snapshots_of(store), 1)
    assert [(one.kept, one.why) for one in found] == [
        (True, "the current state is this one, verified"),
        (False, "not the newest"),
        (True, "the map shows it"),
    ]
    assert found[1].snapshot.id == between
    assert found[2].snapshot.made_by == f"verify: 40 answers applied to {model}"
    assert found[0].snapshot.made_by.startswith("map with ")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["prune"], "prune deletes snapshots.*how many"),
        (["prune", "--keep", "0"], "no snapshot would stay"),
        (["show", "1999"], "no such snapshot"),
        (["show", "2"], "several snapshots begin like this"),
    ],
)
def test_wrong_requests_are_refused(store: Store, arguments: list[str], match: str) -> None:
    done = CliRunner().invoke(APP, [store.uri, *arguments])
    assert isinstance(done.exception, RequestError)
    with pytest.raises(RequestError, match=match):
        raise done.exception


def test_a_name_may_be_shortened(store: Store) -> None:
    older, newer = snapshots_of(store)
    assert chosen([older, newer], newer.id) is newer
    assert chosen([older, newer], None) is newer
