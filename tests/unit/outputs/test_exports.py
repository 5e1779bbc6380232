"""Files for other programs: what is in them is what the map says."""

import io
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import geopandas as gpd
import pandas as pd
import pyogrio
import pytest
import shapely

from quakestream.errors import RequestError
from quakestream.outputs import kmz as kmz_module
from quakestream.outputs.buildings import ordered_buildings
from quakestream.outputs.export_map import exported
from quakestream.outputs.exports import EXPORTS
from quakestream.outputs.gis_files import damage_style, flatgeobuf, geopackage
from quakestream.outputs.kmz import kmz
from quakestream.outputs.map_layers import MapLayers, layers_of
from quakestream.outputs.publish import publish
from quakestream.outputs.readback import current_run
from quakestream.outputs.republish import snapshot_products
from quakestream.storage import open_store
from tests.helpers.outputs_case import SHARES, buildings, products, with_shares

KML = {"k": "http://www.opengis.net/kml/2.2"}


def layers(**changes: Any) -> MapLayers:
    made = products(**changes)
    return layers_of(made, ordered_buildings(made.buildings, made.labels, made.layers))


@contextmanager
def on_disk(data: bytes) -> Iterator[Path]:
    """By its extension, GDAL knows a GeoPackage for sure."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "map.gpkg" if data.startswith(b"SQLite") else "map.fgb")
        path.write_bytes(data)
        yield path


def read(data: bytes, layer: str | None = None) -> gpd.GeoDataFrame:
    with on_disk(data) as path:
        return pyogrio.read_dataframe(path, layer=layer)


def folders(data: bytes) -> dict[str, ElementTree.Element]:
    archive = zipfile.ZipFile(io.BytesIO(data))
    root = ElementTree.fromstring(archive.read("doc.kml"))
    return {
        folder.findtext("k:name", "", KML): folder for folder in root.iterfind(".//k:Folder", KML)
    }


@pytest.mark.parametrize("write", [geopackage, flatgeobuf])
def test_gis_files_hold_every_building_as_the_map_does(write: Any) -> None:
    case = layers()
    found = read(write(case), "buildings" if write is geopackage else None)
    found = found.set_index("building_id").loc[case.buildings["building_id"]].reset_index()
    assert found.crs == 4326
    assert found["damage_label"].isna().sum() == 3
    pd.testing.assert_series_equal(
        found["p_destroyed"], case.buildings["p_destroyed"], check_dtype=False, rtol=1e-6
    )
    assert shapely.equals_exact(
        [g.geoms[0] for g in found.geometry], case.buildings.geometry.to_numpy(), 1e-9
    ).all()
    assert set(found["hazard_missing"]) == {"", "psa30_g"}
    assert (found["acquired_post"].dt.tz_localize(None) == pd.Timestamp("2023-02-07 08:11")).all()


def test_a_geopackage_has_all_layers_and_the_same_bytes_each_time() -> None:
    data = geopackage(layers())
    with on_disk(data) as path:
        names = [name for name, _ in pyogrio.list_layers(path)]
    assert names == ["buildings", "cells", "layer_styles"]
    assert sorted(read(data, "cells")["cell_id"]) == ["c1", "c2"]
    assert geopackage(layers()) == data


def test_a_column_of_nulls_has_the_type_of_the_contract() -> None:
    with on_disk(geopackage(layers())) as path:
        info = pyogrio.read_info(path, layer="buildings")
    types = dict(zip(info["fields"], info["dtypes"], strict=True))
    assert types["vs30_m_s"] == types["mmi"] == types["p_destroyed"] == "float32"
    assert types["views"] == types["damage"] == "int16"
    assert types["evidence"] == "object"


def test_the_note_of_a_calibrated_map_gives_its_number_with_interval() -> None:
    bundle = {"name": "b", "version": "1", "meant_for": "lists"}
    run = products().run | {"shares": SHARES, "bundle": bundle}
    case = layers(buildings=with_shares(buildings()), run=run)
    assert case.note.startswith("About 1.8 destroyed (90 %: 0.9 to 2.7), estimated")
    with on_disk(geopackage(case)) as path:
        info = pyogrio.read_info(path, layer="buildings")
    assert case.note in info["layer_metadata"]["DESCRIPTION"]
    assert "This model is for lists" in case.note
    assert "not undamaged" in case.note


def test_a_geopackage_brings_a_style_that_qgis_takes_as_default() -> None:
    with on_disk(geopackage(layers())) as path, closing(sqlite3.connect(path)) as database:
        ((table, column, style, default),) = database.execute(
            "SELECT f_table_name, f_geometry_column, styleQML, useAsDefault FROM layer_styles"
        )
    assert (table, column, default) == ("buildings", "geom", 1)
    assert style == damage_style(layers())
    root = ElementTree.fromstring(style)
    categories = root.findall("./renderer-v2/categories/category")
    assert [c.get("value") for c in categories] == ["destroyed", "damaged", "intact", ""]
    symbols = {s.get("name"): s for s in root.findall("./renderer-v2/symbols/symbol")}
    assert {c.get("symbol") for c in categories} == set(symbols)


def test_a_building_without_an_outline_is_in_the_geopackage_and_in_no_other() -> None:
    frame = buildings()
    frame.loc[0, "geometry"] = None
    case = layers(buildings=frame)
    assert read(geopackage(case), "buildings").geometry.isna().sum() == 1
    assert len(read(flatgeobuf(case))) == 11
    assert sum(len(f.findall("k:Placemark", KML)) for f in folders(kmz(case)).values()) == 11


def test_a_kmz_has_a_folder_per_class_the_worst_first_and_likeliest_first() -> None:
    case = layers()
    found = folders(kmz(case))
    counts = case.buildings["damage_label"].value_counts()
    assert list(found) == [
        *(f"{label} ({counts[label]})" for label in ("destroyed", "damaged", "intact")),
        "not assessed (3)",
    ]
    worst = next(iter(found.values()))
    p = [
        float(mark.findtext("k:ExtendedData/k:Data[@name='p_destroyed']/k:value", "", KML))
        for mark in worst.iterfind("k:Placemark", KML)
    ]
    assert p == sorted(p, reverse=True)
    assert found["not assessed (3)"].findtext("k:visibility", "", KML) == "0"
    mark = worst.find("k:Placemark", KML)
    assert mark is not None
    outline = case.buildings.set_index("building_id").geometry[mark.findtext("k:name", "", KML)]
    text = mark.findtext(".//k:outerBoundaryIs/k:LinearRing/k:coordinates", "", KML)
    corners = [tuple(map(float, pair.split(","))) for pair in text.split()]
    assert corners == [tuple(round(v, 7) for v in c) for c in outline.exterior.coords]


def test_a_large_kmz_leaves_out_the_mildest_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    case = layers(buildings=buildings(40))
    monkeypatch.setattr(kmz_module, "MOST_PLACEMARKS", 20)
    data = kmz(case)
    marks = {n: len(f.findall("k:Placemark", KML)) for n, f in folders(data).items()}
    assert sum(marks.values()) == 20
    assert not [name for name in marks if name.startswith("not assessed")]
    assert b"20 features, the mildest, are left out" in zipfile.ZipFile(io.BytesIO(data)).read(
        "doc.kml"
    )


def test_names_with_marks_of_xml_stay_text() -> None:
    frame = buildings()
    frame["building_id"] = [f"<{n}>&\"'" for n in range(len(frame))]
    names = {
        mark.findtext("k:name", "", KML)
        for folder in folders(kmz(layers(buildings=frame))).values()
        for mark in folder.iterfind("k:Placemark", KML)
    }
    assert names == set(frame["building_id"])


def test_what_a_run_asks_for_is_what_is_exported_afterwards(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    publish(store, products(outputs=("gpkg", "kml")))
    inventory = {entry["name"] for entry in current_run(store)["products"]}
    assert {"map.gpkg", "map.kmz"} <= inventory
    for name, data in exported(store, ["gpkg", "kml"]):
        assert store.get(name) == data
    store.put("stac/items/a.json", b"of an earlier map")
    publish(store, products())
    assert not (tmp_path / "map.gpkg").exists()
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"snapshots"}


def test_files_follow_the_rows_when_a_map_is_restated(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    publish(store, products(outputs=("gpkg",)))
    again = snapshot_products(store, current_run(store))
    rows = again.buildings.assign(damage_label=None)
    rows.loc[rows["damage"].notna(), "damage"] = 2
    publish(store, replace(again, buildings=rows))
    found = read(store.get("map.gpkg"), "buildings")
    assert set(found["damage_label"].dropna()) == {"destroyed"}


def test_a_folder_without_a_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no finished map"):
        list(exported(open_store(str(tmp_path)), list(EXPORTS)))
