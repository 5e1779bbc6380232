"""What a file is, told by its bytes.

Names lie: Microsoft's footprints are GeoJSON lines called `.csv.gz`, and a login page is saved
as `.geojson`. GDAL opens some formats (VRT, GDALG) that name other files and addresses, so it
is given only what is recognised here, and each format by its own driver.
"""

import json
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quakestream.errors import RequestError

HEAD_BYTES = 1 << 16
_LINE_BYTES = 4 << 20
"""Longest first line that is looked at to tell GeoJSON lines from one document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A kind of vector file that can be read."""

    name: str
    suffix: str
    """Suffix that the kind's reader expects."""
    drivers: tuple[str, ...] = ()
    """GDAL drivers that may open it; empty: it is read without GDAL."""


GPKG = Format(name="GeoPackage", suffix=".gpkg", drivers=("GPKG",))
SQLITE = Format(name="SQLite", suffix=".sqlite", drivers=("SQLite",))
FLATGEOBUF = Format(name="FlatGeobuf", suffix=".fgb", drivers=("FlatGeobuf",))
SHAPEFILE = Format(name="shapefile", suffix=".shp", drivers=("ESRI Shapefile",))
FILEGDB = Format(name="file geodatabase", suffix=".gdb", drivers=("OpenFileGDB",))
GEOJSON = Format(name="GeoJSON", suffix=".geojson", drivers=("GeoJSON",))
GEOJSON_LINES = Format(name="GeoJSON lines", suffix=".geojsonl", drivers=("GeoJSONSeq",))
TOPOJSON = Format(name="TopoJSON", suffix=".topojson", drivers=("TopoJSON",))
KML = Format(name="KML", suffix=".kml", drivers=("LIBKML", "KML"))
GML = Format(name="GML", suffix=".gml", drivers=("GML",))
GPX = Format(name="GPX", suffix=".gpx", drivers=("GPX",))
DXF = Format(name="DXF", suffix=".dxf", drivers=("DXF",))
MAPINFO = Format(name="MapInfo", suffix=".tab", drivers=("MapInfo File",))
MAPINFO_TEXT = Format(name="MapInfo", suffix=".mif", drivers=("MapInfo File",))
PARQUET = Format(name="Parquet", suffix=".parquet")
ESRI_JSON = Format(name="Esri JSON", suffix=".json")
XBD = Format(name="xBD labels", suffix=".json")
TABLE = Format(name="CSV", suffix=".csv")
WKT = Format(name="WKT", suffix=".wkt")
ZIP = Format(name="zip", suffix=".zip")
GZIP = Format(name="gzip", suffix=".gz")

KNOWN = (
    "GeoPackage, GeoJSON (also as lines), GeoParquet, FlatGeobuf, a shapefile, KML or CSV with "
    "WKT, each also as .zip or .gz"
)

