"""Points with hazard values and a damage class.

Axis legend: N points, M hazard values, C classes (mildest first).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from quakestream.domain import utm_epsg
from quakestream.errors import RequestError
from training.data.turkiye import default_data_dir
from training.data.vectors import FIELD_CLASSES, FIELD_FEATURES, read_field_points
from training.foreign_errors import first_line
from training.scales import scale_of

FIELD = "field"
"""Name of the field points of Kahramanmaraş 2023."""
UNITS = {
    "mmi": "MMI",
    "pga_g": "g",
    "pgv_cm_s": "cm/s",
    "psa03_g": "g",
    "psa10_g": "g",
    "psa30_g": "g",
    "vs30_m_s": "m/s",
}
"""Units of the product's columns. Layers have no unit and get "1"."""
FEWEST = 10
"""Smallest number of points of a class."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HazardPoints:
    """Places, hazard values and classes. Places serve splits alone and are never fitted.

    Raises:
        RequestError: if a class has fewer than 10 points, or a value is useless.
    """

    lon_N: NDArray[np.float64]
    """Degrees, EPSG:4326."""
    lat_N: NDArray[np.float64]
    values_NM: NDArray[np.float32]
    """Values in the units of `UNITS`; NaN where missing."""
    label_N: NDArray[np.int64]
    names: tuple[str, ...]
    """Names of the values: columns and layers as a run file names them."""
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        count_C = np.bincount(self.label_N, minlength=len(self.classes))
        if few := [f"{c} ({n})" for c, n in zip(self.classes, count_C, strict=True) if n < FEWEST]:
            raise RequestError(
                f"too few examples of classes {', '.join(few)} among {len(self)} points",
                expected=f"{FEWEST} or more of each",
                remedy="leave them out, or merge them with a neighbour",
            )
        for name, value_N in zip(self.names, self.values_NM.T, strict=True):
            _check_value(name, value_N)

    def __len__(self) -> int:
        return len(self.label_N)

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(UNITS.get(name, "1") for name in self.names)

    @property
    def missing(self) -> dict[str, int]:
        """Number of points without a value, for each value that some points lack."""
        count_M = np.isnan(self.values_NM).sum(axis=0)
        return {n: int(c) for n, c in zip(self.names, count_M, strict=True) if c}

    def take(self, rows: NDArray[np.bool_]) -> "HazardPoints":
        """The points of a mask.

        Raises:
            RequestError: if too few points of a class are left.
        """
        return replace(
            self,
            lon_N=self.lon_N[rows],
            lat_N=self.lat_N[rows],
            values_NM=self.values_NM[rows],
            label_N=self.label_N[rows],
        )

    def away_from(self, ground: BaseGeometry, km: float) -> "HazardPoints":
        """The points farther than `km` from a geometry (EPSG:4326), measured in its UTM zone.

        Raises:
            RequestError: if the distance is negative, or too few points of a class are left.
        """
        if not km >= 0:
            raise RequestError(
                "negative distance", "--exclude-km", expected="0 or more", got=f"{km:g}"
            )
        centre = ground.centroid
        epsg = utm_epsg(centre.x, centre.y)
        metres = gpd.GeoSeries([ground], crs=4326).to_crs(epsg).iloc[0]
        places = gpd.GeoSeries(gpd.points_from_xy(self.lon_N, self.lat_N), crs=4326).to_crs(epsg)
        return self.take(~places.dwithin(metres, 1000 * km).to_numpy())


def read_points(
    source: str,
    *,
    features: Sequence[str] = (),
    classes: Sequence[str] = FIELD_CLASSES,
    data_dir: Path | None = None,
) -> HazardPoints:
    """Reads the field points, or those of a file.

    Args:
        source: `field`; or a CSV file with columns `lon, lat, label` (EPSG:4326); or a vector
            file or GeoParquet with a column `label`. A label is a class or its number.
        features: columns to use as values; if empty, all five of the field points.
        classes: labels mildest first, of a scale in `training.scales`.
        data_dir: folder of real data, for `field`.

    Raises:
        RequestError: if the file, a column or a label cannot be used.
    """
    if source == FIELD:
        return _field_points(features, data_dir or default_data_dir())
    scale_of(classes)
    if not features:
        raise RequestError("no features named", source, remedy="add --features A,B,...")
    table, lon_N, lat_N = _read_table(Path(source))
    if absent := [n for n in (*features, "label") if n not in table.columns]:
        raise RequestError(
            f"no column {', '.join(absent)}", source, got=f"columns {', '.join(map(str, table))}"
        )
    values_NM = np.column_stack([_numbers(table, n, source) for n in features]).astype(np.float32)
    return HazardPoints(
        lon_N=lon_N,
        lat_N=lat_N,
        values_NM=values_NM,
        label_N=_labels(table["label"], tuple(classes), source),
        names=tuple(features),
        classes=tuple(classes),
    )


def read_ground(text: str) -> BaseGeometry:
    """A geometry in EPSG:4326 from WKT, or the union of a vector file.

    Raises:
        RequestError: if the text is neither.
    """
    if Path(text).suffix and Path(text).is_file():
        return shapely.union_all(gpd.read_file(text).to_crs(4326).geometry.to_numpy())
    try:
        ground = shapely.from_wkt(text)
    except (GEOSException, TypeError) as error:
        raise RequestError(
            "neither a file nor WKT",
            f"--exclude-near {text[:60]!r}",
            expected="'POLYGON ((36.9 37.5, 37.0 37.5, 37.0 37.6, 36.9 37.5))' or the like",
        ) from error
    if ground.is_empty or not (abs(np.array(ground.bounds)) <= (180, 90, 180, 90)).all():
        raise RequestError(
            "not a geometry on earth",
            f"--exclude-near {text[:60]!r}",
            expected="degrees, EPSG:4326",
        )
    return ground


def _field_points(features: Sequence[str], data_dir: Path) -> HazardPoints:
    if unknown := [f for f in features if f not in FIELD_FEATURES]:
        raise RequestError(
            "unknown feature",
            "field points",
            expected=f"one of {', '.join(FIELD_FEATURES)}",
            got=", ".join(unknown),
        )
    names = tuple(features) or FIELD_FEATURES
    points = read_field_points(data_dir)
    return HazardPoints(
        lon_N=points.lon_N,
        lat_N=points.lat_N,
        values_NM=points.features_NM[:, [FIELD_FEATURES.index(n) for n in names]],
        label_N=points.label_N.astype(np.int64),
        names=names,
        classes=FIELD_CLASSES,
    )


def _read_table(path: Path) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64]]:
    """Columns, longitudes and latitudes of a file."""
    if not path.is_file():
        raise RequestError("no such file", str(path), expected=f"{FIELD}, or a file of points")
    try:
        if path.suffix == ".csv":
            return _read_csv(path)
        read = gpd.read_parquet if path.suffix == ".parquet" else gpd.read_file
        table = read(path).to_crs(4326)
        places = table.geometry.representative_point().to_numpy()
    except RequestError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise RequestError(f"cannot be read: {first_line(error)}", str(path)) from error
    return table, shapely.get_x(places), shapely.get_y(places)


def _read_csv(path: Path) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64]]:
    table = pd.read_csv(path)
    if not {"lon", "lat"} <= set(table.columns):
        raise RequestError(
            "no coordinates",
            str(path),
            expected="columns lon and lat (EPSG:4326)",
            got=f"columns {', '.join(map(str, table.columns))}",
        )
    return table, table["lon"].to_numpy(np.float64), table["lat"].to_numpy(np.float64)


def _numbers(table: pd.DataFrame, name: str, source: str) -> NDArray[np.float64]:
    try:
        return np.asarray(pd.to_numeric(table[name]), np.float64)
    except (ValueError, TypeError) as error:
        raise RequestError(
            f"not numbers: {first_line(error)}", f"{source}, column {name}"
        ) from error


def _labels(column: pd.Series, classes: tuple[str, ...], source: str) -> NDArray[np.int64]:
    number_of = {c: i for i, c in enumerate(classes)} | {str(i): i for i in range(len(classes))}
    text = column.map(lambda v: str(int(v)) if isinstance(v, float) and v == int(v) else str(v))
    if unknown := sorted(set(text) - set(number_of)):
        raise RequestError(
            "unknown labels",
            source,
            expected=f"{', '.join(classes)}, or their numbers from 0",
            got=", ".join(unknown[:8]),
        )
    return np.asarray(text.map(number_of), np.int64)


def _check_value(name: str, value_N: NDArray[np.float32]) -> None:
    if np.isinf(value_N).any():
        count = int(np.isinf(value_N).sum())
        raise RequestError(f"infinite at {count} points", f"value {name}")
    known_N = value_N[~np.isnan(value_N)]
    if not len(known_N):
        raise RequestError(
            f"NaN at all {len(value_N)} points", f"value {name}", remedy="leave it out"
        )
    if np.ptp(known_N) == 0:
        raise RequestError(f"{known_N[0]:g} at all points", f"value {name}", remedy="leave it out")
