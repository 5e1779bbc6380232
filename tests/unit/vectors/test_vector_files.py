"""Vector files as the field sends them: one set of three boxes in every wrapping."""

import gzip
import io
import json
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from shapely.geometry import box, mapping

from quakestream.errors import RequestError
from quakestream.storage import StorageOptions
from quakestream.storage.limits import BodyLimits
from quakestream.vectors import FID, Attributes, VectorRequest, datasets, read_vectors

BOXES = [box(36 + n / 100, 37, 36.001 + n / 100, 37.001) for n in range(3)]
NAMES = ["Şehir", "Köy", "Çay"]
FRAME = gpd.GeoDataFrame({"id": NAMES}, geometry=BOXES, crs=4326)
EVERY = Attributes(every=True, optional=("id",))


def read(path: Path, **request: Any) -> gpd.GeoDataFrame:
    request = {"attributes": EVERY, **request}
    return read_vectors(VectorRequest(uri=str(path), **request), StorageOptions(), RequestError)


def refusal(path: Path, **request: Any) -> str:
    with pytest.raises(RequestError) as caught:
        read(path, **request)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def features(**members: Any) -> list[dict[str, Any]]:
    return [
        {"type": "Feature", "properties": {"id": name}, "geometry": mapping(shape), **members}
        for name, shape in zip(NAMES, BOXES, strict=True)
    ]


