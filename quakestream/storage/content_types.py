"""Content types of objects by the ending of their names.

A browser opens a page from a bucket only if the store says that it is one; an object without a
type is offered as a download.
"""

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "json": "application/json",
    "geojson": "application/geo+json",
    "xml": "application/xml",
    "kml": "application/vnd.google-earth.kml+xml",
    "kmz": "application/vnd.google-earth.kmz",
    "parquet": "application/vnd.apache.parquet",
    "pmtiles": "application/vnd.pmtiles",
    "mvt": "application/vnd.mapbox-vector-tile",
    "gpkg": "application/geopackage+sqlite3",
    "fgb": "application/vnd.flatgeobuf",
    "tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "gz": "application/gzip",
}
UNKNOWN = "application/octet-stream"
_KEYWORDS = {"s3": "ContentType", "gs": "content_type"}
"""What fsspec's file systems call the type when they write."""


def content_type(name: str) -> str:
    """Content type of an object; `application/octet-stream` for an ending that is not known."""
    return _TYPES.get(name.rpartition(".")[2].lower(), UNKNOWN)


def type_arguments(protocol: str, name: str) -> dict[str, str]:
    """Arguments of `pipe_file` that state the type; none where a file system takes none."""
    keyword = _KEYWORDS.get(protocol)
    return {keyword: content_type(name)} if keyword else {}
