"""A map as layers of features, from which files for other programs are written."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow as pa

from quakestream.domain import ScaleClass
from quakestream.outputs.areas import AREA_TYPES, areas_frame
from quakestream.outputs.buildings import arrow_types
from quakestream.outputs.coverage import coverage_types
from quakestream.outputs.expected import expected, interim_warning
from quakestream.outputs.geoparquet import hilbert_sorted
from quakestream.outputs.landslides import LANDSLIDE_TYPES, ordered_landslides
from quakestream.outputs.products import RunProducts
from quakestream.outputs.summary import summary_of
from quakestream.outputs.viewer_content import subject
from quakestream.redaction import redacted_tree

CAVEAT = (
    "Verdicts come from satellite images and are not checked on the ground. What cannot be seen "
    "from above is called intact. Features that are not_assessed were not seen: `reason` says "
    "why, and they are not undamaged."
)
SLIDE_CAVEAT = (
    "Slides come from satellite images and are not checked on the ground. A model takes bare "
    "ground for a fresh slide: fields, quarries, roads and rubble look like one."
)
COLOURS = {
    "no": "#3fa0dc",
    "minor": "#f2d941",
    "major": "#ee8e1b",
    "destroyed": "#b5122b",
    None: "#8a95a0",
}
"""Colour of each class by its xBD name, as on the map page; None: not assessed."""
SLIDE_COLOUR = "#7a3cc2"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapLayers:
    """The features of a map, all in EPSG:4326."""

    title: str
    headline: str
    """The numbers, in sentences; empty where a map has no expected number and no slides."""
    caveat: str
    """What a reader must know of the numbers, in sentences."""
    classes: tuple[ScaleClass, ...]
    """Damage scale of the bundle, mildest first."""
    buildings: gpd.GeoDataFrame
    """Rows of buildings.parquet; lists are text."""
    cells: gpd.GeoDataFrame
    """Rows of coverage.parquet; lists are text."""
    areas: gpd.GeoDataFrame
    """The AOI and the districts."""
    landslides: gpd.GeoDataFrame | None = None
    """None in a run that looks for none."""
    summary: pd.DataFrame
    """Rows of summary.csv."""
    run: Mapping[str, Any]
    """The content of run.json, without secrets in its links."""
    has_prior: bool = False
    """Whether the map has a landslide prior."""
    place: str = ".."
    """Where the map lies, seen from a folder of files in it, or its URI."""

    @property
    def note(self) -> str:
        """The numbers and what a reader must know of them."""
        return f"{self.headline} {self.caveat}".strip()

    @property
    def scenes(self) -> list[Mapping[str, Any]]:
        """What run.json says of each scene: `id`, `href`, `datetime` and more."""
        return list((self.run.get("inputs") or {}).get("scenes", ()))

    @property
    def event_time(self) -> datetime | None:
        text = (self.run.get("event") or {}).get("time")
        return None if text is None else datetime.fromisoformat(str(text))

    def named(self) -> dict[str, gpd.GeoDataFrame]:
        """The layers that have rows, by name; buildings are there in any case."""
        layers = {"landslides": self.landslides, "cells": self.cells, "areas": self.areas}
        return {"buildings": self.buildings} | {
            name: frame for name, frame in layers.items() if frame is not None and len(frame)
        }


def models_of(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What run.json says of each model of a run."""
    keys = ("bundle", "landslide_bundle", "hazard_bundle")
    return [run[key] for key in keys if run.get(key)]


def model_names(run: Mapping[str, Any]) -> list[str]:
    """Name and version of each model of a run."""
    return [f"{model['name']} {model['version']}" for model in models_of(run)]


def layers_of(products: RunProducts, rows: gpd.GeoDataFrame) -> MapLayers:
    """The layers of a map.

    Args:
        rows: `products.buildings` as `ordered_buildings` gives them.
    """
    run = products.run
    slides = products.landslides
    number = expected(run)
    caveats = [*(interim_warning(run) if number is None else number.beside_it)]
    caveats += [CAVEAT] if run.get("bundle") or slides is None else []
    event = (run.get("event") or {}).get("id", "earthquake")
    return MapLayers(
        title=f"{event}: {subject(run)}",
        headline=_headline(run, slides),
        caveat=" ".join([*caveats, *([] if slides is None else [SLIDE_CAVEAT])]),
        classes=products.classes,
        buildings=_typed(rows, arrow_types(products.labels, tuple(rows.columns), products.layers)),
        cells=_typed(
            hilbert_sorted(products.coverage, "cell_id"), coverage_types(products.coverage)
        ),
        areas=_typed(areas_frame(products), AREA_TYPES),
        landslides=None if slides is None else _typed(ordered_landslides(slides), LANDSLIDE_TYPES),
        summary=summary_of(products, rows),
        run=redacted_tree(run),
        has_prior=products.prior is not None,
    )


def _headline(run: Mapping[str, Any], slides: gpd.GeoDataFrame | None) -> str:
    found = expected(run)
    sentences = [] if found is None else [f"{found.line}."]
    if slides is not None:
        number = "1 landslide" if len(slides) == 1 else f"{len(slides):,} landslides"
        sentences.append(f"{number}, {slides['area_m2'].sum() / 1e6:.3g} km².")
    return " ".join(sentences)


def _typed(frame: gpd.GeoDataFrame, types: Mapping[str, pa.DataType]) -> gpd.GeoDataFrame:
    """The columns of `types` with the types of files, which a column of nulls would not have.

    Lists are joined by `;`, since few formats have lists.
    """
    columns = {name: _column(frame[name], kind) for name, kind in types.items()}
    return gpd.GeoDataFrame(columns, geometry=frame.geometry, crs=frame.crs)


def _column(column: pd.Series, kind: pa.DataType) -> pd.Series:
    if pa.types.is_list(kind):
        return column.map(lambda values: ";".join(map(str, values)), na_action="ignore")
    if pa.types.is_floating(kind):
        return column.astype(kind.to_pandas_dtype())
    if pa.types.is_integer(kind):  # Int8 holds nulls, int8 does not
        return column.astype(pd.api.types.pandas_dtype(str(kind).capitalize()))
    if pa.types.is_timestamp(kind):
        return pd.to_datetime(column, utc=True)
    return column.astype(object)
