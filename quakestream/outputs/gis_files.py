"""GeoPackage and FlatGeobuf files of a map, for GIS programs.

The GeoPackage colours buildings by their verdict when QGIS opens it: it holds a table
`layer_styles`, where QGIS looks for the style of a layer.
"""

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import geopandas as gpd
import pyogrio
import shapely

from quakestream.outputs.map_layers import COLOURS, SLIDE_COLOUR, MapLayers

WRITTEN_AT = "1980-01-01T00:00:00.000Z"
"""Time that files hold as that of their last change, so that one map gives one file."""
_STYLES = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT, f_table_catalog TEXT, f_table_schema TEXT,
  f_table_name TEXT, f_geometry_column TEXT, styleName TEXT, styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT, ui TEXT, update_time DATETIME
)"""
_CONTENTS = """
INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change)
VALUES ('layer_styles', 'attributes', 'layer_styles', 'styles of layers for QGIS', ?)"""


def geopackage(layers: MapLayers) -> bytes:
    """A GeoPackage with the layers buildings, landslides, cells and areas."""
    with tempfile.TemporaryDirectory(prefix="quakestream-") as folder, fixed_time():
        path = Path(folder, "map.gpkg")
        for name, frame in layers.named().items():
            write_layer(frame, path, layer=name, driver="GPKG", about=_about(layers))
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            _add_style(database, layers)
        return path.read_bytes()


def flatgeobuf(layers: MapLayers) -> bytes:
    """The buildings as FlatGeobuf, which web maps read in parts. Those without an outline miss."""
    frame = layers.buildings
    with tempfile.TemporaryDirectory(prefix="quakestream-") as folder:
        path = Path(folder, "buildings.fgb")
        shown = frame[~(frame.geometry.isna() | frame.geometry.is_empty)]
        write_layer(shown, path, layer="buildings", driver="FlatGeobuf", about={})
        return path.read_bytes()


def _about(layers: MapLayers) -> dict[str, Any]:
    return {"layer_metadata": {"DESCRIPTION": f"{layers.title}. {layers.note}"}}


def write_layer(
    frame: gpd.GeoDataFrame, path: Path, *, layer: str, driver: str, about: dict[str, Any]
) -> None:
    """Adds a layer to a file. Polygons become multipolygons, since formats have one type."""
    kinds = set(shapely.get_type_id(frame.geometry.to_numpy()).tolist()) - {-1}
    polygons = kinds <= {shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON}
    pyogrio.write_dataframe(
        frame.drop(columns="bbox", errors="ignore"),
        path,
        layer=layer,
        driver=driver,
        geometry_type="MultiPolygon" if polygons else "Unknown",
        promote_to_multi=polygons,
        append=path.exists(),
        **about,
    )


@contextlib.contextmanager
def fixed_time() -> Iterator[None]:
    """While it is held, GDAL writes the same time of the last change into every file."""
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": WRITTEN_AT})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


def _add_style(database: sqlite3.Connection, layers: MapLayers) -> None:
    database.execute(_STYLES)
    database.execute(_CONTENTS, (WRITTEN_AT,))
    styles = [
        ("buildings", "damage", damage_style(layers)),
        ("landslides", "slides", slide_style()),
    ]
    for layer, name, style in styles:
        if layer in layers.named():
            database.execute(
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
                "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, "
                "owner, update_time) VALUES ('', '', ?, 'geom', ?, ?, '', 1, ?, '', ?)",
                (layer, name, style, layers.note, WRITTEN_AT),
            )


def slide_style() -> str:
    """A style of QGIS for landslides: one colour, as on the map page."""
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
        '<qgis styleCategories="Symbology"><renderer-v2 type="singleSymbol">'
        f"<symbols>{_symbol(0, SLIDE_COLOUR)}</symbols></renderer-v2></qgis>"
    )


def damage_style(layers: MapLayers) -> str:
    """A style of QGIS that colours buildings by `damage_label`; those without one are grey."""
    classes = [(one.label, COLOURS[one.xbd]) for one in reversed(layers.classes)]
    rows = [*classes, ("", COLOURS[None])]
    categories = "".join(
        f'<category symbol="{n}" value={quoteattr(label)} label='
        f'{quoteattr(label or "not assessed")} render="true"/>'
        for n, (label, _) in enumerate(rows)
    )
    symbols = "".join(_symbol(n, colour) for n, (_, colour) in enumerate(rows))
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"
        '<qgis styleCategories="Symbology"><renderer-v2 type="categorizedSymbol" '
        f'attr="damage_label"><categories>{categories}</categories>'
        f"<symbols>{symbols}</symbols></renderer-v2></qgis>"
    )


def _symbol(number: int, colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    options = {
        "color": f"{red},{green},{blue},110",
        "style": "solid",
        "outline_color": f"{red},{green},{blue},255",
        "outline_style": "solid",
        "outline_width": "0.4",
    }
    entries = "".join(
        f'<Option type="QString" name="{name}" value="{value}"/>' for name, value in options.items()
    )
    return (
        f'<symbol type="fill" name="{number}"><layer class="SimpleFill">'
        f'<Option type="Map">{entries}</Option></layer></symbol>'
    )
