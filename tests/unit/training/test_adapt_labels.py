"""Labels join the buildings of a map, and what is wrong with them is said in one line."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box

from quakestream.errors import RequestError
from quakestream.outputs.truth import TruthRequest
from training.adapt.labels import check_enough, read_event_labels
from training.adapt.suggest import labelled, stratified, suggested
from training.scales import scale_of

CLASSES = scale_of(("intact", "destroyed"))
RECORD = {
    "damage_scale": [
        {"index": c.index, "label": c.label, "xbd": c.xbd, "ems98": c.ems98}
        | {"copernicus": c.copernicus}
        for c in CLASSES
    ]
}


@pytest.fixture
def buildings() -> gpd.GeoDataFrame:
    """Twenty buildings in a row, 30 m apart; the last was not assessed."""
    side = 1e-4
    shapes = [box(36 + 3 * side * n, 37, 36 + side * (3 * n + 1), 37 + side) for n in range(20)]
    p_N = np.linspace(0.02, 0.98, 20)
    frame = gpd.GeoDataFrame(
        {"building_id": [f"b{n}" for n in range(20)], "status": "assessed", "p_destroyed": p_N},
        geometry=shapes,
        crs=4326,
    )
    frame["p_intact"] = 1 - p_N
    frame.loc[19, ["status", "p_destroyed", "p_intact"]] = ["not_assessed", np.nan, np.nan]
    return frame


def sheet(folder: Path, rows: list[tuple[str, str]]) -> str:
    path = folder / "answers.csv"
    pd.DataFrame(rows, columns=["building_id", "answer"]).to_csv(path, index=False)
    return str(path)


def test_an_answer_sheet_is_counted_item_by_item(
    buildings: gpd.GeoDataFrame, tmp_path: Path
) -> None:
    rows = [("b0", "intact"), ("b1", "Destroyed"), ("b2", "damaged"), ("b3", "cannot_tell")]
    rows += [
        ("b4", ""),
        ("b5", "intact"),
        ("b5", "destroyed"),
        ("b19", "destroyed"),
        ("x", "intact"),
    ]
    labels = read_event_labels(TruthRequest(uri=sheet(tmp_path, rows)), buildings, CLASSES)
    assert dict(zip(labels.row_N.tolist(), labels.destroyed_N.tolist(), strict=True)) == {
        0: False,
        1: True,
        2: False,
        19: True,
    }
    counts = labels.counts
    assert (counts.unmatched, counts.contradicting, counts.cannot_tell) == (1, 1, 2)
    assert counts.not_assessed == 1


def test_points_join_as_in_score(buildings: gpd.GeoDataFrame, tmp_path: Path) -> None:
    points = buildings[["geometry"]].head(4).copy()
    points["geometry"] = points.representative_point()
    points["damage_gra"] = ["Destroyed", "No visible damage", "Possibly damaged", "Destroyed"]
    points.to_file(tmp_path / "points.geojson")
    uri = str(tmp_path / "points.geojson")
    labels = read_event_labels(TruthRequest(uri=uri), buildings, CLASSES)
    assert labels.row_N.tolist() == [0, 1, 3]
    assert labels.destroyed_N.tolist() == [True, False, True]
    points["geometry"] = points.translate(1, 1)
    points.to_file(tmp_path / "far.geojson")
    far = TruthRequest(uri=str(tmp_path / "far.geojson"))
    with pytest.raises(RequestError, match="labels lie outside the map"):
        read_event_labels(far, buildings, CLASSES)


def test_a_column_that_says_destroyed_is_enough(
    buildings: gpd.GeoDataFrame, tmp_path: Path
) -> None:
    points = buildings[["geometry"]].head(4).copy()
    points["geometry"] = points.representative_point()
    for values in ([1, 0, 0, 1], [True, False, False, True]):
        points["destroyed"] = values
        points.to_file(tmp_path / "points.geojson")
        labels = read_event_labels(
            TruthRequest(uri=str(tmp_path / "points.geojson")), buildings, CLASSES
        )
        assert labels.destroyed_N.tolist() == [True, False, False, True]


def test_labels_that_only_contradict_are_called_that(
    buildings: gpd.GeoDataFrame, tmp_path: Path
) -> None:
    uri = sheet(tmp_path, [(f"b{n}", a) for n in range(9) for a in ("intact", "destroyed")])
    labels = read_event_labels(TruthRequest(uri=uri), buildings, CLASSES)
    with pytest.raises(RequestError, match=r"no label tells .*9 buildings with contradicting"):
        check_enough(labels.destroyed_N, labels.counts, uri)


def test_a_sheet_that_nobody_filled_in_is_called_that(
    buildings: gpd.GeoDataFrame, tmp_path: Path
) -> None:
    uri = sheet(tmp_path, [(f"b{n}", "") for n in range(15)])
    labels = read_event_labels(TruthRequest(uri=uri), buildings, CLASSES)
    with pytest.raises(RequestError, match="column `answer` is empty in all 15 rows"):
        check_enough(labels.destroyed_N, labels.counts, uri)
    uri = sheet(tmp_path, [("b0", "cannot_tell"), *((f"b{n}", "") for n in range(1, 15))])
    labels = read_event_labels(TruthRequest(uri=uri), buildings, CLASSES)
    with pytest.raises(RequestError, match=r"no label tells .*15 buildings that cannot be told"):
        check_enough(labels.destroyed_N, labels.counts, uri)


@pytest.mark.parametrize(
    ("destroyed", "intact", "what"),
    [
        (0, 90, "labels are of one class only"),
        (90, 0, "labels are of one class only"),
        (4, 90, "too few labels"),
        (6, 6, "too few labels"),
    ],
)
def test_too_little_is_refused(
    destroyed: int, intact: int, what: str, buildings: gpd.GeoDataFrame, tmp_path: Path
) -> None:
    uri = sheet(tmp_path, [("b0", "intact")])
    counts = read_event_labels(TruthRequest(uri=uri), buildings, CLASSES).counts
    with pytest.raises(RequestError, match=what):
        check_enough(np.arange(destroyed + intact) < destroyed, counts, uri)
    check_enough(np.arange(20) < 5, counts, uri)


def test_wrong_answers_and_ids_are_named(buildings: gpd.GeoDataFrame, tmp_path: Path) -> None:
    maybe = TruthRequest(uri=sheet(tmp_path, [("b0", "maybe")]))
    with pytest.raises(RequestError, match=r"unknown answers.*'maybe'"):
        read_event_labels(maybe, buildings, CLASSES)
    stranger = TruthRequest(uri=sheet(tmp_path, [("x", "intact")]))
    with pytest.raises(RequestError, match="no building_id of the reference is in the map"):
        read_event_labels(stranger, buildings, CLASSES)


@pytest.mark.parametrize("method", ["diverse", "margin", "entropy", "stratified", "random"])
def test_each_method_names_buildings_once(method: str, buildings: gpd.GeoDataFrame) -> None:
    rows = suggested(buildings.head(19), RECORD, method, 8, seed=2)
    assert rows["building_id"].nunique() == len(rows) == 8
    assert {"lon", "lat", "why", "answer"} <= set(rows.columns)
    if method in ("margin", "entropy"):  # the least sure are those in the middle
        assert set(rows["building_id"]) <= {f"b{n}" for n in range(5, 15)}


def test_strata_are_drawn_in_turn() -> None:
    score_N = np.r_[np.linspace(0, 0.1, 80), 0.5, 0.95, 0.99]
    chosen = score_N[stratified(score_N, 6, seed=0)]
    assert (chosen > 0.9).sum() == 2
    assert 0.5 in chosen
    assert (chosen < 0.2).sum() == 3


def test_labelled_buildings_are_left_out(buildings: gpd.GeoDataFrame, tmp_path: Path) -> None:
    uri = sheet(tmp_path, [("b3", "cannot_tell"), ("b7", "destroyed")])
    assert np.flatnonzero(labelled(buildings, uri, CLASSES, None)).tolist() == [3, 7]