def collection(some: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": some}


def as_lines() -> bytes:
    return "".join(json.dumps(f) + "\n" for f in features()).encode()


def as_geojson() -> bytes:
    return json.dumps(collection(features()), indent=1).encode()


def as_collections() -> bytes:
    first, *others = features()
    return "\n".join(json.dumps(collection(part)) for part in ([first], others)).encode()


def as_sequence() -> bytes:
    return "".join(f"\x1e{json.dumps(f)}\n" for f in features()).encode()


def as_csv() -> bytes:
    rows = [f'{x},{n},"{s.wkt}"' for x, (n, s) in enumerate(zip(NAMES, BOXES, strict=True))]
    return "\n".join(["latitude,id,geometry", *rows]).encode("utf-8-sig")


def as_ewkt() -> bytes:
    utm = FRAME.to_crs(32637).geometry
    rows = [f"{n};SRID=32637;{s.wkt}" for n, s in zip(NAMES, utm, strict=True)]
    return "\n".join(["id|wkt", *(row.replace(";", "|", 1) for row in rows)]).encode()


def as_esri() -> bytes:
    utm = FRAME.to_crs(3857).geometry
    found = [
        {"attributes": {"id": n}, "geometry": {"rings": [list(map(list, s.exterior.coords))]}}
        for n, s in zip(NAMES, utm, strict=True)
    ]
    reference = {"wkid": 102100}
    return json.dumps(
        {"geometryType": "esriGeometryPolygon", "spatialReference": reference, "features": found}
    ).encode()


def as_kml() -> bytes:
    marks = "".join(
        f"<Placemark><name>{n}</name><ExtendedData><Data name='id'><value>{n}</value></Data>"
        "</ExtendedData><Polygon><outerBoundaryIs><LinearRing><coordinates>"
        + " ".join(f"{x},{y},7" for x, y in s.exterior.coords)
        + "</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>"
        for n, s in zip(NAMES, BOXES, strict=True)
    )
    head = '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document><Folder>'
    return f"{head}<name>b</name>{marks}</Folder></Document></kml>".encode()


def as_parquet(geometry: str = "geometry") -> bytes:
    """WKB without GeoParquet metadata, as databases write it."""
    table = pa.table({"id": NAMES, geometry: [s.wkb for s in BOXES]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def as_geoparquet(**options: Any) -> bytes:
    sink = io.BytesIO()
    FRAME.to_crs(32637).to_parquet(sink, **options)
    return sink.getvalue()


def as_file(suffix: str) -> Callable[[], bytes]:
    def made() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"made{suffix}"
            FRAME.to_file(path)
            return path.read_bytes()

    return made


WRAPPINGS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "geojson": ("a.geojson", as_geojson),
    "geojson called csv": ("a.csv", as_geojson),
    "lines": ("a.geojsonl", as_lines),
    "lines called csv": ("part-00012.csv", as_lines),
    "record separators": ("a.json", as_sequence),
    "a collection a line": ("a.ndjson", as_collections),
    "csv with wkt": ("145_buildings.csv", as_csv),
    "bars and ewkt": ("a.txt", as_ewkt),
    "esri json": ("query.json", as_esri),
    "kml": ("doc.kml", as_kml),
    "wkb in parquet": ("a.parquet", as_parquet),
    "wkb in another column": ("a.pq", lambda: as_parquet("wkb_geometry")),
    "geoparquet 1.0": ("a.parquet", lambda: as_geoparquet(schema_version="1.0.0")),
    "geoparquet 1.1": ("a", lambda: as_geoparquet(geometry_encoding="geoarrow")),
    "geopackage": ("a.sqlite", as_file(".gpkg")),
    "flatgeobuf": ("download", as_file(".fgb")),
}


@pytest.mark.parametrize("outer", ["", ".gz", ".zip"])
@pytest.mark.parametrize("kind", WRAPPINGS)
def test_the_same_boxes_come_out_of_every_wrapping(tmp_path: Path, kind: str, outer: str) -> None:
    name, made = WRAPPINGS[kind]
    data = made()
    if outer == ".gz":
        data = gzip.compress(data)
    if outer == ".zip":
        data = zipped({f"a folder/{name}": data, "__MACOSX/._x": b"\0", "readme.txt": b"see www"})
    path = tmp_path / f"{name}{outer}"
    path.write_bytes(data)
    found = read(path)
    # FlatGeobuf sorts its features
    found = found.iloc[np.argsort(found.geometry.bounds["minx"].to_numpy())]
    assert found["id"].tolist() == NAMES
    assert found.crs == "EPSG:4326"
    for shape, expected in zip(found.geometry, BOXES, strict=True):
        assert not shape.has_z
        assert shape.symmetric_difference(expected).area < 1e-6 * expected.area


def zipped(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


def shapefile(folder: Path, name: str = "outlines", **options: Any) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    FRAME.to_file(folder / f"{name}.shp", **options)
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.stem == name}


def test_several_shapefiles_of_a_zip_are_layers(tmp_path: Path) -> None:
    parts = {**shapefile(tmp_path / "1", "north"), **shapefile(tmp_path / "2", "south")}
    path = tmp_path / "both.zip"
    path.write_bytes(zipped({f"x/{name}": data for name, data in parts.items()}))
    assert "holds 2 layers: " in (said := refusal(path))
    assert "got north, south; name it with `layer`" in said
    assert read(path, layer="south")["id"].tolist() == NAMES
    assert len(read(path, union=True)) == 6
    assert "has no layer 'east': got layers north, south" in refusal(path, layer="east")


@pytest.mark.parametrize("kind", ["archive in an archive", "kmz"])
def test_members_beside_the_outlines_are_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.zip"
    members = {"doc.kml": as_kml(), "files/icon.png": b"\x89PNG"}
    if kind != "kmz":
        members = {"inner.zip": zipped(shapefile(tmp_path / "s")), "map.pdf": b"%PDF-"}
    path.write_bytes(zipped(members))
    assert read(path)["id"].tolist() == NAMES


def test_a_folder_and_a_geodatabase(tmp_path: Path) -> None:
    shapefile(tmp_path / "shapes")
    assert read(tmp_path / "shapes")["id"].tolist() == NAMES
    FRAME.to_file(tmp_path / "city.gdb", driver="OpenFileGDB", layer="buildings")
    assert read(tmp_path / "city.gdb")["id"].tolist() == NAMES
    members = {f"city.gdb/{p.name}": p.read_bytes() for p in (tmp_path / "city.gdb").iterdir()}
    (tmp_path / "city.gdb.zip").write_bytes(zipped(members))
    assert read(tmp_path / "city.gdb.zip")["id"].tolist() == NAMES


# Text of shapefiles ---------------------------------------------------------------------------


def with_language(shapes: Path, code: int) -> None:
    """Writes the code of a text's encoding into the header of a shapefile's table."""
    table = shapes.with_suffix(".dbf")
    data = bytearray(table.read_bytes())
    data[29] = code
    table.write_bytes(data)


def test_text_in_another_encoding_than_the_cpg_says_is_refused_unless_certain(
    tmp_path: Path,
) -> None:
    shapefile(tmp_path / "s", encoding="cp1254")
    path = tmp_path / "s" / "outlines.shp"
    path.with_suffix(".cpg").write_text("UTF-8")
    with_language(path, 0)
    assert "its text is not UTF-8" in refusal(path)
    assert len(read(path, attributes=Attributes())) == 3  # outlines alone need no text
    with_language(path, 0xCA)  # Windows-1254
    assert read(path)["id"].tolist() == NAMES


def test_utf8_without_a_cpg_is_read_as_utf8(tmp_path: Path) -> None:
    shapefile(tmp_path / "s", encoding="UTF-8")
    path = tmp_path / "s" / "outlines.shp"
    path.with_suffix(".cpg").unlink()
    with_language(path, 0)
    assert read(path)["id"].tolist() == NAMES


def test_a_shapefile_without_its_index_and_with_capital_suffixes(tmp_path: Path) -> None:
    shapefile(tmp_path / "s")
    path = tmp_path / "s" / "outlines.shp"
    path.with_suffix(".shx").unlink()
    for part in list(path.parent.iterdir()):
        part.rename(part.with_suffix(part.suffix.upper()))
    assert read(path.with_suffix(".SHP"))["id"].tolist() == NAMES
    assert not path.with_suffix(".shx").exists()  # nothing is written beside the user's files


# Geometry ---------------------------------------------------------------------------------------


def test_curves_become_lines_and_long_ids_stay(tmp_path: Path) -> None:
    path = tmp_path / "c.gpkg"
    long = 9007199254740993
    ids = pd.array([long, None], dtype="Int64")
    frame = gpd.GeoDataFrame({"id": ids}, geometry=BOXES[:2], crs=4326)
    frame.to_file(path)
    base = sqlite3.connect(path)
    head = base.execute("select geom from c").fetchone()[0]
    header = head[: 8 + 32]
    # CURVEPOLYGON of one circle of radius 0.001 around (36, 37)
    ring = np.array([[35.999, 37], [36, 37.001], [36.001, 37], [36, 36.999], [35.999, 37]])
    curve = b"\x01" + np.uint32(8).tobytes() + np.uint32(5).tobytes() + ring.astype("<f8").tobytes()
    shape = b"\x01" + np.uint32(10).tobytes() + np.uint32(1).tobytes() + curve
    for (name,) in base.execute("select name from sqlite_master where type='trigger'").fetchall():
        base.execute(f'drop trigger "{name}"')
    base.execute("update c set geom = ? where fid = 1", (header + shape,))
    base.commit()
    base.close()
    found = read(path)
    assert found["id"].tolist()[0] == long
    assert found.geometry[0].geom_type == "Polygon"
    assert found.geometry[0].area == pytest.approx(np.pi * 1e-6, rel=0.005)
    assert found.geometry[1].equals(BOXES[1])


def test_null_empty_and_mixed_geometries_keep_their_rows(tmp_path: Path) -> None:
    some = features()
    some[0]["geometry"] = None
    some[1]["geometry"] = {"type": "Polygon", "coordinates": []}
    some.append({"type": "Feature", "properties": {}, "geometry": mapping(shapely.Point(36, 37))})
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(collection(some)))
    found = read(path)
    assert found.geometry.isna().tolist() == [True, False, False, False]
    assert found.geometry[1].is_empty
    assert [found.geometry[n].geom_type for n in (2, 3)] == ["Polygon", "Point"]


def test_esri_rings_are_holes_and_curved_services_say_they_are_cut(tmp_path: Path) -> None:
    outer, inner = box(0, 0, 4, 4), box(1, 1, 2, 2)
    rings = [list(map(list, s.exterior.coords)) for s in (inner, outer)]
    document = {
        "spatialReference": {"wkid": 4326},
        "features": [{"attributes": {"id": 1}, "geometry": {"rings": rings}}, {"attributes": {}}],
    }
    path = tmp_path / "q.json"
    path.write_text(json.dumps(document))
    found = read(path)
    assert found.geometry[0].equals(outer.difference(inner))
    assert found.geometry[1] is None
    path.write_text(json.dumps({**document, "exceededTransferLimit": True}))
    assert "is cut: its service gives no more features at once" in refusal(path)


def test_points_out_of_longitude_and_latitude(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("id;Latitude;Longitude;grade\n007;37;36;2\n8;;;3\n")
    found = read(path)
    assert found["id"].tolist() == ["007", "8"]
    assert found["grade"].tolist() == [2, 3]
    assert found.geometry[0].equals(shapely.Point(36, 37))
    assert found.geometry[1] is None


def test_a_table_in_metres_has_no_crs(tmp_path: Path) -> None:
    path = tmp_path / "utm.csv"
    path.write_text('id,wkt\n1,"POINT (300000 4100000)"\n')
    assert "has no CRS" in refusal(path)


@pytest.mark.parametrize(
    ("suffix", "made", "first"),
    [(".csv", as_csv, 0), (".gpkg", as_file(".gpkg"), 1), (".parquet", as_geoparquet, 0)],
)
def test_feature_numbers_of_any_kind(
    tmp_path: Path, suffix: str, made: Callable[[], bytes], first: int
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(made())
    numbers = read(path, attributes=Attributes(required=(FID,)))[FID]
    assert numbers.tolist() == [first, first + 1, first + 2]


# What is no vector file -------------------------------------------------------------------------

NOT_VECTORS: dict[str, tuple[bytes, str]] = {
    "login.geojson": (b"<!DOCTYPE html><html><body>Sign in", "an HTML page, probably a login"),
    "page.json": (b"\n<html lang='en'>", "an HTML page"),
    "map.zip": (b"%PDF-1.7", "a PDF"),
    "t.gpkg": (b"II*\x00\x08\x00", "a TIFF image"),
    "shake_result.hdf": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    "project.qgs": (b"<!DOCTYPE qgis PUBLIC 'x'>\n<qgis projectname=''>", "a QGIS project"),
    "a.vrt": (b"<OGRVRTDataSource><OGRVRTLayer name='x'>", "a GDAL virtual file (VRT)"),
    "a.gdalg.json": (b'{"type": "gdal_streamed_alg", "command_line": "x"}', "a GDAL pipeline"),
    "b.geojson": (
        b'{"type": "FeatureCollection", "x": "gdal_streamed_alg", "features": []}',
        "a GDAL pipeline",
    ),
    "err.json": (b'{"error":{"code":498,"message":"Invalid token."}}', '"Invalid token."'),
    "err.xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>", "an object store"),
    "osm.json": (b'{"generator": "Overpass API", "elements": []}', "Overpass"),
    "a.osm": (b"<?xml version='1.0'?><osm version='0.6'>", "OpenStreetMap data"),
    "a.osm.pbf": (b"\0\0\0\x0d\n\tOSMHeader", "OpenStreetMap data"),
    "grid.xml": (b"<?xml version='1.0'?><shakemap_grid>", "a ShakeMap; it belongs under hazard"),
    "catalog.json": (b'{"type": "Catalog", "stac_version": "1.0.0"}', "a STAC catalogue"),
    "pointer.parquet": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "a.prj": (b'PROJCS["WGS_1984"', "the CRS (.prj) of a shapefile"),
    "a.shx": (b"\x00\x00\x27\x0a", "the index (.shx) of a shapefile"),
    "utf16.csv": ("id,wkt".encode("utf-16"), "text in UTF-16"),
    "notes.txt": (b"to be sent later", "a text file"),
    "empty.geojson": (b"", "0 bytes"),
    "table.csv": (b"id,name\n1,a\n", "a table without geometry"),
    "book.xlsx": (zipped({"xl/workbook.xml": b"<x/>"}), "an Excel workbook"),
    "p.qgz": (zipped({"p.qgs": b"<qgis>"}), "a QGIS project"),
    "pictures.zip": (zipped({"a.png": b"\x89PNG", "b.txt": b"hi", "c.txt": b"x"}), "files: a.png"),
    "cut.gz": (gzip.compress(as_lines())[:-20], "a damaged archive"),
    "cut.zip": (zipped({"a.geojson": as_geojson()})[:-30], "a damaged archive"),
    "cut.parquet": (as_parquet()[:-8], "is damaged"),
    "deep.json": (b'{"type":"Feature","geometry":' + b"[" * 100_000, "cannot be read"),
    "bad.gpkg": (b"SQLite format 3\0" + b"x" * 2000, "is damaged"),
    "unknown.bin": (bytes(range(64)), "a binary file of an unknown kind"),
}


@pytest.mark.parametrize("name", NOT_VECTORS)
def test_what_is_no_vector_file_is_named_as_what_it_is(tmp_path: Path, name: str) -> None:
    data, says = NOT_VECTORS[name]
    (tmp_path / name).write_bytes(data)
    assert says in refusal(tmp_path / name)


def test_archives_are_held_to_what_they_unpack_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "VECTORS", BodyLimits(most_bytes=3 << 20, total_s=60.0))
    bomb = tmp_path / "bomb.csv.gz"
    bomb.write_bytes(gzip.compress(as_csv() + b" " * (8 << 20)))
    assert bomb.stat().st_size < 20_000
    assert "unpacks to too much: expected at most 3,145,728 bytes" in refusal(bomb)
    bomb.write_bytes(zipped({"a.csv": as_csv(), "b.csv": b"x,y\n" * (1 << 20)}))
    assert "unpacks to too much" in refusal(bomb)
    inner = gzip.compress(gzip.compress(gzip.compress(gzip.compress(as_csv()))))
    bomb.write_bytes(inner)
    assert "archives inside each other" in refusal(bomb)


def test_members_of_an_archive_stay_in_their_folder(tmp_path: Path) -> None:
    path = tmp_path / "slip.zip"
    path.write_bytes(zipped({"../../slipped.geojson": as_geojson(), "/a/b/x.csv": as_csv()}))
    assert read(path)["id"].tolist() == NAMES
    assert not (tmp_path.parent / "slipped.geojson").exists()
    assert not Path("/a").exists()


SHAPES_IN_ARROW = {
    "points": [shapely.Point(36.9, 37.5), None, shapely.Point(37.0, 37.6)],
    "polygons with holes": [
        shapely.box(36, 37, 37, 38).difference(shapely.box(36.4, 37.4, 36.6, 37.6)),
        None,
        shapely.box(37, 37, 38, 38),
    ],
    "multipolygons": [
        shapely.MultiPolygon([shapely.box(36, 37, 36.1, 37.1), shapely.box(36.2, 37, 36.3, 37.1)]),
        None,
        shapely.MultiPolygon([shapely.box(37, 37, 38, 38)]),
    ],
    "height": [
        shapely.force_3d(shapely.box(36, 37, 37, 38), 7.0),
        None,
        shapely.box(37, 37, 38, 38),
    ],
}


@pytest.mark.parametrize("kind", SHAPES_IN_ARROW)
@pytest.mark.parametrize("near", [None, (36.0, 37.0, 36.5, 37.5)], ids=["whole", "near"])
def test_geoparquet_with_geometry_as_arrow_holds_it(
    tmp_path: Path, kind: str, near: tuple[float, float, float, float] | None
) -> None:
    """Native encodings of GeoParquet 1.1: nested lists of coordinates, and no WKB."""
    shapes = SHAPES_IN_ARROW[kind]
    path = tmp_path / "a.parquet"
    frame = gpd.GeoDataFrame({"id": NAMES}, geometry=shapes, crs=4326)
    if kind == "height":
        frame = frame.iloc[[0, 1]]
    frame.to_parquet(path, geometry_encoding="geoarrow", schema_version="1.1.0")
    encoding = json.loads(pq.read_schema(path).metadata[b"geo"])["columns"]["geometry"]["encoding"]
    assert encoding in ("point", "polygon", "multipolygon")
    request = VectorRequest(uri=str(path), attributes=Attributes(optional=("id",)), near=near)
    found = read_vectors(request, StorageOptions(), RequestError)
    assert found["id"].tolist() == NAMES[: len(frame)]
    for shape, expected in zip(found.geometry, frame.geometry, strict=True):
        if expected is None:
            assert shape is None
        else:
            assert not shape.has_z
            assert shape.equals(shapely.force_2d(expected))
