"""Maps of others: every publisher by its own columns, and agreement that can be counted by hand."""

import io
import json
import re
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from rich.console import Console
from sklearn.metrics import cohen_kappa_score

from quakestream.cli.compare import _show
from quakestream.errors import RequestError
from quakestream.outputs.agreement import CompareOptions, compare, how_many, kappa, written
from quakestream.outputs.others import OtherMap, OtherRequest, read_other
from quakestream.outputs.scores import ScoreOptions, score
from quakestream.outputs.truth import TruthRequest, read_truth
from tests.helpers.outputs_case import SCALE, buildings

QUICK = CompareOptions(resamples=50)


def _ours(labels: list[str | None]) -> gpd.GeoDataFrame:
    """Squares of 10 m with these verdicts; None: not assessed."""
    frame = buildings(len(labels))
    frame["damage_label"] = labels
    frame["status"] = ["assessed" if label else "not_assessed" for label in labels]
    return frame


def _file(folder: Path, columns: dict[str, list[Any]], *, points: bool = False) -> Path:
    n = len(next(iter(columns.values())))
    shapes = buildings(n).to_crs(32637).geometry
    path = folder / "other.gpkg"
    frame = gpd.GeoDataFrame(columns, geometry=shapes.centroid if points else shapes, crs=32637)
    frame.to_file(path, layer="only")
    return path


def _claims(folder: Path, columns: dict[str, list[Any]], suffix: str = "") -> OtherMap:
    return read_other(OtherRequest.parse(f"{_file(folder, columns)}{suffix}"))


@pytest.mark.parametrize(
    ("columns", "suffix", "origin", "claims"),
    [
        (
            {
                "damage_gra": [
                    "Destroyed",
                    "Damaged",
                    "Possibly damaged",
                    "No visible damage",
                    "Not Analysed",
                ]
            },
            "",
            "Copernicus EMS",
            ["destroyed", "major", "unsure", "no", "not_analysed"],
        ),
        (
            {"grading": ["Completely Destroyed", "Highly Damaged", "Not Affected"]},
            "",
            "Copernicus EMS",
            ["destroyed", "major", "no"],
        ),
        (
            {"Main_Damage_Site_Class": [1, 2, 3, 4, 6, 11]},
            "",
            "UNOSAT",
            ["destroyed", "major", "minor", "unsure", "no", "unsure"],
        ),
        (  # the last round that has a class
            {"Main_Damage_Site_Class": [3, 6], "Main_Damage_Site_Class_10": [1.0, None]}
            | {"Main_Damage_Site_Class_9": [2.0, 2.0]},
            "",
            "UNOSAT",
            ["destroyed", "major"],
        ),
        (
            {"damage_pct_0m": [0.0, 0.1, 0.6, 0.9], "damaged": [0, 1, 1, 1]}
            | {"unknown_pct": [0.0, 0.0, 0.2, 0.8], "subtype": ["residential"] * 4},
            "",
            "Microsoft",
            ["no", "destroyed", "destroyed", "not_analysed"],
        ),
        (
            {"damage_pct_0m": [0.0, 0.1, 0.6], "damaged": [0, 1, 1]},
            ":at_least=0.5",
            "Microsoft",
            ["no", "no", "destroyed"],
        ),
        (
            {"subtype": ["no-damage", "destroyed", "un-classified"]},
            "",
            "xBD",
            ["no", "destroyed", "not_analysed"],
        ),
        ({"destroyed_building": ["yes", None, "no"]}, "", "OpenStreetMap", ["destroyed"]),
        ({"destroyed": [1, 0]}, "", "labels", ["destroyed", "no"]),
        ({"answer": ["intact", "cannot_tell"]}, "", "spot check", ["no", "unsure"]),
        (
            {"state": ["fallen", "stands"]},
            ":column=state:destroyed=fallen",
            "as given",
            ["destroyed", "no"],
        ),
    ],
)
def test_each_publisher_is_read_by_its_columns(
    columns: dict[str, list[Any]], suffix: str, origin: str, claims: list[str], tmp_path: Path
) -> None:
    other = _claims(tmp_path, columns, suffix)
    assert other.origin == origin
    assert other.items["claim"].tolist() == claims
    assert other.damage_only == ("no" not in claims)


