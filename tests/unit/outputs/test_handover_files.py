"""Files for web maps, humanitarian platforms and users of Copernicus packages."""

import csv
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pystac
import pytest
import shapely
from pmtiles.reader import MemorySource, Reader
from pmtiles.tile import TileType

from quakestream.bundles.files import SHIPPED
from quakestream.outputs.buildings import ordered_buildings
from quakestream.outputs.ems import GRADED, ems_package
from quakestream.outputs.export_map import exported
from quakestream.outputs.hxl import hxl_csv
from quakestream.outputs.map_layers import COLOURS, SLIDE_COLOUR, MapLayers, layers_of
from quakestream.outputs.pdf_map import map_page, pdf_map
from quakestream.outputs.publish import publish
from quakestream.outputs.stac import stac_files
from quakestream.outputs.tile_archive import tile_archive
from quakestream.storage import open_store
from tests.helpers.outputs_case import SHARES, buildings, coverage, products, with_shares
from tests.unit.outputs.test_landslides import rows_with_slides
from tests.unit.outputs.test_landslides import slides as slide_rows

SCENES = [
    {
        "id": "pre-1",
        "href": "https://imagery.example/pre.tif?sig=secret",
        "datetime": "2022-08-17T08:30:00+00:00",
        "gsd_m": 0.5,
    },
    {"id": "post-1", "href": "post.tif", "datetime": "2023-02-07T08:11:05+00:00"},
    {"id": "post-2", "href": "day.tif", "datetime": "2023-02-08T12:00:00+00:00", "span_s": 86400},
]
AOI = shapely.box(36.92, 37.56, 36.95, 37.59)


def layers(**changes: Any) -> MapLayers:
    changes.setdefault("run", products().run | {"inputs": {"scenes": SCENES}})
    made = products(aoi=AOI, **changes)
    return layers_of(made, ordered_buildings(made.buildings, made.labels, made.layers))


