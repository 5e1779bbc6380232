"""Labels read from files of many kinds and matched to footprints, with nothing guessed."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from quakestream.errors import RequestError
from quakestream.tiling import unproject
from training.data.labels import (
    COPERNICUS,
    FIELD,
    XBD,
    Conflict,
    LabelItems,
    LabelRequest,
    MatchedLabels,
    Scale,
    match_labels,
    parse_scale,
    read_labels,
)

EPSG = 32637
X, Y = 500_000.0, 4_100_000.0
THREE = parse_scale(["slight", "heavy", "destroyed"])


def in_degrees(shapes: list[shapely.Geometry]) -> np.ndarray:
    moved = [shapely.transform(s, lambda xy: xy + np.array((X, Y))) for s in shapes]
    return unproject(np.array(moved, object), EPSG)


def footprints(*boxes: tuple[float, float, float, float]) -> gpd.GeoDataFrame:
    ids = [f"b{n}" for n in range(len(boxes))]
    geometry = in_degrees([shapely.box(*b) for b in boxes])
    return gpd.GeoDataFrame({"building_id": ids}, geometry=list(geometry), crs=4326)


def items(shapes: list[shapely.Geometry], labels: list[int]) -> LabelItems:
    frame = gpd.GeoDataFrame(
        {"label": np.array(labels, np.int8)}, geometry=list(in_degrees(shapes)), crs=4326
    )
    return LabelItems(frame=frame, by_id=False, column="state")


def matched(
    shapes: list[shapely.Geometry], labels: list[int], conflict: Conflict = "ignore", **more: float
) -> MatchedLabels:
    request = LabelRequest(uri="labels", scale=THREE, conflict=conflict, **more)  # type: ignore[arg-type]
    return match_labels(items(shapes, labels), TOWN, request)


BOXES = ((0, 0, 10, 10), (14, 0, 24, 10), (30, 0, 60, 30), (40, 5, 50, 15))
TOWN = footprints(*BOXES)
"""Two neighbours four metres apart, and a small house inside a large one's outline."""


def test_a_point_speaks_of_the_nearest_footprint_within_the_distance() -> None:
    points = [shapely.Point(11.5, 5), shapely.Point(12.5, 5), shapely.Point(5, -9)]
    found = matched(points, [1, 2, 0])
    assert found.label_N.tolist() == [1, 2, -1, -1]
    assert found.report.items_unmatched == 1
    assert found.report.labelled == {"slight": 0, "heavy": 1, "destroyed": 1}
    assert matched(points, [1, 2, 0], match_m=9.5).label_N.tolist() == [-1, 2, -1, -1]


def test_of_footprints_over_a_point_the_smallest_counts() -> None:
    assert matched([shapely.Point(45, 10)], [2]).label_N.tolist() == [-1, -1, -1, 2]


@pytest.mark.parametrize(
    ("conflict", "expected"), [("ignore", -1), ("severest", 2), ("nearest", 0)]
)
def test_items_that_disagree_leave_a_footprint_unknown_unless_told(
    conflict: Conflict, expected: int
) -> None:
    points = [shapely.Point(5, 5), shapely.Point(5, -2), shapely.Point(20, 5), shapely.Point(19, 5)]
    found = matched(points, [0, 2, 1, 1], conflict)
    assert found.label_N.tolist() == [expected, 1, -1, -1]
    assert found.report.conflicting == 1


def test_of_points_equally_near_the_most_severe_counts_in_any_order() -> None:
    points = [shapely.Point(2, 2), shapely.Point(8, 8)]
    for labels in ([0, 2], [2, 0]):
        assert matched(points, labels, "nearest").label_N[0] == 2


def test_a_polygon_speaks_of_every_footprint_it_shares_a_tenth_with() -> None:
    over_two = shapely.box(5, 0, 16, 10)
    grazing = shapely.box(23.8, 0, 28, 10)
    found = matched([over_two, grazing], [2, 0])
    assert found.label_N.tolist() == [2, 2, -1, -1]
    assert found.report.items_unmatched == 1


def test_ignored_values_are_counted_and_match_nothing() -> None:
    found = matched([shapely.Point(5, 5), shapely.Point(5, 6)], [-1, 2])
    assert found.label_N[0] == 2
    assert (found.report.items_ignored, found.report.conflicting) == (1, 0)