def test_an_xbd_file_is_read_as_it_is(tmp_path: Path) -> None:
    shapes = buildings(2).geometry
    rows = [
        {"wkt": s.wkt, "properties": {"subtype": t, "uid": t}}
        for s, t in zip(shapes, ("no-damage", "destroyed"), strict=True)
    ]
    path = tmp_path / "xbd.json"
    path.write_text(json.dumps({"features": {"lng_lat": rows, "xy": []}, "metadata": {}}))
    assert read_other(OtherRequest(uri=str(path))).items["claim"].tolist() == ["no", "destroyed"]


def test_agreement_is_counted_building_by_building(tmp_path: Path) -> None:
    ours = _ours(["destroyed", "destroyed", "damaged", "intact", "intact", None, "intact"])
    said = ["Destroyed", "Damaged", "Destroyed", "No visible damage", "Possibly damaged"]
    path = _file(tmp_path, {"damage_gra": [*said, "Destroyed"]}, points=True)
    one = compare(ours, SCALE, [read_other(OtherRequest(uri=str(path)))], QUICK)
    (ems,) = one.maps
    assert (ems.both_destroyed, ems.only_ours, ems.only_theirs, ems.neither) == (1, 1, 1, 1)
    assert ems.agreement.value == 0.5
    assert ems.kappa == 0
    assert (ems.unsure, ems.not_assessed_by_us, ems.without_item) == (1, 1, 1)
    says = one.buildings.set_index("building_id")["maps_destroyed"].tolist()
    assert says == ["all", "one", "one", "none", "none", "one", "none"]
    severe = compare(
        ours, SCALE, [read_other(OtherRequest(uri=str(path)))], CompareOptions(severe=True)
    )
    assert (severe.maps[0].both_destroyed, severe.maps[0].neither) == (3, 1)


def test_scores_and_comparisons_say_in_the_same_words_what_they_count(tmp_path: Path) -> None:
    path = str(_file(tmp_path, {"damage_gra": ["Destroyed", "Damaged", "No visible damage"]}))
    ours = _ours(["destroyed", "damaged", "intact"])
    truth = read_truth(TruthRequest(uri=path), SCALE)
    scored = score(ours, SCALE, truth, ScoreOptions(resamples=20))
    others = [read_other(OtherRequest(uri=path))]
    plain, severe = (
        compare(ours, SCALE, others, CompareOptions(severe=chosen, resamples=20))
        for chosen in (False, True)
    )
    damaged = "destroyed (Copernicus Destroyed, EMS-98 5)"
    major = "major (Copernicus Damaged, EMS-98 3 and 4)"
    minor = "minor (EMS-98 1 and 2)"
    assert scored.n_positive == severe.maps[0].both_destroyed == 2
    assert plain.maps[0].both_destroyed == 1
    assert scored.to_json()["rule"] == (
        f"Counts as damage: {damaged}, {major}. Counts as no damage: none. Left out: {minor}."
    )
    assert severe.to_json()["rule"] == (
        f"Counts as damage: {damaged}, {major}. Counts as no damage: {minor}, none."
    )
    assert plain.to_json()["rule"] == (
        f"Counts as damage: {damaged}. Counts as no damage: {major}, {minor}, none."
    )


def test_a_map_of_damage_only_says_nothing_of_other_buildings(tmp_path: Path) -> None:
    """OpenStreetMap has two destroyed buildings. The other two are not thereby intact."""
    path = _file(tmp_path, {"destroyed_building": ["yes", "yes"]})
    ours = _ours(["destroyed", "intact", "destroyed", "intact"])
    result = compare(ours, SCALE, [read_other(OtherRequest(uri=str(path)))], QUICK)
    (osm,) = result.maps
    assert osm.damage_only
    assert osm.judged_by_both == 2
    assert osm.without_item == 2
    assert (osm.both_destroyed, osm.only_ours, osm.only_theirs, osm.neither) == (1, 0, 1, 0)
    assert np.isnan(osm.kappa)
    assert osm.agreement.value == 0.5
    assert result.buildings["says_other"].isna().tolist() == [False, False, True, True]


