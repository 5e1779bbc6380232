"""A KMZ file of a map, for Google Earth and phones: a folder per class, worst first."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from quakestream.outputs.map_layers import COLOURS, SLIDE_COLOUR, MapLayers

MOST_PLACEMARKS = 50_000
"""Features of a file: programs that show KML grow slow beyond."""
NOT_ASSESSED = "not assessed"
_ENTRY = zipfile.ZipInfo("doc.kml", date_time=(1980, 1, 1, 0, 0, 0))
"""With a fixed time, so that one map gives one file."""


def kmz(layers: MapLayers) -> bytes:
    """The buildings, those of the worst class first, and the landslides.

    Of a large map the mildest buildings are left out, those that were not assessed before all
    others. The description says how many.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_ENTRY, "".join(_document(layers)), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _document(layers: MapLayers) -> Iterator[str]:
    groups = _groups(layers)
    left_out = sum(len(frame) for _, _, frame in groups) - MOST_PLACEMARKS
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2">'
    note = layers.note
    if left_out > 0:
        note += f" {left_out:,} features, the mildest, are left out of this file."
    yield f"<Document><name>{escape(layers.title)}</name><description>{escape(note)}</description>"
    for n, (_, colour, _) in enumerate(groups):
        yield _style(n, colour)
    room = MOST_PLACEMARKS
    for n, (name, _, frame) in enumerate(groups):
        shown = frame.iloc[:room]
        room -= len(shown)
        if len(shown):
            yield from _folder(n, name, len(frame), shown)
    yield "</Document></kml>\n"


def _groups(layers: MapLayers) -> list[tuple[str, str, gpd.GeoDataFrame]]:
    """Name, colour and rows of each folder; within one, the likeliest first."""
    rows = layers.buildings
    rows = rows[~(rows.geometry.isna() | rows.geometry.is_empty)]
    if layers.classes:
        severe_N = rows[f"p_{layers.classes[-1].label}"].fillna(-1).to_numpy(np.float64)
        rows = rows.iloc[np.argsort(-severe_N, kind="stable")]
    groups = [
        (one.label, COLOURS[one.xbd], rows[(rows["damage_label"] == one.label).to_numpy(bool)])
        for one in reversed(layers.classes)
    ]
    if layers.landslides is not None:
        groups.insert(1, ("landslides", SLIDE_COLOUR, layers.landslides))
    unseen = rows[rows["damage_label"].isna().to_numpy()]
    return [*groups, (NOT_ASSESSED, COLOURS[None], unseen)]


def _style(number: int, colour: str) -> str:
    red, green, blue = (colour[at : at + 2] for at in (1, 3, 5))
    return (
        f'<Style id="s{number}"><LineStyle><color>ff{blue}{green}{red}</color><width>2</width>'
        f"</LineStyle><PolyStyle><color>66{blue}{green}{red}</color></PolyStyle></Style>"
    )


def _folder(number: int, name: str, count: int, rows: gpd.GeoDataFrame) -> Iterator[str]:
    hidden = "<visibility>0</visibility>" if name == NOT_ASSESSED else ""
    yield f"<Folder><name>{escape(name)} ({count:,})</name>{hidden}"
    key = "building_id" if "building_id" in rows else "landslide_id"
    columns = [c for c in rows.columns if c not in ("geometry", "bbox", key)]
    records: Sequence[dict[str, Any]] = rows[columns].to_dict("records")
    for title, record, shape in zip(rows[key], records, rows.geometry, strict=True):
        yield (
            f"<Placemark><name>{escape(str(title))}</name>{hidden}<styleUrl>#s{number}</styleUrl>"
            f"<ExtendedData>{''.join(_data(record))}</ExtendedData>{_geometry(shape)}</Placemark>"
        )
    yield "</Folder>"


def _data(record: dict[str, Any]) -> Iterator[str]:
    for name, value in record.items():
        if pd.isna(value):
            continue
        text = f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
        yield f"<Data name={quoteattr(str(name))}><value>{escape(text)}</value></Data>"


def _geometry(shape: BaseGeometry) -> str:
    parts = [_part(part) for part in shapely.get_parts(shape)]
    return parts[0] if len(parts) == 1 else f"<MultiGeometry>{''.join(parts)}</MultiGeometry>"


def _part(shape: BaseGeometry) -> str:
    if not isinstance(shape, Polygon):
        return f"<Point>{_coordinates(shape.representative_point())}</Point>"
    sides = [("outer", shape.exterior), *(("inner", ring) for ring in shape.interiors)]
    rings = (
        f"<{side}BoundaryIs><LinearRing>{_coordinates(ring)}</LinearRing></{side}BoundaryIs>"
        for side, ring in sides
    )
    return f"<Polygon>{''.join(rings)}</Polygon>"


def _coordinates(line: BaseGeometry) -> str:
    places = " ".join(f"{x:.7f},{y:.7f}" for x, y in shapely.get_coordinates(line).tolist())
    return f"<coordinates>{places}</coordinates>"
