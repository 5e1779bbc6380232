"""Scoring: every scale people grade on, honest matching, baselines beside the figures."""

import json
import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from shapely import affinity

from quakestream.domain import ScaleClass
from quakestream.errors import RequestError
from quakestream.outputs.buildings import ordered_buildings
from quakestream.outputs.matching import match
from quakestream.outputs.scores import ScoreOptions, ground_blocks, score
from quakestream.outputs.truth import Truth, TruthRequest, read_reference, read_truth
from tests.helpers.outputs_case import LABELS, SCALE, buildings

TWO = (
    ScaleClass(index=0, label="intact", xbd="no", ems98=(0,), copernicus="No visible damage"),
    ScaleClass(index=1, label="destroyed", xbd="destroyed", ems98=(5,), copernicus="Destroyed"),
)
QUICK = ScoreOptions(resamples=50)


def _points(values: list[str], column: str = "damage_gra", **shift_m: float) -> gpd.GeoDataFrame:
    """One point per building of the case, in its middle or moved by `east`/`north` metres."""
    centres = buildings(len(values)).to_crs(32637).centroid
    moved = centres.translate(shift_m.get("east", 0), shift_m.get("north", 0))
    return gpd.GeoDataFrame({column: values}, geometry=moved, crs=32637).to_crs(4326)


def _read(frame: gpd.GeoDataFrame, folder: Path, **request: object) -> Truth:
    path = folder / "truth.geojson"
    frame.to_file(path)
    return read_truth(TruthRequest(uri=str(path), **request), SCALE)


@pytest.mark.parametrize(
    ("column", "values", "scale", "severe", "index"),
    [
        (
            "damage_gra",
            ["Destroyed", "Damaged", "Possibly damaged", "No visible damage"],
            "Copernicus EMS",
            [1, 1, -1, 0],
            [2, 1, -1, 0],
        ),
        (
            "subtype",
            ["no-damage", "minor-damage", "major-damage", "destroyed", "un-classified"],
            "xBD",
            [0, -1, 1, 1, -1],
            [0, -1, 1, 2, -1],
        ),
        ("grade", ["0", "1", "3", "5"], "EMS-98", [0, -1, 1, 1], [0, -1, 1, 2]),
        ("x", ["D0", "D2", "D4", "D5"], "EMS-98", [0, -1, 1, 1], [0, -1, 1, 2]),
        ("y", ["intact", "damaged", "destroyed"], "the bundle's own", [0, 1, 1], [0, 1, 2]),
        ("z", ["undamaged", "collapsed"], "plain words", [0, 1], [0, 2]),
    ],
)
def test_every_scale_is_recognised(tmp_path, column, values, scale, severe, index):
    truth = _read(_points(values, column), tmp_path)
    assert (truth.column, truth.scale) == (column, scale)
    assert truth.items["severe"].tolist() == severe
    assert truth.items["class_index"].tolist() == index


def test_a_bundle_with_one_severe_class_takes_every_severe_grade(tmp_path):
    path = tmp_path / "t.geojson"
    _points(["Destroyed", "Damaged", "No visible damage"]).to_file(path)
    assert read_truth(TruthRequest(uri=str(path)), TWO).items["class_index"].tolist() == [1, 1, 0]


def test_bare_numbers_are_never_guessed(tmp_path):
    frame = _points([0, 1, 2, 1], "osm_level")
    with pytest.raises(RequestError, match="--positive and --negative"):
        _read(frame, tmp_path)
    asked = {"column": "osm_level", "positive": ("2",), "negative": ("0",)}
    assert _read(frame, tmp_path, **asked).items["severe"].tolist() == [0, -1, 1, -1]
    with pytest.raises(RequestError, match=r"\['7'\]"):
        _read(frame, tmp_path, **(asked | {"positive": ("7",)}))


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path):
    with pytest.raises(RequestError, match=r"no such object|cannot read"):
        read_reference(str(tmp_path / "missing.geojson"))
    (tmp_path / "bad.gpkg").write_bytes(b"nothing")
    with pytest.raises(RequestError, match=r"reference .*: is not a vector file.* text file"):
        read_reference(str(tmp_path / "bad.gpkg"))
    pd.DataFrame({"a": [1], "b": [2]}).to_csv(tmp_path / "no_crs.csv", index=False)
    with pytest.raises(RequestError, match="neither geometry nor a building_id"):
        read_reference(str(tmp_path / "no_crs.csv"))
    frame = _points(["Destroyed", "No visible damage"])
    with pytest.raises(RequestError, match="--label-column"):
        _read(frame, tmp_path, column="grading")


