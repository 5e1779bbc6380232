"""The table of files for other programs, made of a map while it is published or afterwards."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from quakestream.outputs import stac
from quakestream.outputs.ems import ems_package
from quakestream.outputs.gis_files import flatgeobuf, geopackage
from quakestream.outputs.hxl import hxl_csv
from quakestream.outputs.kmz import kmz
from quakestream.outputs.map_layers import MapLayers
from quakestream.outputs.pdf_map import pdf_map
from quakestream.outputs.tile_archive import tile_archive


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFormat:
    """A file of a map, or a folder of files."""

    prefix: str
    """Name of the file, or of the folder with a slash."""
    files: Callable[[MapLayers], Iterator[tuple[str, bytes]]]
    """Names and contents."""


def _file(name: str, write: Callable[[MapLayers], bytes]) -> ExportFormat:
    return ExportFormat(prefix=name, files=lambda layers: iter([(name, write(layers))]))


EXPORTS: Mapping[str, ExportFormat] = {
    "gpkg": _file("map.gpkg", geopackage),
    "fgb": _file("buildings.fgb", flatgeobuf),
    "kml": _file("map.kmz", kmz),
    "pmtiles": _file("map.pmtiles", tile_archive),
    "hxl": _file("summary.hxl.csv", lambda layers: hxl_csv(layers.summary)),
    "ems": _file("ems.gpkg", ems_package),
    "pdf": _file("map.pdf", pdf_map),
    "stac": ExportFormat(prefix=stac.PREFIX, files=stac.stac_files),
}
"""Formats by the name that `outputs` of a run file and `quakestream export` use."""
