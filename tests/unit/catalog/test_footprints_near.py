"""GeoParquet with bounds: only what lies near the AOI is read, and nothing else changes."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from quakestream.catalog import FootprintRequest, read_footprints
from quakestream.catalog.footprints import Footprints
from quakestream.errors import FootprintError
from quakestream.vectors import nearby

AOI = shapely.box(36.90, 37.55, 36.95, 37.60)
SIDE = 40


def country(**changed: Any) -> gpd.GeoDataFrame:
    """1,600 buildings over two degrees, in the order of their rows; some lie in the AOI."""
    lon, lat = np.meshgrid(np.linspace(36.0, 38.0, SIDE), np.linspace(36.6, 38.6, SIDE))
    half = 0.0001
    shapes = shapely.box(lon - half, lat - half, lon + half, lat + half).ravel()
    near = shapely.box(36.91, 37.56, 36.9102, 37.5602)
    shapes[700:706] = [shapely.affinity.translate(near, 0.005 * n, 0.002 * n) for n in range(6)]
    ids = [f"b{n:04}" for n in range(len(shapes))]
    return gpd.GeoDataFrame({"id": ids, **changed}, geometry=shapes, crs=4326)


def written(path: Path, frame: gpd.GeoDataFrame, **options: Any) -> Path:
    settings = {"write_covering_bbox": True, "row_group_size": 100, "schema_version": "1.1.0"}
    frame.to_parquet(path, **(settings | options))
    return path


def found(path: Path, **request: Any) -> Footprints:
    return read_footprints(FootprintRequest(uri=str(path), **request), AOI)


def assert_as_without_bounds(frame: gpd.GeoDataFrame, folder: Path, **request: Any) -> Footprints:
    quick = found(written(folder / "bounds.parquet", frame), **request)
    plain = found(written(folder / "plain.parquet", frame, write_covering_bbox=False), **request)
    pd.testing.assert_frame_equal(pd.DataFrame(quick.table), pd.DataFrame(plain.table))
    for name in ("rows_read", "outside_aoi", "duplicates_collapsed", "without_position", "notes"):
        assert getattr(quick, name) == getattr(plain, name), name
    assert [i.cause for i in quick.issues] == [i.cause for i in plain.issues]
    return quick


def read_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of geometries that each reading decodes."""
    rows: list[int] = []
    plain = nearby._geometry_of

    def counted(*arguments: Any) -> Any:
        result = plain(*arguments)
        rows.append(len(result))
        return result

    monkeypatch.setattr(nearby, "_geometry_of", counted)
    return rows


@pytest.mark.parametrize("ids", [None, "id", "auto"])
def test_only_what_is_near_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: str | None
) -> None:
    rows = read_rows(monkeypatch)
    made = assert_as_without_bounds(country(), tmp_path, id_column=ids)
    assert len(made.table) == 6 + 1  # and one of the grid
    assert made.rows_read == SIDE * SIDE
    assert rows == [7]


@pytest.mark.parametrize("case", ["repeated id", "missing id", "fid"])
def test_ids_whose_meaning_hangs_on_other_rows_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    rows = read_rows(monkeypatch)
    frame = country()
    if case == "repeated id":
        frame.loc[3, "id"] = "b0702"  # far from the AOI, and first in the file
    elif case == "missing id":
        frame.loc[702, "id"] = None
    made = assert_as_without_bounds(frame, tmp_path, id_column="fid" if case == "fid" else "id")
    name = {"repeated id": "b0702#2", "missing id": "row-702", "fid": "702"}[case]
    assert name in set(made.table["building_id"])
    assert rows == []


def test_rows_without_geometry_and_beyond_180_are_counted_as_before(tmp_path: Path) -> None:
    frame = country()
    frame.loc[[5, 6], "geometry"] = [None, shapely.box(190.0, 37.0, 190.1, 37.1)]
    made = assert_as_without_bounds(frame, tmp_path)
    assert made.without_position == 1


def test_bounds_that_lie_are_not_believed(tmp_path: Path) -> None:
    """Bounds of a building that is read are too small: the others may be wrong, too."""
    path = written(tmp_path / "a.parquet", country())
    table = pq.read_table(path)
    bounds = table["bbox"].combine_chunks()
    parts = {side: bounds.field(side).to_numpy(zero_copy_only=False) for side in nearby._SIDES}
    parts["xmax"] = parts["xmax"].copy()
    parts["xmax"][704] -= 0.00019
    parts["xmin"] = parts["xmin"].copy()
    parts["xmin"][710] = parts["xmax"][710] = 10.0  # far from where it is
    struct = pa.StructArray.from_arrays(list(parts.values()), names=list(parts))
    index = table.column_names.index("bbox")
    pq.write_table(table.set_column(index, "bbox", struct), path)
    frame = country()
    plain = found(written(tmp_path / "plain.parquet", frame, write_covering_bbox=False))
    assert len(found(path).table) == len(plain.table)


def test_an_aoi_elsewhere_says_where_the_buildings_are(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", country())
    with pytest.raises(FootprintError) as caught:
        read_footprints(FootprintRequest(uri=str(path)), shapely.box(10, 10, 11, 11))
    assert caught.value.got.startswith("1,600 in 35.9999, ")


def test_metadata_of_another_crs_are_left_alone(tmp_path: Path) -> None:
    frame = country().to_crs(32637)
    made = found(written(tmp_path / "utm.parquet", frame))
    assert len(made.table) == 7
    geo = json.loads(pq.read_schema(tmp_path / "utm.parquet").metadata[b"geo"])
    assert not nearby._in_degrees(geo["columns"]["geometry"])
