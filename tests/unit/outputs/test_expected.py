"""Products of calibrated bundles: columns, expected numbers, and the words beside them."""

import base64
import gzip
import io
import json
import re
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely

from quakestream.errors import AccountingError
from quakestream.outputs.buildings import buildings_parquet, ordered_buildings
from quakestream.outputs.expected import amount, expected, share_interval
from quakestream.outputs.figures import headline
from quakestream.outputs.report import report_page
from quakestream.outputs.summary import summary_table
from quakestream.outputs.units import named_units, neighbours, square_ids
from quakestream.outputs.viewer import viewer_html
from tests.helpers.outputs_case import LABELS, SCALE, SHARES, buildings, products, with_shares


def run_of(**changes: Any) -> dict[str, Any]:
    counts = {"footprints": 12, "assessed": 9, "not_assessed": 3, "damage": {"destroyed": 2}}
    scale = [{"label": c.label, "xbd": c.xbd} for c in SCALE]
    bundle = {"name": "b", "thresholds": {"balanced": 0.39}, "metrics": {}}
    run = {"counts": counts, "damage_scale": scale, "bundle": bundle, "shares": SHARES}
    return run | changes


def test_columns_of_shares_stand_behind_the_probabilities_and_keep_their_types() -> None:
    ordered = ordered_buildings(with_shares(buildings()), LABELS, ("dpm",))
    table = pq.read_table(io.BytesIO(buildings_parquet(ordered, LABELS, ("dpm",))))
    names = table.schema.names
    first = names.index("score")
    assert names[first - 1 : first + 9] == [
        "damage_label",
        "score",
        *(f"p_{label}" for label in LABELS),
        *("share", "share_low", "share_high", "share_area"),
        "evidence",
    ]
    assert str(table.schema.field("score").type) == str(table.schema.field("share").type) == "float"
    rows = {row["building_id"]: row for row in table.to_pylist()}
    assert (rows["b03"]["score"], rows["b03"]["share"], rows["b03"]["share_area"]) == (None,) * 3
    assert rows["b02"]["share"] == pytest.approx(0.4)


def test_scores_that_contradict_the_stated_share_are_said_first() -> None:
    scores = {"share": 0.377, "low": 0.18, "high": 0.624, "contradict": True}
    told = SHARES | {"mode": "number", "prior": {"share": 0.02}, "by_scores": scores}
    told["run"] = told["run"] | {"share": 0.05, "stated": 0.02}
    found = expected(run_of(shares=told))
    assert found is not None
    assert found.basis[:1] == found.warnings
    assert "it says 2 % destroyed, and they fit 38 % (18 to 62 %)" in found.warnings[0]
    told["by_scores"] = scores | {"contradict": False}
    agreeing = expected(run_of(shares=told))
    assert agreeing is not None
    assert not agreeing.warnings


@pytest.mark.parametrize(
    ("row", "column", "value", "words"),
    [
        (0, "score", np.nan, "assessed without a score or a share"),
        (0, "share_area", None, "assessed without a score or a share"),
        (3, "share", 0.1, "not assessed but with a score or a share"),
        (0, "share_high", 1.2, "not between 0 and 1"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(
    row: int, column: str, value: Any, words: str
) -> None:
    frame = with_shares(buildings())
    frame.loc[row, column] = value
    with pytest.raises(AccountingError, match=words):
        ordered_buildings(frame, LABELS, ("dpm",))


def test_the_summary_states_expected_numbers_beside_the_declared() -> None:
    frame = with_shares(buildings()).assign(damage_label="intact")
    half = shapely.box(*frame.total_bounds)
    west, south, east, north = half.bounds
    middle = frame.geometry.iloc[1].bounds[2] + 1e-5
    admin = gpd.GeoDataFrame(
        {"name": ["west", "east", "empty"]},
        geometry=[
            shapely.box(west, south, middle, north),
            shapely.box(middle, south, east, north),
            shapely.box(0, 0, 1, 1),
        ],
        crs=4326,
    )
    named = named_units(admin, "name", None)
    table = summary_table(frame, LABELS, named, shares=SHARES).set_index("unit")
    assert table.loc["west", "expected_destroyed"] == 0.6
    assert table.loc["east", ["expected_low", "expected_high"]].tolist() == [0.9, 1.5]
    assert table.loc["east", ["share_destroyed", "share_low", "share_high"]].tolist() == [
        0.4,
        0.3,
        0.5,
    ]
    seen = table[table["expected_destroyed"].notna()]
    shares = seen["expected_destroyed"] / seen["assessed"]
    assert seen["share_destroyed"].to_numpy() == pytest.approx(shares.to_numpy(), abs=0.01)
    names = list(table.columns)
    assert names.index("expected_destroyed") < names.index("not_assessed")
    plain = summary_table(frame, LABELS, named)
    assert not [c for c in plain.columns if c.startswith("expected")]
    nobody = {**SHARES, "areas": []}
    assert summary_table(frame, LABELS, named, shares=nobody)["share_low"].isna().all()


def test_numbers_are_told_as_people_say_them() -> None:
    told = [amount(v) for v in (0.0, 0.04, 0.3, 2.0, 9.94, 9.96, 177.8, 12_345.6)]
    assert told == ["0", "0", "0.3", "2", "9.9", "10", "178", "12,346"]
    assert share_interval({"share": 0.123, "low": 0.08, "high": 0.2}) == "12 % (8 to 20 %)"
    assert share_interval({"share": 0.02, "low": 0.02, "high": 0.02}) == "2 %"


def test_the_first_figure_is_the_expected_number_with_its_interval() -> None:
    first = headline(run_of())
    assert first.expected is not None
    assert first.expected.beside == ("of the 9 assessed (20 %); declared: 2")
    assert "estimated in each unit of summary.csv" in first.caveat[0]
    assert "declared destroyed from a probability of 50 %" in first.caveat[1]
    assert "quote the estimated number" in first.caveat[1]
    assert headline(run_of(shares=None)).expected is None
    nobody = {**SHARES, "run": {"buildings": 0, "declared": 0}, "areas": []}
    assert expected(run_of(shares=nobody)) is None


def test_a_model_for_lists_says_that_its_number_is_not_the_one_to_publish() -> None:
    lists, numbers = ({"bundle": {"name": "b", "meant_for": m}} for m in ("lists", "numbers"))
    told = expected(run_of(**lists))
    assert told is not None
    assert told.beside_it == (told.advice,) == told.basis[:1]
    assert "`profile: standard`" in told.advice
    assert "quakestream sample" in told.advice
    assert "the number declared. Take single buildings from the list." in told.basis[-1]
    for changes in ({}, numbers, lists | {"shares": SHARES | {"mode": "verified"}}):
        silent = expected(run_of(**changes))
        assert silent is not None
        assert silent.advice == ""
        assert silent.beside_it == ()
        assert "quote the estimated number" in silent.basis[-1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"prior": {"from": "hazard values"}},
            "and what hazard values say of it.",
        ),
        ({"mode": "number", "prior": {"share": 0.025}}, "told that 2.5 % of the buildings are"),
        ({"mode": "layer", "prior": {"layer": "fell"}}, "by the layer fell (models.share)"),
    ],
)
def test_where_the_share_comes_from_is_said(changes: dict[str, Any], words: str) -> None:
    found = expected(run_of(shares=SHARES | changes))
    assert found is not None
    assert words in found.basis[0]