@settings(max_examples=30, deadline=None)
@given(
    places=st.lists(
        st.tuples(st.integers(-5, 65), st.integers(-5, 35), st.integers(0, 2)),
        min_size=1,
        max_size=25,
    ),
    conflict=st.sampled_from(["ignore", "severest", "nearest"]),
    seed=st.integers(0, 99),
)
def test_the_order_of_items_does_not_matter(
    places: list[tuple[int, int, int]], conflict: Conflict, seed: int
) -> None:
    places = [*places, (5, 5, 1)]
    shapes = [shapely.Point(x + 0.3, y + 0.3) for x, y, _ in places]
    labels = [label for _, _, label in places]
    order = np.random.default_rng(seed).permutation(len(places))
    one = matched(shapes, labels, conflict)
    other = matched([shapes[i] for i in order], [labels[i] for i in order], conflict)
    np.testing.assert_array_equal(one.label_N, other.label_N)
    assert one.report == other.report
    assert one.report.items == one.report.items_unmatched + sum(
        min(shapely.box(*b).distance(s) for b in BOXES) <= 5 for s in shapes
    )


def test_a_table_of_ids_needs_no_place(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("building_id,state\nb1,Destroyed\nb3,slight\nb9,heavy\nb0,\n")
    request = LabelRequest(uri=str(file), scale=THREE)
    found = match_labels(read_labels(request), TOWN, request)
    assert found.label_N.tolist() == [-1, 2, -1, 0]
    assert (found.report.items_unmatched, found.report.items_ignored) == (1, 1)


def test_ids_that_are_numbers_join_ids_that_are_text(tmp_path: Path) -> None:
    file = tmp_path / "labels.parquet"
    frame = pd.DataFrame({"fid": [0.0, 2.0], "state": ["heavy", "destroyed"]})
    frame.to_parquet(file)
    town = TOWN.assign(building_id=["0", "1", "2", "3"])
    request = LabelRequest(uri=str(file), scale=THREE, id_column="fid", column="state")
    # Without a CRS a table needs the run's own id column; with another it is named.
    with pytest.raises(RequestError, match="neither geometry nor a building_id"):
        read_labels(request)
    frame.rename(columns={"fid": "building_id"}).to_parquet(file)
    request = LabelRequest(uri=str(file), scale=THREE)
    assert match_labels(read_labels(request), town, request).label_N.tolist() == [1, -1, 2, -1]


def written(folder: Path, values: list[object], crs: int | None = 4326) -> str:
    shapes = in_degrees([shapely.Point(5 + n, 5) for n in range(len(values))])
    frame = gpd.GeoDataFrame({"state": values, "note": "x"}, geometry=list(shapes), crs=crs)
    frame.to_file(folder / "labels.gpkg")
    return str(folder / "labels.gpkg")


def test_the_column_is_found_by_its_values(tmp_path: Path) -> None:
    uri = written(tmp_path, ["Heavy", "destroyed", None])
    found = read_labels(LabelRequest(uri=uri, scale=THREE))
    assert found.column == "state"
    assert found.frame["label"].tolist() == [1, 2, -1]


@pytest.mark.parametrize(
    ("values", "change", "says"),
    [
        (["slight", "wobbly"], {"column": "state"}, r"unknown classes: .*got 'wobbly'.*--ignore"),
        (["slight", "wobbly"], {}, r"column 'state' .* unknown classes: .*got 'wobbly'"),
        (["wobbly"], {}, "name the column with --label-column"),
        (["slight"], {"column": "grade"}, "no column 'grade'.*got columns state, note"),
        (["slight"], {"constant": "gone"}, "--all-are gone: unknown class: expected one of slight"),
        ([], {}, "holds no features"),
    ],
)
def test_a_label_file_that_cannot_be_understood_is_one_clear_line(
    tmp_path: Path, values: list[object], change: dict[str, str], says: str
) -> None:
    uri = written(tmp_path, values)
    with pytest.raises(RequestError, match=says) as caught:
        read_labels(LabelRequest(uri=uri, scale=THREE, **change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_file_that_is_missing_or_has_no_crs_is_one_clear_line(tmp_path: Path) -> None:
    for uri, says in (
        (str(tmp_path / "nothing.gpkg"), "nothing.gpkg"),
        (str(tmp_path / "nothing.txt"), "there is no such file"),
        (written(tmp_path, ["slight"], crs=None), "has no CRS"),
    ):
        with pytest.raises(RequestError, match=f"labels: .*{says}") as caught:
            read_labels(LabelRequest(uri=uri, scale=THREE))
        assert "\n" not in str(caught.value)


def test_labels_elsewhere_are_one_clear_line() -> None:
    with pytest.raises(RequestError, match=r"lies on a footprint .*got items within 40") as far:
        matched([shapely.Point(90_000, 0)], [1])
    assert "\n" not in str(far.value)
    with pytest.raises(RequestError, match="every value is ignored"):
        matched([shapely.Point(5, 5)], [-1])


def test_classes_are_given_mildest_first_with_the_values_that_mean_them() -> None:
    scale = parse_scale(["intact=No visible damage", "destroyed=Damaged,Destroyed"], ["Unknown"])
    assert scale.labels == ("intact", "destroyed")
    values = pd.Series(["Destroyed", "no visible damage", "Unknown", None, "damaged"])
    assert scale.index_of(values, "here").tolist() == [1, 0, -1, -1, 1]
    assert parse_scale(["xbd"]) == XBD
    assert parse_scale(["copernicus"], ["Possible"]).ignored[-1] == "Possible"


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["destroyed"], "two classes or more"),
        (["a=x", "b="], "expected LABEL or"),
        (["a", "a"], "class a comes twice"),
        (["a=x", "b=X"], "value x comes twice"),
    ],
)
def test_classes_that_make_no_scale_are_refused(texts: list[str], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        parse_scale(texts)


def pre_event_boxes(data_dir: Path) -> gpd.GeoDataFrame:
    file = data_dir / "kahramanmaras-2023-main/labels/km_merkez4_detection_boxes.geojson"
    boxes = gpd.read_file(file).to_crs(4326)
    boxes = boxes[boxes["status"] != "only_in_post"].reset_index(drop=True)
    return boxes.assign(building_id=[f"b{n}" for n in range(len(boxes))])


@pytest.mark.data
def test_copernicus_points_find_the_boxes_that_a_spatial_join_finds(data_dir: Path) -> None:
    name = "kahramanmaras-2023-main/labels/EMSR648_AOI04_GRA_MONIT01_builtUpP_r1_v1.json"
    boxes = pre_event_boxes(data_dir)
    assert len(boxes) == 447
    request = LabelRequest(uri=str(data_dir / name), scale=COPERNICUS)
    items = read_labels(request)
    assert items.column == "damage_gra"
    found = match_labels(items, boxes, request)
    points = items.frame.to_crs(EPSG)
    joined = gpd.sjoin_nearest(points, boxes.to_crs(EPSG), max_distance=5.0)
    assert found.report.items - found.report.items_unmatched == joined.index.nunique() == 190
    # Where all points of a box agree there is nothing to decide.
    classes = joined.groupby("index_right")["label"].nunique()
    alone = joined[~joined.index.duplicated(keep=False)]
    for box in classes.index[classes == 1].intersection(alone["index_right"]):
        assert found.label_N[box] == alone["label"][alone["index_right"] == box].iloc[0]
    assert found.report.conflicting == 10
    assert sum(found.report.labelled.values()) == 138


@pytest.mark.data
def test_outlines_of_destroyed_buildings_and_field_points_find_boxes(data_dir: Path) -> None:
    folder = data_dir / "kahramanmaras-2023-main/labels"
    boxes = pre_event_boxes(data_dir)
    outlines = LabelRequest(
        uri=str(folder / "km_merkez4_osm_destroyed_buildings.geojson"),
        scale=parse_scale(["intact", "destroyed"]),
        constant="destroyed",
    )
    report = match_labels(read_labels(outlines), boxes, outlines).report
    assert report.labelled["intact"] == 0
    assert report.labelled["destroyed"] >= 40
    field = LabelRequest(
        uri=str(folder / "field_damage_points_with_features.txt"), scale=FIELD, match_m=15.0
    )
    found = match_labels(read_labels(field), boxes, field).report
    assert found.items == 24_352
    assert min(found.labelled.values()) >= 1
    assert found.conflicting > 20  # points stand on a lattice: several buildings share one


def test_every_scale_can_be_made_of_its_own_labels() -> None:
    for scale in (COPERNICUS, XBD, FIELD):
        assert isinstance(scale, Scale)
        values = pd.Series([rule.values[0] for rule in scale.classes])
        assert scale.index_of(values, "here").tolist() == list(range(len(scale.classes)))
