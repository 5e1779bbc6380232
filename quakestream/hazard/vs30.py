"""Samples VS30 at points, from a raster or a table of sites."""

import io
from typing import Any

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from quakestream.errors import HazardError
from quakestream.hazard.interpolation import Floats
from quakestream.hazard.rasters import RasterSample, sample_raster
from quakestream.storage import StorageOptions, read_bytes

_TABLES = (".csv", ".txt", ".tsv", ".xyz")
_LON = ("lon", "longitude", "long", "lng", "x")
_LAT = ("lat", "latitude", "y")
_VS30 = ("vs30", "vs30_m_s", "vs30_mps", "vs30(m/s)", "vs30_ms", "svel")
_REACH = 1.5
"""Largest distance of a point from its nearest site, in median spacings of the sites."""
_EARTH_RADIUS_M = 6_371_008.8


def sample_vs30(
    uri: str, lon_N: Floats, lat_N: Floats, options: StorageOptions | None = None
) -> RasterSample:
    """VS30 in m/s at points (EPSG:4326), NaN where unknown or not above zero.

    A raster is sampled like any layer. In a table (CSV) the nearest site counts, within 1.5
    times the median spacing of the sites.

    Raises:
        HazardError: if it is neither a raster nor a table.
        StorageError: if it cannot be fetched.
    """
    if uri.partition("?")[0].lower().endswith(_TABLES):
        sample = RasterSample(values_N=_nearest(_sites(uri, options), lon_N, lat_N))
    else:
        sample = sample_raster(uri, lon_N, lat_N, options)
    return RasterSample(
        values_N=np.where(sample.values_N > 0, sample.values_N, np.nan), note=sample.note
    )


def _sites(uri: str, options: StorageOptions | None) -> Floats:
    """Distinct sites with a value, as rows of longitude, latitude and VS30."""
    try:
        text = read_bytes(uri, options).decode("utf-8-sig")
        table = pd.read_csv(
            io.StringIO(text), sep=_separator(text), comment="#", skipinitialspace=True
        )
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise HazardError(
            "cannot be read as CSV", uri, got=str(error), remedy="check the file"
        ) from None
    columns = [_column(table, names, uri) for names in (_LON, _LAT, _VS30)]
    sites = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    good = np.isfinite(sites).all(axis=1) & (np.abs(sites[:, 1]) <= 90) & (sites[:, 2] > 0)
    sites = sites[good]
    _, first = np.unique(sites[:, :2], axis=0, return_index=True)
    if len(first) < 2:
        raise HazardError(
            "too few sites",
            uri,
            expected="at least two with longitude, latitude and a VS30 above zero",
            got=str(len(first)),
            remedy="check units and separators",
        )
    distinct: Floats = sites[np.sort(first)]
    return distinct


def _separator(text: str) -> str:
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    header = next(lines, "")
    counts = {mark: header.count(mark) for mark in (",", ";", "\t")}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else r"\s+"


def _column(table: Any, names: tuple[str, ...], uri: str) -> Any:
    columns = {str(c).strip().lower().replace(" ", ""): c for c in table.columns}
    for name in names:
        if name in columns:
            return columns[name]
    raise HazardError(
        "a column is missing",
        uri,
        expected=f"one of {', '.join(names)}",
        got=", ".join(str(c) for c in table.columns),
        remedy="name it in the header line",
    )


def _nearest(sites: Floats, lon_N: Floats, lat_N: Floats) -> Floats:
    # Chords in space need no care at the antimeridian or for the width of a degree.
    tree = KDTree(_in_space(sites[:, 0], sites[:, 1]))
    spacing_m = float(np.median(tree.query(tree.data, k=2)[0][:, 1]))
    known_N = np.isfinite(lon_N) & np.isfinite(lat_N)
    values_N = np.full(lon_N.shape, np.nan)
    distance, index = tree.query(_in_space(lon_N[known_N], lat_N[known_N]))
    values_N[known_N] = np.where(distance <= _REACH * spacing_m, sites[index, 2], np.nan)
    return values_N


def _in_space(lon: Floats, lat: Floats) -> Floats:
    """Positions on a sphere, metres, shape (N, 3)."""
    east, north = np.radians(lon), np.radians(lat)
    flat = np.cos(north)
    return _EARTH_RADIUS_M * np.column_stack(
        [flat * np.cos(east), flat * np.sin(east), np.sin(north)]
    )