def test_the_report_opens_with_the_expected_number_and_lists_units() -> None:
    frame = with_shares(buildings()).assign(damage_label="intact")
    shares = {**SHARES, "areas": [{**SHARES["areas"][0], "id": square_ids(frame)[0]}]}
    summary = summary_table(frame, LABELS, shares=shares)
    page = report_page(run_of(shares=shares), summary, pd.DataFrame()).decode()
    assert (
        "<b>About 1.8</b> destroyed (90 %: 0.9 to 2.7), estimated, of the 9 assessed (20 %)" in page
    )
    assert ">40 % (30 to 50 %)<" in page
    assert ">0.9 to 1.5<" in page
    unseen = summary_table(frame, LABELS, shares={**SHARES, "areas": []})
    assert ">–<" in report_page(run_of(), unseen, pd.DataFrame()).decode()


def test_the_page_holds_expected_numbers_units_and_the_share_of_each_building() -> None:
    made = products(buildings=with_shares(buildings()), run=run_of())
    rows = ordered_buildings(made.buildings, LABELS, ("dpm",))
    text = viewer_html(made, rows, run_of()).decode()
    about = _unpacked(re.search(r'id="data-about">([^<]*)<', text))
    assert about["threshold"] == 0.5
    assert about["headline"]["expected"] == {
        "label": "destroyed",
        "amount": "1.8",
        "interval": "0.9 to 2.7",
        "buildings": 9,
    }
    assert [u["id"] for u in about["shares"]] == ["east", "west"]
    assert about["shares"][0]["share"] == "40 % (30 to 50 %)"
    group = _unpacked(re.search(r'class="rows">([^<]*)<', text))
    seen = rows["status"].eq("assessed").to_numpy()
    share = np.array(group["number"]["share"]["values"])
    assert share[seen] == pytest.approx(1000 * rows["share"].to_numpy(float)[seen])
    assert (share[~seen] == -1).all()
    assert group["text"]["share_area"]["words"] == ["east", "west"]


def test_a_page_without_calibration_says_nothing_of_shares() -> None:
    made = products()
    run = run_of(shares=None)
    rows = ordered_buildings(made.buildings, LABELS, ("dpm",))
    about = _unpacked(re.search(r'id="data-about">([^<]*)<', viewer_html(made, rows, run).decode()))
    assert about["shares"] is None
    assert about["headline"]["expected"] is None
    assert about["threshold"] == 0.39


def _unpacked(found: re.Match[str] | None) -> dict[str, Any]:
    assert found is not None
    content: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found.group(1))))
    return content


def test_squares_that_touch_are_neighbours() -> None:
    units = np.array(
        [f"37N_E{e}_N{n}" for e, n in ((0, 0), (500, 0), (500, 500), (1500, 0))]
        + ["36N_E500_N500", "outside"],
        object,
    )
    assert neighbours(units, None).tolist() == [[0, 1], [0, 2], [1, 2]]
    assert neighbours(units[:1], None).shape == (0, 2)


def test_districts_that_touch_are_neighbours_whatever_small_gap_is_between_them() -> None:
    admin = gpd.GeoDataFrame(
        {"name": ["a", "b", "c", "a"]},
        geometry=[
            shapely.box(36, 37, 36.1, 37.1),
            shapely.box(36.1005, 37, 36.2, 37.1),
            shapely.box(36.3, 37, 36.4, 37.1),
            shapely.box(36.4, 37, 36.5, 37.1),
        ],
        crs=4326,
    )
    named = named_units(admin, "name", None)
    units = np.array(["a", "b", "c", "outside"], object)
    assert neighbours(units, named).tolist() == [[0, 1], [0, 2]]
    assert neighbours(units[1:], named).shape == (0, 2)
