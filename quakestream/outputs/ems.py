"""ems.gpkg: a map in the layers and words of Copernicus EMS, as grading packages of 2026 have them.

Names, order and vocabulary of `builtUpA_v1` and of the table `source_v1` are those of published
packages (EMSR884). It is no product of Copernicus, and `det_method` says that a model graded.
Buildings that were not assessed are in `notAnalysedA_v1` and never among the graded ones. Those
that people checked by eye have the grade that they were given.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio

from quakestream.outputs.areas import AOI
from quakestream.outputs.gis_files import fixed_time, write_layer
from quakestream.outputs.map_layers import MapLayers

NOT_APPLICABLE, NOT_APPLICABLE_CODE = "Not Applicable", 997
BY_MODEL, BY_EYE = "Automatic extraction", "Photo-interpretation"
ANSWERED = {"destroyed": "Destroyed", "damaged": "Damaged", "intact": "No visible damage"}
"""Grades of the answers of spot checks."""
POST, PRE = "Post-event", "Pre-event"
GRADED = (
    "obj_type", "name", "info", "simplified", "damage_gra", "det_method", "notation", "or_src_id",
    "dmg_src_id", "cd_value", "real",
)  # fmt: skip
"""Columns of `builtUpA_v1`, in the order of published packages."""
SOURCES = (
    "src_id", "source_nam", "src_date", "source_tm", "sensor_gsd", "eventphase",
)  # fmt: skip
"""Columns of `source_v1`."""


def ems_package(layers: MapLayers) -> bytes:
    """The GeoPackage. Areas and unassessed buildings have a layer only where there are some."""
    numbers = _source_numbers(layers)
    with tempfile.TemporaryDirectory(prefix="quakestream-") as folder, fixed_time():
        path = Path(folder, "ems.gpkg")
        for name, frame in _polygons(layers, numbers):
            about = {"layer_metadata": {"DESCRIPTION": f"{layers.title}. {layers.note}"}}
            write_layer(frame, path, layer=name, driver="GPKG", about=about)
        pyogrio.write_dataframe(_sources(layers, numbers), path, layer="source_v1", append=True)
        return path.read_bytes()


def _polygons(
    layers: MapLayers, numbers: Mapping[str, int]
) -> Iterator[tuple[str, gpd.GeoDataFrame]]:
    rows = layers.buildings
    assessed = (rows["status"] == "assessed").to_numpy()
    yield "builtUpA_v1", _graded(rows[assessed], layers, numbers)
    if layers.landslides is not None:
        yield "observedEventA_v1", _slides(layers.landslides, numbers)
    if len(missed := _not_analysed(rows[~assessed])):
        yield "notAnalysedA_v1", missed
    if len(areas := layers.areas[layers.areas["kind"] == AOI]):
        yield (
            "areaOfInterestA_v1",
            gpd.GeoDataFrame(
                {"name": [layers.title] * len(areas)}, geometry=areas.geometry.to_numpy(), crs=4326
            ),
        )


def _graded(
    rows: gpd.GeoDataFrame, layers: MapLayers, numbers: Mapping[str, int]
) -> gpd.GeoDataFrame:
    grades = {one.label: one.copernicus or NOT_APPLICABLE for one in layers.classes}
    labels = rows["damage_label"]
    checked = rows["checked"] if "checked" in rows else pd.Series(None, rows.index, dtype=object)
    answers = checked.map(ANSWERED, na_action="ignore")
    seen = answers.notna().to_numpy()
    said = "model, restated by checks" if "verification" in layers.run else "model"
    values: dict[str, Any] = dict.fromkeys(GRADED, NOT_APPLICABLE)
    values |= {
        "obj_type": "997-Not Applicable",
        "name": rows["building_id"].to_numpy(),
        "info": (f"{said}: " + labels).to_numpy(),
        "damage_gra": answers.where(seen, labels.map(grades)).to_numpy(),
        "det_method": np.where(seen, BY_EYE, BY_MODEL),
        "notation": "Building",
        "or_src_id": NOT_APPLICABLE_CODE,
        "dmg_src_id": _numbers_of(rows, numbers),
    }
    frame = pd.DataFrame(values, index=range(len(rows)), columns=list(GRADED))
    return gpd.GeoDataFrame(frame, geometry=rows.geometry.to_numpy(), crs=4326)


def _slides(slides: gpd.GeoDataFrame, numbers: Mapping[str, int]) -> gpd.GeoDataFrame:
    values = {
        "event_type": "Mass movement",
        "obj_desc": "Landslide",
        "det_method": BY_MODEL,
        "name": slides["landslide_id"].to_numpy(),
        "area_m2": slides["area_m2"].to_numpy(),
        "probability": slides["probability"].to_numpy(),
        "dmg_src_id": _numbers_of(slides, numbers),
    }
    frame = pd.DataFrame(values, index=range(len(slides)))
    return gpd.GeoDataFrame(frame, geometry=slides.geometry.to_numpy(), crs=4326)


def _not_analysed(rows: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    shown = rows[~(rows.geometry.isna() | rows.geometry.is_empty).to_numpy()]
    columns = {"name": shown["building_id"].to_numpy(), "obj_desc": shown["reason"].to_numpy()}
    return gpd.GeoDataFrame(columns, geometry=shown.geometry.to_numpy(), crs=4326)


def _numbers_of(rows: gpd.GeoDataFrame, numbers: Mapping[str, int]) -> Sequence[int]:
    """Numbers in `source_v1` of the scenes after the event that buildings were graded on."""
    scenes = rows["scene_post"] if "scene_post" in rows else pd.Series([None] * len(rows))
    return [numbers.get(str(scene), NOT_APPLICABLE_CODE) for scene in scenes]


def _source_numbers(layers: MapLayers) -> dict[str, int]:
    """Numbers of scenes from 1, by id."""
    return {str(scene["id"]): n for n, scene in enumerate(layers.scenes, 1)}


def _sources(layers: MapLayers, numbers: Mapping[str, int]) -> pd.DataFrame:
    event = layers.event_time
    rows = []
    for scene in layers.scenes:
        time = datetime.fromisoformat(scene["datetime"])
        gsd_m = scene.get("gsd_m")
        rows.append(
            (
                numbers[str(scene["id"])],
                str(scene["id"]),
                f"{time:%d/%m/%Y}",
                NOT_APPLICABLE if scene.get("span_s") else f"T{time:%H:%M:%SZ}",
                NOT_APPLICABLE if gsd_m is None else f"{gsd_m:g} m",
                NOT_APPLICABLE if event is None else POST if time >= event else PRE,
            )
        )
    return pd.DataFrame(rows, columns=list(SOURCES))
