"""`aoi: {path, layer}`, and districts with codes beside their names."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pytest
import shapely

from quakestream.catalog import read_aoi
from quakestream.catalog.admin import read_admin
from quakestream.config import SummarySection, open_run
from quakestream.errors import AoiError, ConfigError, RequestError
from quakestream.outputs.summary import summary_table
from quakestream.outputs.units import named_units
from quakestream.storage import StorageOptions

WEST, EAST = shapely.box(36, 37, 37, 38), shapely.box(37, 37, 38, 38)
RUN: dict[str, Any] = {
    "event": {"id": "town", "time": "2023-02-06T01:17:34Z"},
    "imagery": {"catalog": "catalog.json", "post": {"datetime": "2023-02-07"}},
    "footprints": {"path": "boxes.geojson"},
}


@pytest.fixture
def two_layers(tmp_path: Path) -> Path:
    path = tmp_path / "areas.gpkg"
    for name, shape in (("west", WEST), ("east", EAST)):
        gpd.GeoDataFrame(geometry=[shape], crs=4326).to_file(path, layer=name)
    return path


def aoi_of(value: object, folder: Path) -> str:
    import yaml

    (folder / "run.yaml").write_text(yaml.safe_dump({**RUN, "aoi": value}))
    return open_run(folder / "run.yaml").aoi


def test_an_aoi_may_name_its_layer(two_layers: Path) -> None:
    folder = two_layers.parent
    assert read_aoi(aoi_of({"path": "areas.gpkg", "layer": "east"}, folder)).equals(EAST)
    both = read_aoi(aoi_of({"path": "areas.gpkg"}, folder))
    assert both.equals(WEST.union(EAST))
    assert both.equals(read_aoi(aoi_of("areas.gpkg", folder)))
    with pytest.raises(AoiError, match=r"has no layer 'north': got layers west, east"):
        read_aoi(aoi_of({"path": "areas.gpkg", "layer": "north"}, folder))


@pytest.mark.parametrize(
    "value", [{"layer": "east"}, {"path": "a.gpkg", "layers": "east"}, {"path": 7}, {"path": ""}]
)
def test_an_aoi_that_is_no_such_mapping_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        aoi_of(value, tmp_path)
    assert {p.where.partition(": ")[2] or p.where for p in caught.value.problems} != set()
    assert "aoi" in str(caught.value)


def buildings(*lon: float) -> gpd.GeoDataFrame:
    """Buildings that fell, at latitude 37.5."""
    frame = {"status": "assessed", "reason": None, "damage_label": "destroyed"}
    shapes = [shapely.Point(x, 37.5).buffer(0.001) for x in lon]
    return gpd.GeoDataFrame(pd.DataFrame([frame] * len(lon)), geometry=shapes, crs=4326)


def summed(folder: Path, codes: list[Any], pcode: str | None = "ADM2_PCODE") -> pd.DataFrame:
    """The summary over two districts of one name."""
    path = folder / "districts.gpkg"
    names = ["Merkez", "Merkez"]
    columns = {"ADM2_TR": names, "ADM2_PCODE": codes}
    gpd.GeoDataFrame(columns, geometry=[WEST, EAST], crs=4326).to_file(path)
    section = SummarySection(admin=str(path), id="ADM2_TR", pcode=pcode)
    units = read_admin(section, StorageOptions())
    assert units is not None
    found = buildings(36.2, 36.4, 37.5, 40.0)
    named = named_units(units.table, units.id_column, units.code_column)
    return summary_table(found, ("destroyed",), named).set_index("pcode" if pcode else "unit")


def test_codes_keep_units_of_one_name_apart(tmp_path: Path) -> None:
    table = summed(tmp_path, ["TUR046001", "TUR046002"])
    assert table["buildings"].to_dict() == {"TUR046001": 2, "TUR046002": 1, "": 1}
    assert table["unit"].to_dict() == {"TUR046001": "Merkez", "TUR046002": "Merkez", "": "outside"}
    assert list(table.columns[:2]) == ["unit", "buildings"]
    plain = summed(tmp_path, ["TUR046001", "TUR046002"], pcode=None)
    assert plain["buildings"].to_dict() == {"Merkez": 3, "outside": 1}


def test_codes_may_be_numbers_or_missing(tmp_path: Path) -> None:
    """A unit without a code is told by its name."""
    assert summed(tmp_path, [46001, 46002])["buildings"].to_dict() == {
        "46001": 2,
        "46002": 1,
        "": 1,
    }
    table = summed(tmp_path, [46001, None])
    assert table["buildings"].tolist() == [2, 1, 1], "a building is in no row"
    assert table.index.tolist() == ["46001", "", ""]
    assert table["unit"].tolist() == ["Merkez", "Merkez", "outside"]


def test_a_unit_without_a_name_is_called_unnamed(tmp_path: Path) -> None:
    units = gpd.GeoDataFrame({"name": ["Merkez", None]}, geometry=[WEST, EAST], crs=4326)
    table = summary_table(buildings(36.2, 37.5), ("destroyed",), named_units(units, "name", None))
    assert dict(zip(table["unit"], table["buildings"], strict=True)) == {"Merkez": 1, "unnamed": 1}


def test_a_column_of_codes_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"has no column 'PCODE'.*did you mean 'ADM2_PCODE'"):
        summed(tmp_path, ["a", "b"], pcode="PCODE")
