"""The products: exact types, one row per footprint, published whole."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from quakestream.domain import Issue
from quakestream.errors import AccountingError, RequestError, ShapeError, StorageError
from quakestream.outputs.buildings import (
    arrow_types,
    buildings_parquet,
    check_accounting,
    count,
    ordered_buildings,
)
from quakestream.outputs.coverage import COVERAGE_TYPES, coverage_parquet
from quakestream.outputs.publish import publish
from quakestream.outputs.quarantine import first_seen_in, quarantine_parquet
from quakestream.outputs.readback import current_buildings, current_run, scale_of
from quakestream.outputs.summary import summary_table
from quakestream.outputs.units import named_units, square_ids
from quakestream.storage import Store, open_store
from tests.helpers.outputs_case import LABELS, buildings, coverage, products, with_hazard_evidence


def _written(frame: gpd.GeoDataFrame) -> pa.Table:
    ordered = ordered_buildings(frame, LABELS, ("dpm",))
    return pq.read_table(io.BytesIO(buildings_parquet(ordered, LABELS, ("dpm",))))


def test_buildings_have_the_columns_of_the_contract_in_exact_types():
    schema = _written(buildings()).schema
    expected = arrow_types(LABELS, layers=("dpm",))
    assert schema.names == [*expected, "geometry", "bbox"]
    assert {name: schema.field(name).type for name in expected} == expected
    assert schema.field("damage").type == pa.int8()
    assert schema.field("hazard_missing").type == pa.list_(pa.string())
    assert schema.field("acquired_post").type == pa.timestamp("us", tz="UTC")
    contract = (
        "building_id status reason damage damage_label p_intact p_damaged p_destroyed evidence "
        "confidence uncertainty valid_fraction scene_post scene_pre acquired_post views shift_m "
        "shift_quality mmi pga_g pgv_cm_s psa03_g psa10_g psa30_g vs30_m_s dpm hazard_missing "
        "model model_digest engine run_id pre_post_difference"
    )
    assert list(expected) == contract.split()


def test_buildings_are_geoparquet_1_1_with_a_covering_box():
    table = _written(buildings())
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    back = gpd.read_parquet(
        io.BytesIO(
            buildings_parquet(ordered_buildings(buildings(), LABELS, ("dpm",)), LABELS, ("dpm",))
        ),
        bbox=(36.0, 37.0, 36.93, 38.0),
    )
    assert back.crs.to_epsg() == 4326
    assert 0 < len(back) <= 12


def test_nulls_stay_null_and_empty_lists_stay_lists():
    rows = {r["building_id"]: r for r in _written(buildings()).to_pylist()}
    cloudy, clear = rows["b03"], rows["b00"]
    assert (cloudy["damage"], cloudy["damage_label"], cloudy["p_intact"]) == (None, None, None)
    assert cloudy["reason"] == "cloud"
    assert clear["reason"] is None
    assert clear["damage_label"] == LABELS[clear["damage"]]
    assert clear["hazard_missing"] == []
    assert rows["b01"]["hazard_missing"] == ["psa30_g"]
    assert clear["pgv_cm_s"] is None
    assert clear["mmi"] == 8.25
    assert clear["acquired_post"] == datetime(2023, 2, 7, 8, 11, tzinfo=UTC)


def test_all_null_columns_keep_their_type():
    frame = buildings()
    frame["status"], frame["reason"] = "not_assessed", "no_imagery"
    frame["damage"] = pd.array([None] * len(frame), dtype="Int8")
    frame[[f"p_{a}" for a in LABELS]] = np.nan
    schema = _written(frame).schema
    assert schema.field("damage").type == pa.int8()
    assert schema.field("evidence").type == pa.string()


def test_the_order_of_rows_in_does_not_matter():
    frame = buildings()
    shuffled = frame.sample(frac=1, random_state=4)
    one, two = (
        buildings_parquet(ordered_buildings(f, LABELS, ("dpm",)), LABELS, ("dpm",))
        for f in (frame, shuffled)
    )
    assert one == two


def test_rows_lie_along_a_space_filling_curve():
    rng = np.random.default_rng(0)
    frame = buildings(400)
    order = rng.permutation(400)
    ordered = ordered_buildings(frame.iloc[order], LABELS, ("dpm",)).to_crs(32637)

    def path_m(f: gpd.GeoDataFrame) -> float:
        points = f.geometry.centroid
        return float(np.hypot(points.x.diff(), points.y.diff()).sum())

    assert path_m(ordered) < path_m(frame.to_crs(32637).iloc[order]) / 4


def test_footprints_without_a_shape_keep_their_row():
    frame = buildings()
    frame.loc[3, "geometry"] = None
    frame.loc[3, "reason"] = "invalid_geometry"
    table = _written(frame)
    assert table.num_rows == 12
    assert table.column("building_id")[-1].as_py() == "b03"


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("building_id", "b01", "building_id repeats"),
        ("status", "maybe", "status is not one of"),
        ("reason", "cloud", "assessed with a reason"),
        ("damage", 3, "damage outside the scale"),
        ("damage", None, "damage outside the scale"),
        ("p_intact", 0.999, "do not sum to 1"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(column, value, complaint):
    frame = buildings()
    frame.loc[0, column] = value
    with pytest.raises(AccountingError, match=complaint):
        ordered_buildings(frame, LABELS, ("dpm",))


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("reason", None, "without a reason of the closed list"),
        ("reason", "fog", "without a reason of the closed list"),
        ("damage", 0, "not assessed but with damage"),
        ("p_intact", 0.5, "not assessed but with probabilities"),
    ],
)
def test_a_building_not_assessed_has_a_reason_and_no_verdict(column, value, complaint):
    frame = buildings()
    frame.loc[3, column] = value
    with pytest.raises(AccountingError, match=complaint):
        ordered_buildings(frame, LABELS, ("dpm",))


@pytest.mark.parametrize(
    ("row", "column", "value", "complaint"),
    [
        (0, "evidence", "rumour", "evidence is not one of"),
        (3, "evidence", "image", "not assessed but with evidence of an image"),
        (0, "evidence", "hazard", "assessed without evidence of an image"),
        (11, "evidence", "hazard", "evidence of hazard values without p_hazard"),
        (3, "p_hazard_intact", 0.999, "p_hazard does not sum to 1"),
        (3, "p_hazard_intact", np.nan, "p_hazard does not sum to 1"),
    ],
)
def test_evidence_is_what_the_row_has(row, column, value, complaint):
    frame = with_hazard_evidence(buildings())
    frame.loc[row, column] = value
    with pytest.raises(AccountingError, match=complaint):
        _written(frame)


def test_evidence_of_hazard_values_has_its_columns_and_is_counted():
    frame = with_hazard_evidence(buildings())
    table = _written(frame)
    at = table.schema.names.index("evidence")
    assert table.schema.names[at + 1 : at + 4] == [f"p_hazard_{label}" for label in LABELS]
    assert table.schema.field("p_hazard_intact").type == pa.float32()
    counted = count(ordered_buildings(frame, LABELS, ("dpm",)))["evidence"]
    assert counted == {"image": 1, "image+hazard": 8, "hazard": 2}
    assert count(ordered_buildings(buildings(), LABELS, ("dpm",)))["evidence"] == {}


def test_missing_and_unknown_columns_are_named():
    with pytest.raises(ShapeError, match="p_destroyed"):
        ordered_buildings(buildings().drop(columns="p_destroyed"), LABELS, ("dpm",))
    with pytest.raises(ShapeError, match="dpm"):
        ordered_buildings(buildings(), LABELS)
    with pytest.raises(ShapeError, match="EPSG:4326"):
        _written(buildings().to_crs(32637))


def test_accounting_holds_or_fails_loudly():
    frame = ordered_buildings(buildings(), LABELS, ("dpm",))
    counts = count(frame)
    assert (counts["footprints"], counts["assessed"], counts["reasons"]) == (12, 9, {"cloud": 3})
    assert sum(counts["damage"].values()) == 9
    check_accounting(frame, counts)
    read = {"footprints_read": 16, "duplicates_collapsed": 1, "outside_aoi": 2}
    read["without_position"] = 1
    check_accounting(frame, counts | read)
    with pytest.raises(AccountingError, match=r"expected 13 as counted .*, got 12 in the table"):
        check_accounting(frame, {"footprints": 13})
    with pytest.raises(AccountingError, match=r"footprints_read does not add up: .* = 15, got 16"):
        check_accounting(frame, counts | read | {"outside_aoi": 1})
    with pytest.raises(AccountingError, match="reasons"):
        check_accounting(frame, counts | {"reasons": {"cloud": 2, "snow": 1}})
    with pytest.raises(AccountingError, match="rows cannot be checked"):
        check_accounting(frame, {})


def test_coverage_has_exact_types():
    table = pq.read_table(io.BytesIO(coverage_parquet(coverage())))
    assert {n: table.schema.field(n).type for n in COVERAGE_TYPES} == COVERAGE_TYPES
    rows = {r["cell_id"]: r for r in table.to_pylist()}
    assert rows["c2"]["scenes"] == []
    assert rows["c2"]["shift_m"] is None
    assert rows["c1"]["reason"] is None
    with pytest.raises(ShapeError, match="shift_m"):
        coverage_parquet(coverage().drop(columns="shift_m"))


def test_quarantine_merges_repeats_and_keeps_the_first_time():
    first = datetime(2023, 2, 7, tzinfo=UTC)
    later = datetime(2023, 2, 9, tzinfo=UTC)
    issue = Issue(subject="s", kind="scene", cause="403", attempts=2)
    table = pq.read_table(io.BytesIO(quarantine_parquet([issue, issue], first)))
    assert table.to_pylist()[0]["attempts"] == 4
    assert table.num_rows == 1
    new = Issue(subject="t", kind="scene", cause="404")
    again = quarantine_parquet([issue, new], later, first_seen_in(table))
    seen = {r["subject"]: r["first_seen"] for r in pq.read_table(io.BytesIO(again)).to_pylist()}
    assert seen == {"s": first, "t": later}
    assert pq.read_table(io.BytesIO(quarantine_parquet([], first))).num_rows == 0


def test_squares_are_utm_aligned_in_each_zone_and_hemisphere():
    known = gpd.GeoSeries([shapely.Point(317_499, 4_160_500.5)], crs=32637).to_crs(4326)
    points = gpd.GeoDataFrame(
        geometry=[
            known[0],
            shapely.Point(35.999, 37.5),
            None,
            shapely.Point(174.76, -36.85),
        ],
        crs=4326,
    )
    ids = square_ids(points)
    assert ids[0] == "37N_E317000_N4160500"
    assert ids[1].startswith("36N_E")
    assert ids[2] == "outside"
    assert ids[3].startswith("60S_E")


def test_summary_adds_up_and_never_counts_the_unknown_as_intact():
    frame = ordered_buildings(buildings(), LABELS, ("dpm",))
    table = summary_table(frame, LABELS)
    assert table["buildings"].sum() == 12
    assert table[list(LABELS)].sum().sum() == table["assessed"].sum() == 9
    assert table["not_assessed_cloud"].sum() == table["not_assessed"].sum() == 3
    assert (table["share_assessed"] == (table["assessed"] / table["buildings"]).round(4)).all()


def test_summary_by_admin_unit_takes_each_building_once():
    frame = ordered_buildings(buildings(), LABELS, ("dpm",))
    west, south, east, north = frame.total_bounds
    middle = (west + east) / 2
    admin = gpd.GeoDataFrame(
        {"name": ["west", "all"]},
        geometry=[
            shapely.box(west - 1, south - 1, middle, north + 1),
            shapely.box(west - 1, (south + north) / 2, east + 1, north + 1),
        ],
        crs=4326,
    ).to_crs(3857)
    table = summary_table(frame, LABELS, named_units(admin, "name", None)).set_index("unit")
    assert table["buildings"].sum() == 12
    assert set(table.index) == {"all", "west", "outside"}
    with pytest.raises(ShapeError, match="'id'"):
        named_units(admin, "id", None)


def test_publishing_writes_the_snapshot_first_and_run_json_last(tmp_path: Path):
    puts: list[str] = []

    class Watched(Store):
        def put(self, key: str, data: bytes) -> None:
            puts.append(key)
            Store.put(self, key, data)

    store = Watched(uri=str(tmp_path))
    snapshot = publish(store, products())
    half = len(puts) // 2
    assert all(key.startswith(f"snapshots/{snapshot}/") for key in puts[:half])
    assert puts[half:] == [key.removeprefix(f"snapshots/{snapshot}/") for key in puts[:half]]
    assert puts[-1] == "run.json"
    run = current_run(store)
    assert run["snapshot"] == snapshot
    assert run["counts"]["footprints"] == 12
    assert run["counts"]["quarantined"] == 1
    assert scale_of(run) == products().classes
    assert len(current_buildings(store, run)) == 12
    for product in run["products"]:
        assert len(store.get(product["name"])) == product["bytes"]


def test_the_same_tables_keep_their_snapshot(tmp_path: Path):
    store = open_store(str(tmp_path))
    first = publish(store, products())
    assert publish(store, products()) == first
    more = publish(store, products(buildings=buildings(16)))
    assert more != first
    assert {key.split("/")[1] for key in store.list("snapshots/")} == {first, more}
    assert current_run(store)["snapshot"] == more


def test_rows_that_do_not_add_up_publish_nothing(tmp_path: Path):
    store = open_store(str(tmp_path))
    with pytest.raises(AccountingError):
        publish(store, products(run={"counts": {"footprints": 99}}))
    assert store.list() == []


def test_a_store_that_fails_halfway_leaves_the_earlier_map_current(tmp_path: Path):
    first = publish(open_store(str(tmp_path)), products())

    class Full(Store):
        def put(self, key: str, data: bytes) -> None:
            if key == "index.html":
                raise StorageError("disk full")
            Store.put(self, key, data)

    with pytest.raises(StorageError):
        publish(Full(uri=str(tmp_path)), products(buildings=buildings(16)))
    store = open_store(str(tmp_path))
    run = current_run(store)
    assert run["snapshot"] == first
    assert len(current_buildings(store, run)) == 12


def test_reading_where_nothing_was_published_says_what_to_do(tmp_path: Path):
    with pytest.raises(RequestError, match="no finished map"):
        current_run(open_store(str(tmp_path)))


def test_run_json_is_strict_json(tmp_path: Path):
    run = {
        "counts": {"footprints": 12},
        "rates": {"km2_per_h": float("nan"), "n": np.int64(3)},
        "started": datetime(2023, 2, 7, tzinfo=UTC),
    }
    store = open_store(str(tmp_path))
    publish(store, products(run=run))
    text = store.get("run.json").decode()
    assert "NaN" not in text
    assert json.loads(text)["rates"] == {"km2_per_h": None, "n": 3}
    assert json.loads(text)["started"] == "2023-02-07T00:00:00+00:00"
