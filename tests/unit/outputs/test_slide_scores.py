"""Landslides of a map against known outlines: figures of squares that are counted by hand."""

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from quakestream.cli.score import _left_out
from quakestream.errors import RequestError
from quakestream.outputs.scores import ScoreOptions
from quakestream.outputs.slide_scores import judges_landslides_alone, looked_at, score_slides

EPSG = 32637
WEST, SOUTH = 500_000.0, 4_100_000.0


def squares(*places: tuple[float, float, float]) -> gpd.GeoDataFrame:
    """Squares by west, south and side in metres from a corner."""
    shapes = [
        shapely.box(WEST + x, SOUTH + y, WEST + x + side, SOUTH + y + side) for x, y, side in places
    ]
    return gpd.GeoDataFrame(geometry=shapes, crs=EPSG)


GROUND = squares((0, 0, 1000)).to_crs(4326).geometry


def test_figures_of_ground_and_of_slides() -> None:
    known = squares((0, 0, 100), (200, 0, 100), (500, 0, 20), (2000, 0, 100))
    known = pd.concat([known, squares((0, 500, 9), (30, 500, 9), (60, 500, 9))])
    found = squares((50, 0, 100), (200, 0, 60), (700, 0, 40), (300, 500, 9), (400, 500, 9))
    found = pd.concat([found, squares((-90, 700, 100))])
    one = score_slides(found, known, GROUND)
    assert (one.truth, one.truth_elsewhere, one.truth_small) == (3, 1, 3)
    assert (one.found, one.found_elsewhere, one.found_small) == (3, 1, 2)
    assert _left_out(one) == (
        " Left out: 1 known slide elsewhere, 3 known slides smaller than 100 m², "
        "1 slide of the map elsewhere, 2 slides of the map smaller than 100 m²."
    )
    shared, of_truth, of_found = 5000 + 3600, 20_400, 15_200
    assert one.precision == pytest.approx(shared / of_found, rel=1e-4)
    assert one.recall == pytest.approx(shared / of_truth, rel=1e-4)
    assert one.f1 == pytest.approx(2 * shared / (of_truth + of_found), rel=1e-4)
    assert one.iou == pytest.approx(shared / (of_truth + of_found - shared), rel=1e-4)
    # 5000 of 15000 is a third, 3600 of 10000 more: both agree
    assert one.polygon_recall == pytest.approx(2 / 3)
    assert one.polygon_precision == pytest.approx(2 / 3)


def test_intervals_resample_blocks_of_ground_with_slides_that_touch_kept_together() -> None:
    """Of three groups one is found, one is found by half, and one is missed."""
    known = squares((0, 0, 100), (300, 0, 100), (600, 0, 100))
    found = squares((0, 0, 100), (300, 0, 50), (350, 0, 50))
    one = score_slides(found, known, GROUND, ScoreOptions(block_m=0, resamples=400))
    assert (one.blocks, one.recall, one.precision) == (3, pytest.approx(0.5), pytest.approx(1))
    recall = one.intervals.recall
    assert recall.value == one.recall
    assert recall.low == pytest.approx(0.0)  # one resample of 27 has the missed one alone
    assert recall.high == pytest.approx(1.0, abs=0.01)
    assert one.intervals.precision.low == pytest.approx(1)
    assert one.intervals.polygon_recall.value == pytest.approx(1 / 3)  # half of 50 m squares: 0.25
    large = score_slides(found, known, GROUND, ScoreOptions(block_m=5000))
    assert large.blocks <= 2
    assert large.to_json()["intervals"]["f1"]["value"] == pytest.approx(large.f1)
    lone = score_slides(known.iloc[:1], known.iloc[:1], GROUND)
    assert lone.to_json()["intervals"]["f1"] == {
        "value": pytest.approx(1),
        "low": None,
        "high": None,
    }


def test_a_map_without_slides_has_found_none_and_no_precision() -> None:
    one = score_slides(squares().to_crs(4326), squares((0, 0, 100)), GROUND)
    assert (one.found, one.recall, one.f1, one.polygon_recall) == (0, 0.0, 0.0, 0.0)
    assert one.to_json()["precision"] is None
    assert one.to_json()["polygon_precision"] is None


def test_slides_are_compared_where_the_map_looked() -> None:
    cells = squares((0, 0, 100), (100, 0, 100), (200, 0, 100), (300, 0, 100)).to_crs(4326)
    cells["status"] = ["scored", "not_scored", "too_flat", "scored"]
    cells["kind"] = ["landslides", "landslides", "landslides", "buildings"]
    areas = squares((0, 0, 250)).to_crs(4326).assign(kind="aoi")
    ground = looked_at(cells, areas).to_crs(EPSG)
    assert ground.area.iloc[0] == pytest.approx(100 * 100 + 50 * 100, rel=1e-3)


def test_points_are_no_outlines_and_a_reference_of_elsewhere_is_refused() -> None:
    points = squares((0, 0, 100))
    points.geometry = points.centroid
    with pytest.raises(RequestError, match="compared with outlines: expected polygons, got Point"):
        score_slides(squares((0, 0, 100)), points, GROUND)
    with pytest.raises(RequestError, match="no slide of the reference lies on ground"):
        score_slides(squares((0, 0, 100)), squares((5000, 0, 100)), GROUND)
    nowhere = gpd.GeoSeries([shapely.Polygon()], crs=4326)
    with pytest.raises(RequestError, match="no ground was looked at"):
        score_slides(squares(), squares((0, 0, 100)), nowhere)


def test_a_map_of_slides_alone_is_scored_by_slides() -> None:
    slides = {"counts": {"landslides": {}}}
    assert judges_landslides_alone(slides)
    assert not judges_landslides_alone(slides | {"bundle": {"name": "damage"}})
    assert not judges_landslides_alone({"counts": {}})
