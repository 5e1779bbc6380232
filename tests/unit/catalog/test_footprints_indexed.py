"""FlatGeobuf and GeoPackage with an index: only what lies near the AOI is read, as if all were."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
import shapely

from quakestream.catalog import FootprintRequest, read_footprints
from quakestream.catalog.footprints import Footprints
from quakestream.errors import FootprintError
from quakestream.vectors import gdal_files
from tests.unit.catalog.test_footprints_near import AOI, SIDE, country

FORMATS = ["fgb", "gpkg"]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of features with geometry that each reading gets from GDAL."""
    numbers: list[int] = []
    plain = pyogrio.read_dataframe

    def counted(*arguments: Any, **options: Any) -> Any:
        frame = plain(*arguments, **options)
        if "geometry" in frame:
            numbers.append(len(frame))
        return frame

    monkeypatch.setattr(gdal_files.pyogrio, "read_dataframe", counted)
    return numbers


def found(path: Path, ids: str | None) -> Footprints:
    return read_footprints(FootprintRequest(uri=str(path), id_column=ids), AOI)


def as_without_index(
    frame: gpd.GeoDataFrame, folder: Path, kind: str, ids: str | None
) -> Footprints:
    """The footprints of a file with an index, which are those of the same file without one."""
    quick, plain = folder / f"quick.{kind}", folder / f"plain.{kind}"
    frame.to_file(quick, SPATIAL_INDEX="YES")
    # FlatGeobuf sorts what it indexes: the same order, without the index.
    gpd.read_file(quick).to_file(plain, SPATIAL_INDEX="NO")
    one, other = found(quick, ids), found(plain, ids)
    pd.testing.assert_frame_equal(pd.DataFrame(one.table), pd.DataFrame(other.table))
    for name in ("rows_read", "outside_aoi", "duplicates_collapsed", "without_position", "notes"):
        assert getattr(one, name) == getattr(other, name), name
    assert [i.cause for i in one.issues] == [i.cause for i in other.issues]
    return one


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("ids", [None, "id", "auto", "fid"])
def test_only_what_is_near_is_read(
    tmp_path: Path, rows: list[int], kind: str, ids: str | None
) -> None:
    made = as_without_index(country(), tmp_path, kind, ids)
    assert len(made.table) == 6 + 1  # and one of the grid
    assert made.rows_read == SIDE * SIDE
    assert rows[1:] == [7, SIDE * SIDE]  # the first made the other file


@pytest.mark.parametrize("kind", FORMATS)
def test_a_layer_in_metres_is_asked_for_its_own_place(
    tmp_path: Path, rows: list[int], kind: str
) -> None:
    assert len(as_without_index(country().to_crs(32637), tmp_path, kind, "id").table) == 7
    assert rows[1:] == [7, SIDE * SIDE]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("case", ["repeated id", "missing id"])
def test_ids_whose_meaning_hangs_on_other_rows_are_kept(
    tmp_path: Path, rows: list[int], kind: str, case: str
) -> None:
    frame = country()
    row, name = (3, "b0702") if case == "repeated id" else (702, None)
    frame.loc[row, "id"] = name
    as_without_index(frame, tmp_path, kind, "id")
    assert rows[1:] == [SIDE * SIDE] * 2


def test_features_without_a_place_and_beyond_180_are_counted_as_before(tmp_path: Path) -> None:
    frame = country()
    frame.loc[[5, 6], "geometry"] = [None, shapely.box(190.0, 37.0, 190.1, 37.1)]
    assert as_without_index(frame, tmp_path, "gpkg", "id").without_position == 1


def test_an_area_beside_all_features_is_an_error_as_before(tmp_path: Path) -> None:
    path = tmp_path / "far.fgb"
    country().cx[37.5:, 38.0:].to_file(path)
    with pytest.raises(FootprintError, match="AOI"):
        found(path, "id")
