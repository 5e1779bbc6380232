"""coverage.parquet: one row per cell, with its status and its scenes."""

import geopandas as gpd
import pyarrow as pa

from quakestream.errors import ShapeError
from quakestream.outputs.geoparquet import geoparquet_bytes, hilbert_sorted

COVERAGE_TYPES: dict[str, pa.DataType] = {
    "cell_id": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "scenes": pa.list_(pa.string()),
    "valid_fraction": pa.float32(),
    "cloud_fraction": pa.float32(),
    "shift_m": pa.float32(),
}


def coverage_parquet(frame: gpd.GeoDataFrame) -> bytes:
    """The cells as GeoParquet 1.1, sorted along a Hilbert curve. Other columns are dropped.

    Raises:
        ShapeError: if a column of the contract is missing.
    """
    if missing := [c for c in COVERAGE_TYPES if c not in frame.columns]:
        raise ShapeError(
            "columns are missing", "coverage", ", ".join(COVERAGE_TYPES), f"no {missing}"
        )
    return geoparquet_bytes(hilbert_sorted(frame, "cell_id"), COVERAGE_TYPES)
