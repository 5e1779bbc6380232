"""The table of files for other programs, made of a map while it is published or afterwards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quakestream.outputs.ems import ems_package
from quakestream.outputs.gis_files import flatgeobuf, geopackage
from quakestream.outputs.hxl import hxl_csv
from quakestream.outputs.kmz import kmz
from quakestream.outputs.map_layers import MapLayers
from quakestream.outputs.tile_archive import tile_archive


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFormat:
    """A file of a map."""

    file: str
    """Name of the file."""
    write: Callable[[MapLayers], bytes]


EXPORTS: Mapping[str, ExportFormat] = {
    "gpkg": ExportFormat(file="map.gpkg", write=geopackage),
    "fgb": ExportFormat(file="buildings.fgb", write=flatgeobuf),
    "kml": ExportFormat(file="map.kmz", write=kmz),
    "pmtiles": ExportFormat(file="map.pmtiles", write=tile_archive),
    "hxl": ExportFormat(file="summary.hxl.csv", write=lambda layers: hxl_csv(layers.summary)),
    "ems": ExportFormat(file="ems.gpkg", write=ems_package),
}
"""Formats by the name that `outputs` of a run file and `quakestream export` use."""
