"""AOIs and footprints from real files and odd ones."""

import datetime as dt
import json
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from shapely.geometry import MultiPolygon, Point, box, mapping
from shapely.geometry.base import BaseGeometry

from quakestream.catalog import (
    FootprintRequest,
    Footprints,
    assign_views,
    coverage_reasons,
    extent_issues,
    read_aoi,
    read_footprints,
    scene_extent,
)
from quakestream.catalog.footprints import footprints_in
from quakestream.domain import Scene
from quakestream.errors import AccountingError, AoiError, FootprintError

WORLD = box(-180, -90, 180, 90)


def footprints(uri: str, id_column: str | None, aoi: BaseGeometry) -> Footprints:
    return read_footprints(FootprintRequest(uri=uri, id_column=id_column), aoi)


def geojson(path: Path, features: list[tuple[object, object]], crs: str | None = None) -> str:
    """A GeoJSON of (id property, geometry)."""
    found = [
        {"type": "Feature", "properties": {"id": name}, "geometry": geometry and mapping(geometry)}
        for name, geometry in features
    ]
    document: dict[str, object] = {"type": "FeatureCollection", "features": found}
    if crs:
        document["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(document))
    return str(path)


# Areas of interest --------------------------------------------------------------------------


def test_aoi_from_text() -> None:
    assert read_aoi("36.5, 37, 37.5, 38").equals(box(36.5, 37, 37.5, 38))
    assert read_aoi("POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))").equals(box(0, 0, 1, 1))
    assert read_aoi("SRID=4326;POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))").equals(box(0, 0, 1, 1))
    across = read_aoi("179,-18,-179,-16")
    assert across.equals(MultiPolygon([box(179, -18, 180, -16), box(-180, -18, -179, -16)]))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("POLYGON ((0 0, 1 0", "not valid WKT"),
        ("POLYGON EMPTY", "holds no area: expected polygons, got an empty geometry"),
        ("POLYGON ((0 0, 1 0, 2 0, 0 0))", "got Polygon without area"),
        ("POINT (1 2)", "holds no area: expected polygons, got Point"),
        (
            "SRID=32637;POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))",
            "WKT in another CRS: expected EPSG:4326",
        ),
        ("POLYGON ((300000 0, 300001 0, 300001 1, 300000 0))", "beyond the Earth"),
        ("36,38,37,37", "south < north"),
        ("no/such/file.geojson", "there is no such file"),
    ],
)
def test_aoi_that_is_none(text: str, match: str) -> None:
    with pytest.raises(AoiError, match=match):
        read_aoi(text)


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "fgb", "shp", "parquet"])
def test_aoi_of_several_polygons_in_any_format(tmp_path: Path, suffix: str) -> None:
    shapes = [box(300000, 4100000, 301000, 4101000), box(302000, 4100000, 303000, 4101000)]
    frame = gpd.GeoDataFrame(geometry=[*shapes, Point(300500, 4100500)][:2], crs=32637)
    path = tmp_path / f"aoi.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    aoi = read_aoi(str(path))
    expected = frame.to_crs(4326).union_all()
    assert aoi.symmetric_difference(expected).area < 1e-9 * expected.area


def test_a_bowtie_aoi_is_its_two_halves(tmp_path: Path) -> None:
    bowtie = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    aoi = read_aoi(geojson(tmp_path / "a.geojson", [(1, bowtie)]))
    assert aoi.is_valid
    assert aoi.area == pytest.approx(2.0)


# Footprints ---------------------------------------------------------------------------------


def test_ids_become_strings_and_oddities_are_named(tmp_path: Path) -> None:
    a, b = box(0, 0, 1, 1), box(2, 0, 3, 1)
    bowtie = shapely.Polygon([(4, 4), (5, 5), (5, 4), (4, 5)])
    rows: list[tuple[object, object]] = [
        (7, a), (7, shapely.Polygon(list(a.exterior.coords)[1:])), (7, b), (None, a),
        (9007199254740993, bowtie), (3, Point(1, 1)), (4, None), (5, box(50, 50, 51, 51)),
    ]  # fmt: skip
    path = geojson(tmp_path / "f.geojson", rows)
    found = footprints(path, "id", box(-10, -10, 10, 10))
    # A number past 2**53 survives next to a missing one.
    assert found.table["building_id"].tolist() == ["7", "7#2", "row-3", "9007199254740993", "3"]
    assert found.invalid.tolist() == [False, False, False, True, True]
    assert found.table.crs == "EPSG:4326"
    assert found.table.geometry.iloc[3].equals_exact(bowtie, 0)
    assert (found.representative[3].x, found.representative[3].y) == (4.5, 4.5)
    counts = (found.rows_read, found.duplicates_collapsed, found.outside_aoi)
    assert (*counts, found.without_position) == (8, 1, 1, 1)
    causes = {issue.subject: issue.cause for issue in found.issues}
    assert set(causes) == {"row-3", "7#2", "9007199254740993", "3", "4"}
    assert "Self-intersection" in causes["9007199254740993"]
    assert "got a Point" in causes["3"]
    assert "it has no position and no row" in causes["4"]


