"""landslides.parquet and what other products say of landslides."""

import io

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from quakestream.errors import ShapeError
from quakestream.outputs.landslides import (
    LANDSLIDE_TYPES,
    landslide_counts,
    landslides_parquet,
    ordered_landslides,
)
from quakestream.outputs.left_out import LEFT_OUT, left_out_line
from quakestream.outputs.publish import publish
from quakestream.outputs.readback import current_run
from quakestream.outputs.summary import summary_table
from quakestream.outputs.viewer_content import about, content_of
from quakestream.pipeline.result.landslides import without_flat
from quakestream.storage import open_store
from tests.helpers.outputs_case import LABELS, buildings, products


def slides() -> gpd.GeoDataFrame:
    """One slide over the first building, and a larger one 3 km away, where no building is."""
    boxes = [
        shapely.box(316990, 4160890, 317005, 4160930),
        shapely.box(320000, 4160000, 320040, 4160100),
    ]
    return gpd.GeoDataFrame(
        {
            "landslide_id": ["ls-1", "ls-2"],
            "area_m2": [600.0, 4000.0],
            "probability": [0.8, 0.9],
            "max_probability": [0.9, 1.0],
            "uncertainty": [np.nan, np.nan],
            "slope_deg": [31.0, np.nan],
            "buildings_touched": [1, 0],
            "road_m": [20.0, 0.0],
            "evidence": "image",
            "scene_post": "post-1",
            "acquired_post": pd.Timestamp("2023-02-07T08:11:00Z"),
            "model": "slides",
            "model_digest": "d",
            "run_id": "run-1",
        },
        geometry=gpd.GeoSeries(boxes, crs=32637).to_crs(4326),
    )


def rows_with_slides() -> gpd.GeoDataFrame:
    rows = buildings()
    rows["landslide_id"] = ["ls-1", "ls-1", *[None] * (len(rows) - 2)]
    rows["landslide_distance_m"] = [0.0, 22.5, *[np.nan] * (len(rows) - 2)]
    return rows


def test_the_table_has_the_columns_of_the_contract_and_no_id_twice() -> None:
    table = gpd.read_parquet(io.BytesIO(landslides_parquet(ordered_landslides(slides()))))
    assert list(table.columns) == [*LANDSLIDE_TYPES, "geometry"]
    assert table["p_prior"].isna().all()
    nothing = landslides_parquet(ordered_landslides(slides().iloc[:0]))
    assert len(gpd.read_parquet(io.BytesIO(nothing))) == 0
    with pytest.raises(ShapeError, match="an id repeats"):
        ordered_landslides(slides().assign(landslide_id="ls-1"))


def test_counts_say_what_lies_on_a_slide_and_what_near() -> None:
    assert landslide_counts(ordered_landslides(slides()), rows_with_slides()) == {
        "slides": 2,
        "km2": 0.0046,
        "buildings_touched": 1,
        "buildings_within_50_m": 2,
        "road_km": 0.02,
    }


def test_slides_on_flat_ground_are_left_out_and_counted_apart() -> None:
    flat = slides().assign(slope_deg=[4.9, 5.0])
    kept, record = without_flat(flat, 5.0)
    assert kept["landslide_id"].tolist() == flat["landslide_id"].tolist()[1:]
    km2 = round(flat["area_m2"].iloc[0] / 1e6, 6)
    assert record == {LEFT_OUT: {"flatter_than_deg": 5.0, "slides": 1, "km2": km2}}
    assert left_out_line(record).startswith(f"1 polygon ({km2:.3f} km²) on ground flatter than 5°")
    for all_of_them, least in ((flat, 0.0), (slides().assign(slope_deg=None), 5.0)):
        same, nothing = without_flat(all_of_them, least)
        assert (len(same), nothing, left_out_line(nothing)) == (2, {}, "")


def test_a_district_with_slides_and_no_building_has_a_row() -> None:
    rows = rows_with_slides()
    rows["damage_label"] = None
    table = summary_table(rows, LABELS, landslides=ordered_landslides(slides())).set_index("unit")
    empty = table.loc["37N_E320000_N4160000"]
    assert empty["landslides"] == 1
    assert empty["buildings"] == empty["landslide_buildings"] == 0
    assert table["landslide_buildings"].sum() == 1
    assert table["landslide_km2"].sum() == pytest.approx(0.0046)
    plain = summary_table(rows, LABELS)
    assert [c for c in table.reset_index() if "landslide" not in c] == list(plain.columns)
    assert plain.set_index("unit")["buildings"].sum() == table["buildings"].sum()


def test_a_map_without_landslides_takes_those_of_an_earlier_one_away() -> None:
    store = open_store("memory://landslides-of-an-earlier-map")
    publish(store, products(buildings=rows_with_slides(), landslides=slides()))
    assert current_run(store)["counts"]["landslides"]["slides"] == 2
    assert store.list("landslides.parquet")
    report = store.get("report.html").decode()
    assert "1 building touched, 2 buildings within 50 m" in report
    assert "nan%" not in report, "a unit with a slide may have no building"
    publish(store, products())
    assert not store.list("landslides.parquet")
    assert "landslides" not in current_run(store)["counts"]


def test_the_page_has_the_slides_and_their_figures() -> None:
    given = products(buildings=rows_with_slides(), landslides=slides())
    run = {**given.run, "landslide_bundle": {"name": "slides"}, "bundle": {"name": "damage"}}
    run["counts"] = {"footprints": 12, "assessed": 9, "not_assessed": 3, "damage": {}}
    run["damage_scale"] = []
    content = content_of(given, run)
    assert content.title == "test-2023: building damage and landslides"
    shown = about(content, [])["slides"]
    assert shown["count"] == len(shown["shape"]["rings"]) == 2
    assert sorted(shown["area"]) == [600, 4000]
    assert about(content_of(products(), run), [])["slides"] is None