def test_names_too_long_for_the_console_are_numbers_in_the_table(tmp_path: Path) -> None:
    path = _file(tmp_path, {"destroyed_building": ["yes", "yes"]})
    name = "destroyed_buildings_of_volunteers_2023"
    other = read_other(OtherRequest(uri=str(path), name=name))
    result = compare(_ours(["destroyed", "intact"]), SCALE, [other], QUICK)
    told = []
    for width in (80, 120):
        text = io.StringIO()
        _show(result, Console(width=width, file=text))
        told.append(text.getvalue())
    row = r"\*? +2 +1 +0 +1 +0 +0\.50 "
    assert re.search(rf"^ 1{row}", told[0], re.MULTILINE)
    assert re.search(rf"^ {name}{row}", told[1], re.MULTILINE)
    assert f"\n1. {name}: OpenStreetMap" in told[0]
    assert f"\n{name}: OpenStreetMap" in told[1]


def test_ground_that_was_not_analysed_is_not_undamaged(tmp_path: Path) -> None:
    path = _file(tmp_path, {"damage_gra": ["Not analysed", "No visible damage"]})
    result = compare(_ours([None, "intact"]), SCALE, [read_other(OtherRequest(uri=str(path)))])
    assert result.maps[0].not_analysed == 1
    assert result.maps[0].judged_by_both == 1
    assert result.buildings["maps_destroyed"].tolist() == ["nobody_looked", "none"]


def test_items_that_contradict_each_other_are_left_out(tmp_path: Path) -> None:
    """Two halves of one outline disagree. A neighbour's outline that leans over has no say."""
    box = buildings(1).to_crs(32637).geometry[0]
    west, south, east, north = box.bounds
    halves = [shapely.box(west, south, west + 5, north), shapely.box(west + 5, south, east, north)]
    leaning = [box, shapely.box(west + 8, south, east + 8, north)]
    for shapes, contradictory in ((halves, 1), (leaning, 0)):
        frame = gpd.GeoDataFrame({"destroyed": [1, 0]}, geometry=shapes, crs=32637)
        frame.to_file(tmp_path / "x.gpkg")
        other = read_other(OtherRequest(uri=str(tmp_path / "x.gpkg")))
        (one,) = compare(_ours(["destroyed"]), SCALE, [other], QUICK).maps
        assert (one.contradictory, one.both_destroyed) == (contradictory, 1 - contradictory)


def test_a_distance_is_kept_and_what_does_not_match_is_counted(tmp_path: Path) -> None:
    middle = buildings(1).to_crs(32637).geometry.centroid[0]
    points = [shapely.Point(middle.x + 5 + metres, middle.y) for metres in (4, 6)]
    frame = gpd.GeoDataFrame({"destroyed": [1, 1]}, geometry=points, crs=32637)
    frame.to_file(tmp_path / "p.gpkg")
    other = read_other(OtherRequest(uri=str(tmp_path / "p.gpkg")))
    (one,) = compare(_ours(["destroyed"]), SCALE, [other], QUICK).maps
    assert one.items_unmatched == 1
    assert one.both_destroyed == 1


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (("destroyed", "destroyed", None), "all"),
        (("destroyed", None, "unsure"), "one"),
        (("destroyed", "destroyed", "not_destroyed"), "most"),
        (("destroyed", "destroyed", "not_destroyed", "not_destroyed"), "some"),
        (("destroyed", "not_destroyed", "not_destroyed"), "one"),
        (("not_destroyed", None), "none"),
        (("not_analysed", "unsure"), "unsure"),
        (("not_analysed", None), "nobody_looked"),
    ],
)
def test_how_many_maps_say_destroyed_is_a_class(says: tuple[Any, ...], expected: str) -> None:
    assert how_many(np.array([says], object)).tolist() == [expected]


def test_kappa_is_that_of_scikit_learn() -> None:
    ours, theirs = [1] * 7 + [1] * 2 + [0] * 3 + [0] * 11, [1] * 7 + [0] * 2 + [1] * 3 + [0] * 11
    assert kappa(7, 2, 3, 11) == pytest.approx(cohen_kappa_score(ours, theirs))
    assert np.isnan(kappa(4, 0, 2, 0))
    assert np.isnan(kappa(0, 0, 0, 0))


