"""coverage.parquet: one row per cell, with its status and its scenes."""

from typing import Any

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

KIND = "kind"
"""Column of runs that look for landslides: what the cells were read for."""
BUILDINGS, LANDSLIDES = "buildings", "landslides"
"""Values of `kind`."""
P_PRIOR, EVIDENCE = "p_prior", "evidence"
"""Columns of runs with a landslide prior: its mean in cells of landslides, and what is known of
them: `image+prior`, `image`, `prior` or null."""
_MORE_TYPES = {KIND: pa.string(), P_PRIOR: pa.float32(), EVIDENCE: pa.string()}


def coverage_counts(frame: gpd.GeoDataFrame) -> dict[str, Any]:
    """`coverage` of the counts in run.json: the rows of coverage.parquet, and how many of each
    status."""
    tally = frame["status"].value_counts()
    return {"rows": len(frame), "status": {str(s): int(tally[s]) for s in sorted(tally.index)}}


def coverage_types(frame: gpd.GeoDataFrame) -> dict[str, pa.DataType]:
    """Columns of coverage.parquet in order, without `geometry` and `bbox`."""
    return COVERAGE_TYPES | {n: t for n, t in _MORE_TYPES.items() if n in frame.columns}


def coverage_parquet(frame: gpd.GeoDataFrame) -> bytes:
    """The cells as GeoParquet 1.1, sorted along a Hilbert curve. Other columns are dropped.

    Raises:
        ShapeError: if a column of the contract is missing.
    """
    if missing := [c for c in COVERAGE_TYPES if c not in frame.columns]:
        raise ShapeError(
            "columns are missing", "coverage", ", ".join(COVERAGE_TYPES), f"no {missing}"
        )
    return geoparquet_bytes(hilbert_sorted(frame, "cell_id"), coverage_types(frame))