_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"fgb\x03fgb", FLATGEOBUF),
    (b"PAR1", PARQUET),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\x1f\x8b", GZIP),
)
_EXPORT = "export it as GeoPackage or GeoJSON"
_UNPACK = "unpack it, and name the file in it or a .zip"
_IMAGE = "name the file with the outlines"
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF", "a PDF", "get the data behind it as GeoPackage or GeoJSON"),
    (b"\x89HDF", "an HDF5 file", "get the data as GeoPackage or GeoJSON"),
    (b"II*\x00", "a TIFF image", _IMAGE),
    (b"MM\x00*", "a TIFF image", _IMAGE),
    (b"II+\x00", "a TIFF image", _IMAGE),
    (b"\x89PNG", "a PNG image", _IMAGE),
    (b"\xff\xd8\xff", "a JPEG image", _IMAGE),
    (b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"BZh", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ", "an xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", _UNPACK),
    (b"\xd0\xcf\x11\xe0", "an old Excel, Word or ArcMap file", _EXPORT),
    (b"ARROW1", "an Arrow (Feather) file", "write it as GeoParquet"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
)
_OSM = ("OpenStreetMap data", "export the buildings: ogr2ogr buildings.gpkg FILE multipolygons")
_ROOTS: dict[str, Format | tuple[str, str]] = {
    "kml": KML,
    "gpx": GPX,
    "featurecollection": GML,
    "html": (
        "an HTML page, probably a login or error page",
        "open the address in a browser and save the file itself",
    ),
    "qgis": ("a QGIS project or style, without the data", "export its layer as GeoPackage"),
    "ogrvrtdatasource": ("a GDAL virtual file (VRT), which only names others", "name the data"),
    "vrtdataset": ("a GDAL virtual file (VRT), which only names others", "name the data"),
    "shakemap_grid": ("a ShakeMap", "it belongs under hazard.shakemaps"),
    "osm": _OSM,
    "serviceexceptionreport": ("an error message of a map service", "ask the service again"),
    "exceptionreport": ("an error message of a map service", "ask the service again"),
    "error": ("an error message of an object store", "check the address and the credentials"),
    "metadata": ("metadata (XML) of a data set", "name the file with the geometries"),
    "md_metadata": ("metadata (XML) of a data set", "name the file with the geometries"),
}
_GEOMETRIES = "Point|MultiPoint|LineString|MultiLineString|Polygon|MultiPolygon|GeometryCollection"
_GEOJSON_TYPE = re.compile(rb'"type"\s*:\s*"(FeatureCollection|Feature|%s)"' % _GEOMETRIES.encode())
_WKT_TEXT = re.compile(rb"\s*(SRID=\d+;\s*)?(MULTI)?(POLYGON|POINT|LINESTRING)\s*Z?M?\s*\(", re.I)
_DXF_TEXT = re.compile(rb"(\s*999\r?\n[^\n]*\n)*\s*0\r?\nSECTION")
_PRJ_TEXT = re.compile(rb"\s*(PROJCS|GEOGCS|PROJCRS|GEOGCRS)\[")
_ROOT_TEXT = re.compile(rb"<(?![?!])(?:[\w.-]+:)?([\w.-]+)")


def format_of(path: Path) -> Format:
    """The kind of a file.

    Raises:
        RequestError: if it is no vector file; the error says what it is instead.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise RequestError("file is empty", "", "a vector file", "0 bytes")
    binary = _binary_format(head, path)
    return binary or _text_format(head, path)


def not_vectors(what: str, remedy: str) -> RequestError:
    """The error that says what a file is instead of a vector file."""
    return RequestError("is not a vector file", "", KNOWN, what, remedy)


def _binary_format(head: bytes, path: Path) -> Format | None:
    if head.startswith(b"SQLite format 3\0"):
        return _database(path)
    if head.startswith(b"\x00\x00\x27\x0a"):
        if path.suffix.lower() == ".shx":
            raise not_vectors("the index (.shx) of a shapefile", "name the .shp")
        return SHAPEFILE
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    for magic, what, remedy in _FOREIGN:
        if head.startswith(magic):
            raise not_vectors(what, remedy)
    if b"OSMHeader" in head[:64]:
        raise not_vectors(*_OSM)
    if path.suffix.lower() == ".dbf":
        raise not_vectors("a table (.dbf) without geometry", "name the .shp beside it")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise not_vectors("text in UTF-16", "save it as UTF-8")
    if b"\x00" in head:
        raise not_vectors(f"a binary file of an unknown kind ({head[:8].hex(' ')} ...)", _EXPORT)
    return None


def _database(path: Path) -> Format:
    try:
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True) as base:
            names = {str(row[0]).lower() for row in base.execute("select name from sqlite_master")}
        base.close()
    except sqlite3.Error as error:
        raise RequestError(
            "is damaged", "", "a GeoPackage", f"SQLite: {error}", "get the file again"
        ) from error
    if "gpkg_contents" in names:
        return GPKG
    if "geometry_columns" in names:
        return SQLITE
    raise not_vectors("an SQLite database without geometry", _EXPORT)


def _text_format(head: bytes, path: Path) -> Format:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"{", b"[", b"\x1e")):
        return _json_format(text, path)
    if text.startswith(b"<"):
        return _xml_format(text)
    if _WKT_TEXT.match(text):
        return WKT
    if _PRJ_TEXT.match(text):
        raise not_vectors("the CRS (.prj) of a shapefile", "name the .shp")
    if _DXF_TEXT.match(text):
        return DXF
    if text[:6].lower() == b"!table":
        return MAPINFO
    if re.match(rb"version\s+\d+\s", text, re.I) and b"columns" in text.lower():
        return MAPINFO_TEXT
    header = text.partition(b"\n")[0]
    if any(mark in header for mark in (b",", b";", b"\t", b"|")):
        return TABLE
    raise not_vectors("a text file", "name the file with the geometries")


def _xml_format(text: bytes) -> Format:
    if text[:15].lower().startswith(b"<!doctype html"):
        name = "html"
    else:
        match = _ROOT_TEXT.search(re.sub(rb"<!--.*?-->", b"", text, flags=re.S))
        name = match.group(1).decode().lower() if match else ""
    found = _ROOTS.get(name, (f"XML of an unknown kind (<{name}>)", _EXPORT))
    if isinstance(found, Format):
        return found
    raise not_vectors(*found)


def _json_format(text: bytes, path: Path) -> Format:
    # GDAL runs what such a file says, whatever else it holds
    if b"gdal_streamed_alg" in text:
        raise not_vectors("a GDAL pipeline, which only names others", "name the data")
    if text.startswith(b"\x1e"):
        return GEOJSON_LINES
    if b"esriGeometry" in text or re.search(rb'"(rings|spatialReference)"\s*:', text):
        return ESRI_JSON
    if re.search(rb'"type"\s*:\s*"Topology"', text):
        return TOPOJSON
    if re.search(rb'"features"\s*:\s*\{', text) and b'"lng_lat"' in text:
        return XBD
    if text.startswith(b"{") and _GEOJSON_TYPE.search(text):
        return GEOJSON_LINES if _is_lines(path) else GEOJSON
    raise not_vectors(*_other_json(text))


def _other_json(text: bytes) -> tuple[str, str]:
    if re.search(rb'"type"\s*:\s*"(Catalog|Collection)"', text):
        return "a STAC catalogue", "it belongs under imagery.catalog"
    if b'"elements"' in text and b"Overpass" in text:
        return "an answer of Overpass (OpenStreetMap)", "convert it with osmtogeojson"
    if match := re.match(rb'\{\s*"error"\s*:\s*(\{|")(.*)', text, re.S):
        detail = re.search(rb'"message"\s*:\s*"([^"]{1,200})', match.group(2))
        said = f': "{detail.group(1).decode(errors="replace")}"' if detail else ""
        return f"an error message of a service{said}", "ask the service again"
    return "JSON that is not GeoJSON", _EXPORT


def _is_lines(path: Path) -> bool:
    """True if the first line is a whole JSON value and another line follows."""
    with path.open("rb") as file:
        line = b""
        while not line and (raw := file.readline(_LINE_BYTES)):
            line = raw.removeprefix(b"\xef\xbb\xbf").strip()
        following = file.read(HEAD_BYTES).strip()
    return bool(following) and isinstance(parsed_json(line), dict)


def parsed_json(data: bytes) -> Any:
    """The value of a JSON text; None where it is none, or nested too deep."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
