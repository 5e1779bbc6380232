"""Vector tiles: what GDAL's own reader of them finds is what was put in."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from quakestream.outputs.mvt import BUFFER, EXTENT, TileLayer, encoded

# GDAL gives the tile 0/0/0 as the square of Web Mercator.
WORLD_M = 20037508.342789244


def decoded(data: bytes, folder: Path, layer: str = "shapes") -> gpd.GeoDataFrame:
    """A tile as GDAL reads it, in units of the tile."""
    path = folder / "tile.mvt"
    path.write_bytes(data)
    frame = pyogrio.read_dataframe(f"MVT:{path}", layer=layer, X="0", Y="0", Z="0", CLIP="NO")
    unit_m = 2 * WORLD_M / EXTENT
    corner, scale = np.array([-WORLD_M, WORLD_M]), np.array([1 / unit_m, -1 / unit_m])
    shapes = shapely.transform(frame.geometry.to_numpy(), lambda xy: (xy - corner) * scale)
    return gpd.GeoDataFrame(frame.drop(columns="geometry"), geometry=shapes, crs=None)


def layer_of(*shapes: Any, **attributes: list[Any]) -> TileLayer:
    return TileLayer(
        name="shapes",
        geometry_N=np.array([*shapes, None], object)[:-1],
        id_N=range(len(shapes)),
        attributes=attributes,
    )


def test_values_of_each_kind_come_back(tmp_path: Path) -> None:
    box = shapely.box(0, 0, 9, 9)
    columns: dict[str, list[Any]] = {
        "text": ["Kahramanmaraş", "", None],
        "whole": [0, -(2**40), 300],
        "real": [0.125, None, -1e-3],
        "truth": [True, False, None],
    }
    read = decoded(encoded([layer_of(box, box, box, **columns)]), tmp_path)
    for name, values in columns.items():
        found = [None if v is None or v != v else v for v in read[name].astype(object)]
        assert found == values, name


def test_cut_turned_and_empty_shapes(tmp_path: Path) -> None:
    clockwise = shapely.Polygon(
        [(10, 10), (10, 50), (50, 50), (50, 10)], [[(20, 20), (30, 20), (30, 30)]]
    )
    parts = shapely.MultiPolygon([shapely.box(100, 100, 200, 200), shapely.box(300, 100, 400, 150)])
    over = shapely.box(4000, 4000, 9000, 4090)
    sliver, outside = shapely.box(7, 7, 7.2, 900), shapely.box(9000, 0, 9100, 50)
    data = encoded([layer_of(clockwise, parts, over, sliver, outside)])
    read = decoded(data, tmp_path).geometry.to_list()
    kept = shapely.box(4000, 4000, EXTENT + BUFFER, 4090)
    assert len(read) == 3
    for found, expected in zip(read, (clockwise, parts, kept), strict=True):
        assert shapely.normalize(shapely.set_precision(found, 1)).equals(expected)
    assert encoded([layer_of(sliver, outside)]) == b""


corners = st.tuples(st.integers(-500, 5000), st.integers(-500, 5000))


@given(places=st.lists(st.tuples(corners, st.integers(2, 60)), min_size=1, max_size=8))
def test_polygons_with_holes_keep_their_ground(
    tmp_path_factory: pytest.TempPathFactory, places: list[tuple[tuple[int, int], int]]
) -> None:
    shapes = [
        shapely.box(x, y, x + 3 * n, y + 3 * n).difference(
            shapely.Polygon([(x + n, y + n), (x + 2 * n, y + n), (x + n, y + 2 * n)])
        )
        for (x, y), n in places
    ]
    data = encoded([layer_of(*shapes)])
    tile = shapely.box(-BUFFER, -BUFFER, EXTENT + BUFFER, EXTENT + BUFFER)
    inside = [cut for s in shapes if (cut := s.intersection(tile)).area >= 2]
    if not data:
        assert not inside
        return
    read = decoded(data, tmp_path_factory.mktemp("tile")).geometry.to_list()
    assert len(read) >= len(inside)
    ground = shapely.union_all(inside)
    apart = shapely.union_all([shapely.make_valid(r) for r in read]).symmetric_difference(ground)
    assert apart.buffer(-1.01).is_empty, "no more than a unit of rounding along the sides"
