"""landslides.parquet: one row per landslide, and the figures that follow from the rows."""

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from quakestream.errors import ShapeError
from quakestream.outputs.geoparquet import geoparquet_bytes, hilbert_sorted

REACH_M = 50.0
"""Largest distance at which a building names its landslide."""
LANDSLIDE_TYPES: dict[str, pa.DataType] = {
    "landslide_id": pa.string(),
    "area_m2": pa.float64(),
    "probability": pa.float32(),
    "max_probability": pa.float32(),
    "uncertainty": pa.float32(),
    "slope_deg": pa.float32(),
    "buildings_touched": pa.int32(),
    "road_m": pa.float64(),
    "evidence": pa.string(),
    "p_prior": pa.float32(),
    "p_image": pa.float32(),
    "image_share": pa.float32(),
    "scene_post": pa.string(),
    "acquired_post": pa.timestamp("us", tz="UTC"),
    "model": pa.string(),
    "model_digest": pa.string(),
    "run_id": pa.string(),
}
"""Columns in order, without `geometry` and `bbox`."""
OPTIONAL_COLUMNS = ("buildings_touched", "road_m", "p_prior", "p_image", "image_share")
"""Columns that are null in every row where the run knows nothing of them."""
BUILDING_COLUMNS = ("landslide_id", "landslide_distance_m")
"""Columns of buildings.parquet in runs that look for landslides."""


def ordered_landslides(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The rows with every column of the contract, sorted along a Hilbert curve.

    Raises:
        ShapeError: if a column is missing, or an id repeats.
    """
    needed = [name for name in LANDSLIDE_TYPES if name not in OPTIONAL_COLUMNS]
    if missing := [name for name in needed if name not in frame.columns]:
        raise ShapeError("columns are missing", "landslides", ", ".join(needed), f"no {missing}")
    if frame["landslide_id"].duplicated().any():
        raise ShapeError("an id repeats", "landslides")
    full = {name: frame[name] if name in frame.columns else None for name in LANDSLIDE_TYPES}
    out = gpd.GeoDataFrame(full, index=frame.index, geometry=frame.geometry, crs=frame.crs)
    return hilbert_sorted(out, "landslide_id") if len(out) else out


def landslides_parquet(ordered: gpd.GeoDataFrame) -> bytes:
    """`ordered_landslides` as GeoParquet 1.1."""
    return geoparquet_bytes(ordered, LANDSLIDE_TYPES)


def landslide_counts(slides: gpd.GeoDataFrame, buildings: gpd.GeoDataFrame) -> dict[str, Any]:
    """`counts.landslides` of run.json."""
    counts: dict[str, Any] = {
        "slides": len(slides),
        "km2": round(float(slides["area_m2"].sum()) / 1e6, 6),
    }
    if len(buildings):
        on_N = touched(buildings)
        counts["buildings_touched"] = int(on_N.sum())
        near = int(buildings["landslide_id"].notna().sum())
        counts[f"buildings_within_{REACH_M:.0f}_m"] = near
    if slides["road_m"].notna().any():
        counts["road_km"] = round(float(pd.to_numeric(slides["road_m"]).sum()) / 1000, 3)
    return counts


def touched(buildings: gpd.GeoDataFrame) -> NDArray[np.bool_]:
    """True for buildings that a landslide touches."""
    distance_N = pd.to_numeric(buildings["landslide_distance_m"]).to_numpy(np.float64)
    return np.asarray(distance_N == 0.0)
