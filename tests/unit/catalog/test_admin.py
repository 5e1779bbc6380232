"""Districts for summary.csv, also where they cross 180°."""

from pathlib import Path

import geopandas as gpd
import pandas as pd
import pytest
import shapely
from shapely.geometry import Polygon, box

from quakestream.catalog import read_admin
from quakestream.config import SummarySection
from quakestream.outputs.summary import summary_table
from quakestream.outputs.units import named_units
from quakestream.storage import StorageOptions

NAIVE = Polygon([(179.5, -17), (-179.5, -17), (-179.5, -16), (179.5, -16)])


@pytest.mark.parametrize(
    "written",
    [NAIVE, box(179.5, -17, 180.5, -16), box(-180.5, -17, -179.5, -16)],
    ids=["naive", "beyond", "before"],
)
def test_a_district_across_180_holds_the_buildings_on_both_sides_and_no_others(
    tmp_path: Path, written: Polygon
) -> None:
    districts = gpd.GeoDataFrame(
        {"name": ["across", "west"]}, geometry=[written, box(178, -17, 179.5, -16)], crs=4326
    )
    districts.to_file(tmp_path / "d.geojson")
    section = SummarySection(admin=str(tmp_path / "d.geojson"), id="name")
    units = read_admin(section, StorageOptions())
    assert units is not None
    assert units.table.geometry.iloc[0].geom_type == "MultiPolygon"
    places = [(179.9, -16.5), (-179.9, -16.5), (179.0, -16.5), (36.9, -16.5)]
    buildings = gpd.GeoDataFrame(
        {"status": "assessed", "damage_label": "intact", "reason": None},
        index=range(4),
        geometry=[shapely.Point(p).buffer(1e-4) for p in places],
        crs=4326,
    )
    table = summary_table(buildings, ("intact",), named_units(units.table, units.id_column, None))
    counts = pd.Series(table["buildings"].to_numpy(), index=table["unit"])
    assert counts.to_dict() == {"across": 2, "outside": 1, "west": 1}