def test_xbd_label_files_are_read_as_they_are(tmp_path):
    shape = buildings(1).geometry[0]
    feature = {"properties": {"subtype": "major-damage"}, "wkt": shape.wkt}
    path = tmp_path / "event_post_disaster.json"
    path.write_text(json.dumps({"features": {"lng_lat": [feature], "xy": []}, "metadata": {}}))
    truth = read_truth(TruthRequest(uri=str(path)), SCALE)
    assert truth.items["severe"].tolist() == [1]
    assert truth.items.geometry[0].equals(shape)


def test_points_go_to_the_nearest_footprint_within_the_distance(tmp_path):
    values = ["Destroyed"] + ["No visible damage"] * 11
    rows = buildings()
    near = match(_read(_points(values, east=8), tmp_path), rows, 5)  # 3 m beyond the wall
    assert near.rows["severe"].tolist() == [1] + [0] * 11
    far = match(_read(_points(values, east=12), tmp_path), rows, 5)  # 7 m
    assert far.items_unmatched == 12
    assert far.rows["severe"].isna().all()


def test_items_that_disagree_leave_a_footprint_unanswered(tmp_path):
    a = _points(["Destroyed", "Destroyed", "No visible damage", "No visible damage"])
    b = _points(["Possibly damaged", "Damaged", "No visible damage", "Destroyed"], north=2)
    got = match(_read(pd.concat([a, b]), tmp_path), buildings(4), 5)
    assert got.conflicting_footprints == 2  # the first and the last
    assert got.rows["severe"].fillna(-9).tolist() == [-9, 1, 0, -9]
    assert got.rows["class_index"].fillna(-9).tolist()[1] == -1  # severe, but which class?


def test_of_footprints_over_one_point_the_smallest_is_meant(tmp_path):
    rows = buildings(2)
    rows.loc[1, "geometry"] = rows.geometry[0].buffer(0.0005)
    got = match(_read(_points(["Destroyed"]), tmp_path), rows, 5)
    assert got.rows["severe"].fillna(-9).tolist() == [1, -9]


def test_polygons_speak_of_what_they_overlap(tmp_path):
    rows = buildings(4).to_crs(32637)
    east, _, right, _ = rows.geometry[0].bounds
    first, second = rows.geometry[0], rows.geometry[1]
    shapes = [affinity.translate(first, right - east - 0.5), affinity.translate(second, 5)]
    frame = gpd.GeoDataFrame(
        {"damage_gra": ["Destroyed", "No visible damage"]}, geometry=shapes, crs=32637
    )
    got = match(_read(frame.to_crs(4326), tmp_path), rows.to_crs(4326), 5)
    assert got.rows["severe"].fillna(-9).tolist() == [-9, 0, -9, -9]  # 5 % is a neighbour
    assert got.items_unmatched == 1


def _rows(truth_N: np.ndarray, p_N: np.ndarray, difference_N: np.ndarray) -> gpd.GeoDataFrame:
    """Two-class verdicts with given probabilities, all assessed."""
    rows = buildings(len(truth_N)).drop(columns=[f"p_{a}" for a in LABELS])
    rows["status"], rows["reason"] = "assessed", None
    rows["damage"] = pd.array((p_N >= 0.5).astype(int), dtype="Int8")
    rows["p_destroyed"], rows["p_intact"] = p_N, 1 - p_N
    rows["pre_post_difference"] = difference_N
    return ordered_buildings(rows, ("intact", "destroyed"), ("dpm",))


def _case(n: int = 80) -> tuple[np.ndarray, gpd.GeoDataFrame, Truth]:
    rng = np.random.default_rng(1)
    truth_N = np.arange(n) % 3 == 0
    p_N = np.clip(0.35 + 0.4 * truth_N + rng.normal(0, 0.15, n), 0, 1)
    rows = _rows(truth_N, p_N, rng.random(n) + 0.2 * truth_N)
    items = gpd.GeoDataFrame(
        {
            "building_id": [f"b{i:02d}" for i in range(n)],
            "value": np.where(truth_N, "destroyed", "intact"),
            "severe": truth_N.astype(int),
            "class_index": truth_N.astype(int),
        },
        geometry=[None] * n,
    )
    return truth_N, rows, Truth(items=items, column="damage_label", scale="the bundle's own")


def test_figures_are_those_of_scikit_learn():
    from sklearn import metrics as oracle

    truth_N, rows, truth = _case()
    got = score(rows, TWO, truth, QUICK)
    by_id = rows.set_index("building_id").loc[truth.items["building_id"]]
    p, declared = by_id["p_destroyed"], by_id["damage"].astype(int)
    assert got.auc.value == pytest.approx(oracle.roc_auc_score(truth_N, p))
    assert got.average_precision.value == pytest.approx(oracle.average_precision_score(truth_N, p))
    assert got.f1.value == got.severe.f1 == pytest.approx(oracle.f1_score(truth_N, declared))
    assert got.brier == pytest.approx(oracle.brier_score_loss(truth_N, p))
    assert np.array_equal(got.confusion, oracle.confusion_matrix(truth_N, declared))
    assert got.macro_f1 == pytest.approx(oracle.f1_score(truth_N, declared, average="macro"))
    difference = oracle.roc_auc_score(truth_N, by_id["pre_post_difference"])
    assert got.baseline is not None
    assert got.baseline.auc.value == pytest.approx(difference)
    assert got.baseline.auc_gain.value == pytest.approx(got.auc.value - difference)
    assert got.prior_average_precision == pytest.approx(truth_N.mean())
    assert got.auc.low < got.auc.value < got.auc.high
    assert json.loads(json.dumps(got.to_json(), allow_nan=False))["n_positive"] == truth_N.sum()
    assert (got.n_declared, got.n_expected) == (declared.sum(), None)