def test_numeric_feature_ids_of_a_geojson_count(tmp_path: Path) -> None:
    features = [
        {"type": "Feature", "id": i, "properties": {}, "geometry": mapping(box(i, 0, i + 1, 1))}
        for i in (30, 10, 20)
    ]
    path = tmp_path / "f.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = footprints(str(path), "id", WORLD)
    assert found.table["building_id"].tolist() == ["30", "10", "20"]
    assert [g.bounds[0] for g in found.table.geometry] == [30, 10, 20]


def test_the_fid_of_a_geopackage_can_be_the_id(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"name": ["a", "b"]}, geometry=[box(0, 0, 1, 1)] * 2, crs=4326)
    frame.to_file(tmp_path / "f.gpkg")
    assert footprints(str(tmp_path / "f.gpkg"), "fid", WORLD).table["building_id"].tolist() == [
        "1",
        "2",
    ]


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "fgb", "shp", "parquet"])
def test_any_format_any_crs(tmp_path: Path, suffix: str) -> None:
    frame = gpd.GeoDataFrame(
        {"id": ["x", "y"]},
        geometry=[box(300000, 4100000, 300010, 4100010), box(300020, 4100000, 300030, 4100010)],
        crs=32637,
    )
    path = tmp_path / f"f.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_file(path)
    found = footprints(str(path), "id", WORLD)
    table = found.table.set_index("building_id")  # FlatGeobuf sorts its features
    assert sorted(table.index) == ["x", "y"]
    assert table.to_crs(32637).geometry["y"].bounds == pytest.approx(
        (300020, 4100000, 300030, 4100010), abs=1e-3
    )
    with pytest.raises(FootprintError, match=r"has no column 'osm': got columns .*id"):
        footprints(str(path), "osm", WORLD)


def test_what_cannot_be_footprints_is_refused(tmp_path: Path) -> None:
    frame = gpd.GeoDataFrame({"id": ["x"]}, geometry=[box(0, 0, 1, 1)])
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        frame.to_file(tmp_path / "nocrs.gpkg")
    frame.to_parquet(tmp_path / "nocrs.parquet")
    for name in ("nocrs.gpkg", "nocrs.parquet"):
        with pytest.raises(FootprintError, match="has no CRS"):
            footprints(str(tmp_path / name), "id", WORLD)
    (tmp_path / "text.geojson").write_text("no vectors here")
    with pytest.raises(FootprintError, match=r"is not a vector file: .*got a text file"):
        footprints(str(tmp_path / "text.geojson"), "id", WORLD)
    with pytest.raises(FootprintError, match="there is no such file"):
        footprints(str(tmp_path / "none.gpkg"), "id", WORLD)
    empty = geojson(tmp_path / "empty.geojson", [])
    with pytest.raises(FootprintError, match="holds no features"):
        footprints(empty, None, WORLD)
    frame = frame.set_crs(4326)
    for layer in ("one", "two"):
        frame.to_file(tmp_path / "layers.gpkg", layer=layer)
    with pytest.raises(FootprintError, match=r"holds 2 layers: .*got one, two; name it"):
        footprints(str(tmp_path / "layers.gpkg"), "id", WORLD)
    (tmp_path / "table.csv").write_text("id,name\n1,a\n")
    with pytest.raises(FootprintError, match="got a table without geometry; add a column"):
        footprints(str(tmp_path / "table.csv"), "id", WORLD)


