"""Slides that meet at a border between zones are one row, also at 180°."""

import numpy as np
import pytest
import shapely

from quakestream.pipeline.result.landslides import _across_zones, slide_id
from quakestream.reduce.polygons import PART_COLUMNS
from tests.unit.bundles.test_landslide_manifests import LANDSLIDE


def columns(zones: list[int]) -> dict[str, np.ndarray]:
    values = {name: np.full(len(zones), 500, np.int64) for name in PART_COLUMNS}
    values["zone_N"] = np.array(zones)
    values["row_N"] = values["col_N"] = np.arange(len(zones))
    values["zone_edge_N"] = np.ones(len(zones), np.int64)
    return values


@pytest.mark.parametrize(
    ("zones", "border", "apart"), [([32660, 32601], 180.0, -360.0), ([32636, 32637], 36.0, 0.0)]
)
def test_slides_of_two_zones_that_meet_are_one(
    zones: list[int], border: float, apart: float
) -> None:
    west = shapely.box(border - 4e-4, -17.0, border, -16.9996)
    east = shapely.box(border + apart, -17.0, border + apart + 4e-4, -16.9996)
    far = shapely.box(border + apart, -16.99, border + apart + 4e-4, -16.9896)
    outlines = np.array([west, east, far], object)
    shown = [{"post-1": 500}, {"post-2": 600}, {"post-2": 500}]
    slides = _across_zones(columns([*zones, zones[1]]), outlines, shown, LANDSLIDE)
    assert len(slides.outline_N) == 2
    (both,) = np.flatnonzero(slides.columns["pixels_N"] == 1000)
    assert slides.outline_N[both].geom_type == "MultiPolygon"
    assert slides.outline_N[both].area == pytest.approx(west.area + east.area)
    assert slides.views[both] == ["post-2", "post-1"]
    assert slides.columns["p_max_N"][both] == 500


def test_an_id_is_a_function_of_place() -> None:
    assert slide_id(32637, 0.5, 3, 4) == slide_id(32637, 0.5, 3, 4) != slide_id(32637, 0.5, 4, 3)
