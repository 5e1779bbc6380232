"""Areas of requests that are none."""

from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from quakestream.errors import RequestError
from serving.processes import aoi_wkt
from serving.settings import Limits

LINE = [[0, 0], [1, 0], [2, 0], [0, 0]]


@pytest.mark.parametrize(
    ("kind", "coordinates", "said"),
    [
        ("Polygon", [], "the polygon is empty; give each ring"),
        ("MultiPolygon", [], "the polygon is empty; give each ring"),
        ("Polygon", [LINE], "the polygon has no area; give each ring"),
    ],
)
def test_a_polygon_without_area_is_refused_by_its_name(
    kind: str, coordinates: list[Any], said: str
) -> None:
    with pytest.raises(RequestError, match=f"inputs.aoi: {said}"):
        aoi_wkt({"type": kind, "coordinates": coordinates}, Limits())
