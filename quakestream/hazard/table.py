"""Hazard values per footprint, and the names of the missing ones."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.config import HazardSection
from quakestream.domain import Issue
from quakestream.errors import InputError, MissingExtraError, ShapeError, StorageError
from quakestream.hazard.interpolation import Floats
from quakestream.hazard.rasters import RasterSample, sample_raster
from quakestream.hazard.shakemap import ShakeMap, read_shakemap
from quakestream.hazard.units import (
    EVENT_JOINT,
    FIELD_OF_COLUMN,
    MEASURES,
    SITE_FIELD,
    VS30_COLUMN,
    as_measure,
)
from quakestream.hazard.versions import newest_versions
from quakestream.hazard.vs30 import sample_vs30
from quakestream.storage import MissingObjectError, StorageOptions, fingerprint, is_remote


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HazardTable:
    """Hazard values at points. Rows have the order of the points."""

    values: pd.DataFrame
    """float32, NaN where missing: `mmi, pga_g, pgv_cm_s, psa03_g, psa10_g, psa30_g, vs30_m_s`,
    then one column per further layer, then the columns per event on request."""
    missing_N: list[list[str]]
    """Names of the columns without a value at each point. Rows that lack the same columns share
    one list, which must not be changed."""
    issues: list[Issue]
    versions: dict[str, Any]
    """Files that were used, for run.json: `shakemaps`, `vs30`, `layers`."""


def sample_hazard(
    lon_N: NDArray[np.floating[Any]],
    lat_N: NDArray[np.floating[Any]],
    hazard: HazardSection,
    options: StorageOptions | None = None,
    *,
    per_event: bool = False,
) -> HazardTable:
    """Values of every layer of a run at points.

    A file that cannot be used becomes an issue, and its columns are missing; the other files
    are still read. The largest value of several ShakeMaps counts, measure by measure. The later
    of two versions of one event counts. VS30 comes from its own file, or from the ShakeMaps
    where the run names no such file. A layer with the name of one of these columns holds values
    in its unit, and fills the column where the other files have no value.

    Args:
        lon_N: longitudes, EPSG:4326; NaN for a footprint without a position.
        lat_N: latitudes.
        hazard: the run file's section.
        options: endpoints of the stores that hold the files.
        per_event: add columns `MEASURE__EVENT_ID`.

    Raises:
        ShapeError: if the numbers of longitudes and latitudes differ.
    """
    lon, lat = np.asarray(lon_N, np.float64), np.asarray(lat_N, np.float64)
    if lon.ndim != 1 or lon.shape != lat.shape:
        raise ShapeError(
            "longitudes and latitudes differ",
            expected="two lists of one length",
            got=f"shapes {lon.shape} and {lat.shape}",
        )
    files = _HazardFiles(options or StorageOptions(), [])
    shakemaps = newest_versions(files.shakemaps(hazard.shakemaps), files.issues)
    columns = {
        column: _largest((s.at(field, lon, lat) for s in shakemaps), lon)
        for field, column in MEASURES.items()
    }
    columns[VS30_COLUMN], vs30_version = _site(hazard, shakemaps, files, lon, lat)
    layer_versions = {}
    for name, uri in hazard.layers.items():
        sampled, layer_versions[name] = files.layer(_sampler(name), uri, lon, lat)
        columns[name] = _first((columns.get(name, sampled), sampled), lon)
    missing = _missing(columns)
    if per_event:
        columns |= {
            f"{column}{EVENT_JOINT}{s.event_id}": s.at(field, lon, lat)
            for s in shakemaps
            for field, column in MEASURES.items()
        }
    return HazardTable(
        values=pd.DataFrame({n: v.astype(np.float32) for n, v in columns.items()}),
        missing_N=missing,
        issues=files.issues,
        versions={
            "shakemaps": [_version(shakemap) for shakemap in shakemaps],
            "vs30": vs30_version,
            "layers": layer_versions,
        },
    )


def _site(
    hazard: HazardSection,
    shakemaps: list[ShakeMap],
    files: "_HazardFiles",
    lon: Floats,
    lat: Floats,
) -> tuple[Floats, dict[str, str] | None]:
    """VS30 and its source: its own file, else the ShakeMaps."""
    if hazard.vs30 is not None:
        return files.layer(sample_vs30, hazard.vs30, lon, lat)
    known = any(SITE_FIELD in s.fields for s in shakemaps)
    values = _first((s.at(SITE_FIELD, lon, lat) for s in shakemaps), lon)
    return values, {"from": "ShakeMap SVEL"} if known else None


@dataclass(frozen=True, slots=True)
class _HazardFiles:
    """Reads hazard files and records those that cannot be used as issues."""

    options: StorageOptions
    issues: list[Issue]

    def shakemaps(self, uris: Iterable[str]) -> list[ShakeMap]:
        shakemaps = []
        for uri in dict.fromkeys(uris):
            try:
                shakemaps.append(read_shakemap(uri, self.options))
            except (InputError, StorageError, MissingExtraError) as error:
                self._add_issue(uri, error)
        return shakemaps

    def layer(
        self,
        sample: Callable[[str, Floats, Floats, StorageOptions], RasterSample],
        uri: str,
        lon: Floats,
        lat: Floats,
    ) -> tuple[Floats, dict[str, str] | None]:
        """Values and version of a layer; all NaN and None where it cannot be used."""
        try:
            version = {"uri": uri, "fingerprint": fingerprint(uri, self.options)}
            sampled = sample(uri, lon, lat, self.options)
        except (InputError, StorageError, MissingExtraError) as error:
            self._add_issue(uri, error)
            return np.full(lon.shape, np.nan), None
        if sampled.note:
            self.issues.append(Issue(subject=uri, kind="hazard", cause=sampled.note))
        return sampled.values_N, version

    def _add_issue(self, uri: str, error: Exception) -> None:
        unreachable = isinstance(error, StorageError) and not isinstance(error, MissingObjectError)
        retryable = unreachable and is_remote(uri)
        self.issues.append(Issue.of_error(error, uri, "hazard", retryable=retryable))


def _sampler(name: str) -> Callable[[str, Floats, Floats, StorageOptions], RasterSample]:
    """The function that samples a layer; layers with the name of a measure are checked."""
    if name not in FIELD_OF_COLUMN:
        return sample_raster

    def checked(uri: str, lon: Floats, lat: Floats, options: StorageOptions) -> RasterSample:
        sampled = sample_raster(uri, lon, lat, options)
        return replace(sampled, values_N=as_measure(sampled.values_N, name, uri))

    return checked


def _largest(values: Iterable[Floats], like: Floats) -> Floats:
    best = np.full(like.shape, np.nan)
    for one in values:
        best = np.fmax(best, one)
    return best


def _first(values: Iterable[Floats], like: Floats) -> Floats:
    best = np.full(like.shape, np.nan)
    for one in values:
        best = np.where(np.isnan(best), one, best)
    return best


def _missing(columns: dict[str, Floats]) -> list[list[str]]:
    names = list(columns)
    absent_NM = np.isnan(np.column_stack([columns[name] for name in names]))
    patterns, which_N = np.unique(absent_NM, axis=0, return_inverse=True)
    lists = [[n for n, gone in zip(names, row, strict=True) if gone] for row in patterns]
    return [lists[which] for which in which_N.reshape(-1)]


def _version(shakemap: ShakeMap) -> dict[str, str]:
    return {
        "uri": shakemap.uri,
        "event_id": shakemap.event_id,
        "version": shakemap.version,
        "process_timestamp": shakemap.process_timestamp,
        "map_status": shakemap.map_status,
        "sha256": shakemap.sha256,
    }