def read_tiles(data: bytes, layer: str) -> pd.DataFrame:
    """A layer of an archive at its last zoom, as GDAL reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "map.pmtiles")
        path.write_bytes(data)
        return pyogrio.read_dataframe(path, layer=layer)


def test_an_archive_of_tiles_has_every_building_with_its_verdict() -> None:
    case = layers()
    found = read_tiles(tile_archive(case), "buildings").drop_duplicates("building_id")
    found = found.set_index("building_id").loc[case.buildings["building_id"]]
    assert found["status"].tolist() == case.buildings["status"].tolist()
    labels = case.buildings["damage_label"]
    assert found["damage_label"].fillna("").tolist() == labels.fillna("").tolist()
    frames = found.to_crs(4326), case.buildings
    centres = (shapely.centroid(np.asarray(frame.geometry)) for frame in frames)
    assert shapely.distance(*centres).max() < 1e-5, "a unit of a tile is 0.6 m"


def test_an_archive_says_where_it_lies_and_what_it_is() -> None:
    case = layers(buildings=with_shares(buildings()), run=products().run | {"shares": SHARES})
    reader = Reader(MemorySource(tile_archive(case)))
    header, about = reader.header(), reader.metadata()
    west, _, _, north = case.buildings.total_bounds
    assert header["min_lon_e7"] == pytest.approx(west * 1e7, abs=20)
    assert header["max_lat_e7"] == pytest.approx(north * 1e7, abs=20)
    assert (header["min_zoom"], header["max_zoom"]) == (0, 14)
    assert header["tile_type"] == TileType.MVT
    assert header["clustered"]
    assert about["description"].startswith("About 1.8 destroyed (90 %: 0.9 to 2.7)")
    assert [one["id"] for one in about["vector_layers"]] == ["buildings", "building_counts"]
    assert tile_archive(case) == tile_archive(case)


def test_an_archive_of_a_map_without_buildings_can_be_opened() -> None:
    reader = Reader(MemorySource(tile_archive(layers(buildings=buildings().iloc[:0]))))
    assert reader.header()["max_zoom"] == 0


def test_the_tagged_summary_is_the_summary_with_a_row_of_tags() -> None:
    case = layers(buildings=with_shares(buildings()), run=products().run | {"shares": SHARES})
    rows = list(csv.reader(io.StringIO(hxl_csv(case.summary).decode())))
    assert rows[0] == list(case.summary.columns)
    assert [len(row) for row in rows] == [len(rows[0])] * (len(case.summary) + 2)
    for tag in rows[1]:
        assert re.fullmatch(r"#[a-z][a-z0-9_]*(\+[a-z][a-z0-9_]*)*", tag), tag
    assert len(set(rows[1])) == len(rows[1]), "no two columns mean the same"
    tags = dict(zip(*rows[:2], strict=True))
    assert tags["destroyed"] == "#impact+buildings+declared+destroyed+num"
    assert tags["expected_destroyed"] == "#impact+buildings+expected+destroyed+num"
    assert tags["expected_low"] == "#impact+buildings+expected+destroyed+min+num"
    assert tags["share_of_assessed_intact"] == "#impact+buildings+declared+intact+ratio"
    assert tags["not_assessed_cloud"] == "#impact+buildings+not_assessed+cloud+num"
    assert [int(row[1]) for row in rows[2:]] == case.summary["buildings"].tolist()


def ems(case: MapLayers, folder: Path) -> dict[str, pd.DataFrame]:
    path = folder / "ems.gpkg"
    path.write_bytes(ems_package(case))
    return {name: pyogrio.read_dataframe(path, layer=name) for name, _ in pyogrio.list_layers(path)}


def test_a_package_grades_the_assessed_in_the_words_of_copernicus(tmp_path: Path) -> None:
    case = layers()
    found = ems(case, tmp_path)
    graded, missed = found["builtUpA_v1"], found["notAnalysedA_v1"]
    assert tuple(graded.columns) == (*GRADED, "geometry")
    rows = case.buildings.set_index("building_id").loc[graded["name"]]
    words = {"intact": "No visible damage", "damaged": "Damaged", "destroyed": "Destroyed"}
    assert graded["damage_gra"].tolist() == rows["damage_label"].map(words).tolist()
    assert set(missed["obj_desc"]) == {"cloud"}
    assert {*graded["name"], *missed["name"]} == set(case.buildings["building_id"])
    assert len(graded) + len(missed) == len(case.buildings)
    assert shapely.equals_exact(found["areaOfInterestA_v1"].geometry[0].geoms[0], AOI, 1e-9)


def test_a_package_names_the_images_that_buildings_were_graded_on(tmp_path: Path) -> None:
    found = ems(layers(), tmp_path)
    sources = found["source_v1"].set_index("src_id")
    assert set(found["builtUpA_v1"]["dmg_src_id"]) == {2}
    assert sources.loc[2].tolist() == [
        "post-1", "07/02/2023", "T08:11:05Z", "Not Applicable", "Post-event",
    ]  # fmt: skip
    assert sources.loc[1, "eventphase"] == "Pre-event"
    assert sources.loc[3, "source_tm"] == "Not Applicable", "the day is known, the time is not"
    assert sources.loc[1, "sensor_gsd"] == "0.5 m"


RECORD = json.loads((SHIPPED / "damage-turkiye-2023" / "mlm.json").read_text())
MODEL = {"name": "walls", "version": "3", "digest": "ab" * 32, "uri": "bundles/walls"}


def catalogue(folder: Path) -> pystac.Collection:
    run = products().run | {"inputs": {"scenes": SCENES}, "versions": {"quakestream": "1.2.3"}}
    for name, data in stac_files(layers(run=run | {"bundle": MODEL | {"record": RECORD}})):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return pystac.Collection.from_file(str(folder / "stac" / "collection.json"))


def test_a_catalogue_has_an_item_per_product_that_says_what_it_was_made_of(tmp_path: Path) -> None:
    found = catalogue(tmp_path)
    found.validate()
    items = {item.id: item for item in found.get_items()}
    assert set(items) == {
        "buildings", "coverage", "summary", "areas", "quarantine", "model-walls",
    }  # fmt: skip
    for one in items.values():
        core = pystac.Item.from_dict(one.to_dict() | {"stac_extensions": []})
        core.validate()  # schemas of extensions would be fetched
    item = items["buildings"]
    place = (tmp_path / "stac" / item.assets["data"].href).resolve()
    assert place == tmp_path / "buildings.parquet"
    assert shapely.geometry.shape(item.geometry).equals(AOI)
    assert item.common_metadata.start_datetime.isoformat() == "2022-08-17T08:30:00+00:00"
    about = item.properties
    assert about["processing:software"] == {"quakestream": "1.2.3"}
    assert (
        about["processing:lineage"]
        == "Models: walls 3 (abababababab). Scenes: pre-1, post-1, post-2."
    )
    parents = [link.href for link in item.get_links("derived_from")]
    assert parents[1:] == ["./model-walls.json"], "a file of a disk is no link"
    assert parents[0].startswith("https://imagery.example/pre.tif")
    assert "secret" not in parents[0]


def test_a_catalogue_keeps_the_record_of_the_model(tmp_path: Path) -> None:
    found = catalogue(tmp_path)
    item = {item.id: item for item in found.get_items()}["model-walls"]
    assert item.properties["mlm:architecture"] == "FC-Siam-Diff Small"
    assert item.assets["model"].href.removeprefix("./") == "bundles/walls/model.onnx"
    assert item.collection_id == found.id


def dots_of(case: MapLayers) -> dict[tuple[int, int, int], int]:
    """Dots of the map on the page by colour."""
    map_ = map_page(case).crop((60, 60, 1650, 1594))
    return {colour: n for n, colour in map_.getcolors(map_.width * map_.height) or []}


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


def test_a_page_shows_as_much_of_each_class_as_there_is() -> None:
    case = layers()
    dots = dots_of(case)
    names = {one.label: one.xbd for one in case.classes}
    counts = case.buildings["damage_label"].map(names, na_action="ignore")
    shares = [dots[rgb(COLOURS[xbd])] for xbd in ("no", "major", "destroyed", None)]
    rows = [(counts == xbd).sum() for xbd in ("no", "major", "destroyed")] + [counts.isna().sum()]
    assert np.allclose(np.divide(shares, sum(shares)), np.divide(rows, sum(rows)), atol=0.02)
    assert pdf_map(case).startswith(b"%PDF-")
    assert pdf_map(case) == pdf_map(case)


def test_a_page_of_a_map_without_buildings_or_across_180_is_made() -> None:
    assert pdf_map(layers(buildings=buildings().iloc[:0])).startswith(b"%PDF-")
    both = gpd.GeoSeries([shapely.box(179.99, 0, 180, 0.01), shapely.box(-180, 0, -179.99, 0.01)])
    frame = buildings(2).set_geometry(both.to_list(), crs=4326)
    made = products(buildings=frame, coverage=coverage().iloc[:0])
    case = layers_of(made, ordered_buildings(made.buildings, made.labels, made.layers))
    seen = sum(n for colour, n in dots_of(case).items() if colour in map(rgb, COLOURS.values()))
    assert seen > 500_000, "both fill the page, beside each other"


def test_a_map_of_slides_says_what_slides_may_be_and_hands_them_over(tmp_path: Path) -> None:
    slides = slide_rows()
    run = {"landslide_bundle": MODEL, "event": products().run["event"], "counts": {"footprints": 0}}
    case = layers(buildings=rows_with_slides().iloc[:0], landslides=slides, run=run)
    assert case.headline == f"2 landslides, {slides['area_m2'].sum() / 1e6:.3g} km²."
    assert "bare ground" in case.caveat
    assert "above is called intact" not in case.note
    events = ems(case, tmp_path)["observedEventA_v1"]
    assert sorted(events["name"]) == sorted(slides["landslide_id"])
    assert set(events["obj_desc"]) == {"Landslide"}
    assert rgb(SLIDE_COLOUR) in dots_of(case)


def test_a_package_has_the_answers_of_people(tmp_path: Path) -> None:
    frame = buildings()
    seen = frame.index[frame["status"] == "assessed"]
    frame["checked"] = None
    frame.loc[seen[:3], "checked"] = ["damaged", "intact", "cannot_tell"]
    graded = ems(layers(buildings=frame), tmp_path)["builtUpA_v1"].set_index("name")
    first, second, third = (graded.loc[frame["building_id"][n]] for n in seen[:3])
    assert (first["damage_gra"], first["det_method"]) == ("Damaged", "Photo-interpretation")
    assert (second["damage_gra"], second["det_method"]) == (
        "No visible damage", "Photo-interpretation",
    )  # fmt: skip
    assert third["det_method"] == "Automatic extraction"


def test_links_of_files_in_another_folder_lead_to_the_map(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    publish(store, products())
    found = dict(exported(store, ["stac"], place="s3://bucket/out"))
    item = json.loads(found["stac/buildings.json"])
    assert item["assets"]["data"]["href"] == "s3://bucket/out/buildings.parquet"