def test_maps_of_calibrated_bundles_say_how_many_they_expect():
    _, rows, truth = _case()
    got = score(rows.assign(score=0.5), TWO, truth, QUICK)
    assert got.n_expected == pytest.approx(rows["p_destroyed"].sum())


def test_what_was_not_assessed_is_counted_and_never_undamaged():
    truth_N, rows, truth = _case()
    lost = rows["building_id"].isin(["b00", "b01", "b03"])  # two severe, one not
    rows.loc[lost, "status"], rows.loc[lost, "reason"] = "not_assessed", "cloud"
    rows.loc[lost, ["p_destroyed", "p_intact", "damage"]] = None
    got = score(rows, TWO, truth, QUICK)
    assert got.coverage.footprints_not_assessed == 3
    assert got.coverage.footprints_not_assessed_severe == 2
    assert (got.n_positive, got.n_negative) == (truth_N.sum() - 2, (~truth_N).sum() - 1)
    assert sum(map(sum, got.confusion)) == len(truth_N) - 3


def test_positive_polygons_replace_the_positives_of_the_reference(tmp_path):
    truth_N, rows, truth = _case(24)
    ids = rows["building_id"]
    polygons = rows[ids.isin(["b00", "b03", "b01"])]  # b01 is harmless in the reference
    got = score(rows, TWO, truth, QUICK, positives=polygons[["geometry"]])
    assert got.n_positive == 2
    assert got.n_negative == (~truth_N).sum() - 1
    assert got.coverage.footprints_conflicting == 1
    assert sum(map(sum, got.confusion)) == 0  # no class is known of the polygons


def test_maps_without_differences_have_no_such_baseline():
    _, rows, truth = _case()
    rows["pre_post_difference"] = np.nan
    assert score(rows, TWO, truth, QUICK).baseline is None


def test_nothing_to_compare_is_refused():
    _, rows, truth = _case()
    rows["status"] = "not_assessed"
    with pytest.raises(RequestError, match="nothing to compare"):
        score(rows, TWO, truth, QUICK)
    strangers = truth.items.assign(building_id="x")
    with pytest.raises(RequestError, match="another run"):
        score(rows, TWO, Truth(items=strangers, column="c", scale="s"), QUICK)


def test_blocks_are_squares_of_ground():
    rows = buildings(40)
    utm = rows.to_crs(32637).representative_point()
    blocks = ground_blocks(rows, 60.0)
    for block in np.unique(blocks):
        inside = utm[blocks == block]
        assert np.ptp(inside.x) < 60
        assert np.ptp(inside.y) < 60
    assert 1 < len(np.unique(blocks)) < 40
    assert len(np.unique(ground_blocks(rows, 0))) == 40


def test_one_sided_references_give_nan_and_null():
    _, rows, truth = _case(9)
    only = Truth(items=truth.items.assign(severe=0, class_index=0), column="c", scale="s")
    got = score(rows, TWO, only, QUICK)
    assert math.isnan(got.auc.value)
    assert got.to_json()["auc"] == {"value": None, "low": None, "high": None}


@pytest.mark.data
def test_real_copernicus_points_meet_real_boxes(data_dir):
    labels = data_dir / "kahramanmaras-2023-main" / "labels"
    boxes = gpd.read_file(labels / "km_merkez4_detection_boxes.geojson")
    boxes = boxes[boxes["status"] != "only_in_post"].reset_index(drop=True)
    boxes["building_id"] = boxes.index.astype(str)
    points = str(labels / "EMSR648_AOI04_GRA_MONIT01_builtUpP_r1_v1.json")
    truth = read_truth(TruthRequest(uri=points), TWO)
    assert truth.items["severe"].value_counts().to_dict() == {0: 3692, 1: 471, -1: 456}
    got = match(truth, boxes, 5.0)
    assert len(got.rows) == 447
    answered = got.rows["severe"].value_counts().to_dict()
    # Every one of the 190 points within 5 m speaks of one box; several may share it.
    assert got.items - got.items_unmatched == 190
    assert answered == {1: 58, 0: 39, -1: 42}
    assert got.conflicting_footprints == 9
    assert shapely.get_type_id(truth.items.geometry[0]) == 0