def test_squares_have_a_class_per_map(tmp_path: Path) -> None:
    """Rows of four buildings 30 m apart in squares of 30 m: one class for each square."""
    ours = _ours(["destroyed", "intact", "destroyed", "intact"])
    path = _file(tmp_path, {"destroyed": [1, 0, 0, 1]})
    other = read_other(OtherRequest.parse(f"{path}:name=them"))
    cells = compare(ours, SCALE, [other], CompareOptions(cell_m=30, resamples=0)).cells
    assert cells["agreement_them"].tolist() == [
        "agree_destroyed",
        "agree_none",
        "only_ours",
        "only_theirs",
    ]
    assert cells.to_crs(32637).area.to_numpy() == pytest.approx(900, rel=1e-6)


def test_files_hold_every_building_and_square(tmp_path: Path) -> None:
    path = _file(tmp_path, {"destroyed": [1, 0]})
    requests = [OtherRequest(uri=str(path), name="ours"), OtherRequest(uri=str(path), name="a")]
    result = compare(_ours(["intact"] * 3), SCALE, [read_other(r) for r in requests], QUICK)
    for name, data in written(result).items():
        (tmp_path / name).write_bytes(data)
    table = gpd.read_parquet(tmp_path / "compare.parquet")
    assert [c for c in table if c.startswith("says_")] == ["says_ours", "says_ours_2", "says_a"]
    assert table["says_a"].dropna().tolist() == ["destroyed", "not_destroyed"]
    assert len(gpd.read_file(tmp_path / "compare.geojson")) == 3
    assert len(gpd.read_file(tmp_path / "compare_cells.geojson")) == len(result.cells)


def test_tables_of_ids_are_matched_by_id(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    pd.DataFrame({"building_id": ["b01"], "answer": ["destroyed"]}).to_csv(path, index=False)
    (one,) = compare(
        _ours(["destroyed"] * 2), SCALE, [read_other(OtherRequest(uri=str(path)))], QUICK
    ).maps
    assert one.how == "by building_id"
    assert one.both_destroyed == 1
    assert one.without_item == 1


@pytest.mark.parametrize(
    ("columns", "suffix", "said"),
    [
        ({"height": [3, 4]}, "", r"got columns height; name it: --with FILE:column=NAME"),
        ({"damage_gra": ["Destroyed", "Wrecked"]}, "", r"no known damage scale: got wrecked"),
        ({"state": ["a", "b"]}, ":column=state", r"got a, b; say which mean destroyed"),
        ({"state": ["a", "b"]}, ":column=state:destroyed=c", r"got values a, b"),
        ({"state": ["a", "b"]}, ":column=stat", r"has no column 'stat': got columns state"),
        ({"destroyed_building": [None, None]}, "", r"no claim"),
        ({"damage_pct_0m": [0.1, 0.2]}, ":at_least=20", r"a number above 0 up to 1, got 20"),
        ({"destroyed": [1, 0]}, ":layer=b", r"has no layer 'b'"),
    ],
)
def test_a_map_that_cannot_be_read_says_why(
    columns: dict[str, list[Any]], suffix: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=said):
        _claims(tmp_path, columns, suffix)


def test_several_layers_are_named_with_the_way_out(tmp_path: Path) -> None:
    frame = gpd.read_file(_file(tmp_path, {"destroyed": [1, 0]}))
    frame.to_file(tmp_path / "other.gpkg", layer="second")
    with pytest.raises(RequestError, match=r"got only, second; name it: --with FILE:layer=NAME"):
        read_other(OtherRequest(uri=str(tmp_path / "other.gpkg")))


def test_a_map_of_another_place_is_refused(tmp_path: Path) -> None:
    moved = gpd.read_file(_file(tmp_path, {"destroyed": [1, 0]})).translate(50_000)
    gpd.GeoDataFrame({"destroyed": [1, 0]}, geometry=moved).to_file(tmp_path / "far.gpkg")
    other = read_other(OtherRequest(uri=str(tmp_path / "far.gpkg")))
    with pytest.raises(RequestError, match="map far: does not overlap the map"):
        compare(_ours(["intact"] * 2), SCALE, [other], QUICK)