def test_counts_that_do_not_add_up_are_a_bug() -> None:
    table = gpd.GeoDataFrame({"building_id": ["a"]}, geometry=[box(0, 0, 1, 1)], crs=4326)
    with pytest.raises(
        AccountingError, match="expected 3 footprints read, got 1 rows and 1 left out"
    ):
        Footprints(
            table=table, invalid=np.zeros(1, bool), representative=np.array([None]), issues=[],
            rows_read=3, duplicates_collapsed=1, outside_aoi=0, without_position=0,
        )  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "id_column", "rows", "invalid", "nowhere"),
    [
        ("nurdagi-islahiye-2023-footprints/blackshark_roofprints_1050050044DE7E00.gpkg",
         "building_id", 13792, 0, 0),
        ("nurdagi-islahiye-2023-footprints/blackshark_roofprints_1050050044DE7F00.gpkg",
         None, 14051, 0, 0),
        ("nurdagi-islahiye-2023-footprints/islahiye_osm_buildings_model_damage_utm37.geojson",
         None, 6874, 0, 0),
        # 23 of its rows have no geometry.
        ("nurdagi-islahiye-2023-footprints/blackshark_changes_1040010082698700.gpkg",
         None, 186, 0, 23),
        ("joplin-2011/building_footprints.geojson", None, 2823, 0, 0),
        ("joplin-2011/building_footprints_clip.gpkg", "fid", 77, 0, 0),
        ("vhr-footprint-samples/oam-chips/labels.geojson", "osm_id", 206, 0, 0),
        ("vhr-footprint-samples/spacenet/geotiff_labels.geojson", None, 43, 0, 0),
    ],
)  # fmt: skip
def test_real_files(
    data_dir: Path, name: str, id_column: str | None, rows: int, invalid: int, nowhere: int
) -> None:
    found = footprints(str(data_dir / name), id_column, WORLD)
    lost = found.duplicates_collapsed + found.without_position
    assert (len(found.table) + found.duplicates_collapsed, found.invalid.sum()) == (rows, invalid)
    assert found.without_position == nowhere
    assert found.rows_read == len(found.table) + lost
    assert found.table["building_id"].is_unique
    west, south, east, north = found.table.total_bounds
    assert -180 <= west < east <= 180
    assert east - west < 1
    assert north - south < 1


@pytest.mark.data
def test_a_real_aoi_splits_real_footprints(data_dir: Path) -> None:
    folder = data_dir / "nurdagi-islahiye-2023-footprints"
    aoi = read_aoi(str(folder / "EMSR648_AOI16_GRA_PRODUCT_areaOfInterestA_r1_v1.json"))
    path = str(folder / "blackshark_roofprints_1050050044DE7E00.gpkg")
    found = footprints(path, None, aoi)
    assert found.outside_aoi > 0
    assert len(found.table) + found.outside_aoi == 13792
    points = shapely.point_on_surface(found.table.geometry.values)
    assert shapely.intersects(aoi, points).all()


@pytest.mark.data
def test_the_empty_real_file_is_refused(data_dir: Path) -> None:
    path = data_dir / "vhr-footprint-samples" / "spacenet" / "empty.geojson"
    with pytest.raises(FootprintError, match="0 bytes"):
        footprints(str(path), None, WORLD)


# Extents and pairing at size ----------------------------------------------------------------

UTM = pyproj.CRS.from_epsg(32637).to_wkt()


def scene(name: str, outline: object, **header: object) -> Scene:
    when = dt.datetime(2023, 2, 7, tzinfo=dt.UTC)
    return Scene(id=name, href=f"{name}.tif", datetime=when, outline=outline, **header)  # type: ignore[arg-type]


def test_a_scene_shows_where_outline_and_raster_meet() -> None:
    header = {"crs_wkt": UTM, "transform": Affine(0.5, 0, 300000, 0, -0.5, 4110000)}
    header |= {"shape": (20000, 20000)}
    raster = scene_extent(scene("r", WORLD, **header))
    to_utm = pyproj.Transformer.from_crs(4326, UTM, always_xy=True)
    back = shapely.transform(raster, lambda xy: np.column_stack(to_utm.transform(*xy.T)))
    assert back.symmetric_difference(box(300000, 4100000, 310000, 4110000)).area < 1.0
    half = box(raster.bounds[0], raster.bounds[1], raster.centroid.x, raster.bounds[3])
    assert scene_extent(scene("h", half, **header)).area == pytest.approx(raster.area / 2, rel=0.02)
    # gaziantep2: an item 2 km off its file. The file is believed, and it is said.
    lost = scene("l", box(10, 10, 11, 11), **header)
    assert scene_extent(lost).equals(raster)
    assert [issue.subject for issue in extent_issues([lost, scene("h", half, **header)])] == ["l"]


def test_a_hundred_thousand_footprints_and_two_hundred_scenes_take_seconds() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.uniform(0, 1, (2, 100_000))
    outlines = shapely.box(x, y, x + 1e-4, y + 1e-4)
    footprints = footprints_in(np.arange(100_000, dtype=object), outlines, box(0, 0, 2, 2), "t")
    corner = rng.uniform(-0.1, 0.9, (400, 2))
    found = [scene(f"s{i}", box(a, b, a + 0.15, b + 0.15)) for i, (a, b) in enumerate(corner)]
    began = time.perf_counter()
    views = assign_views(footprints, found[:200], found[200:], needs_pre=True)
    assert time.perf_counter() - began < 20
    counts = coverage_reasons(views)
    assert sum(counts.values()) == 100_000
    assert counts["covered"] == int((views.view_of_N >= 0).sum()) > 50_000
    for row in rng.integers(0, 100_000, 200):
        if views.view_of_N[row] >= 0:
            view = views.views[views.view_of_N[row]]
            assert view.pre is not None
            share = view.post.outline.intersection(outlines[row]).area / outlines[row].area
            assert share >= 0.5
