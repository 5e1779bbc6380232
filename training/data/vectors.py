"""Surveyed buildings as rows of numbers: the field points of Kahramanmaraş 2023.

These are the data of Yu et al. 2024 (npj Natural Hazards, doi 10.1038/s44304-024-00003-0), which
the papers call Türkiye-S: a damage class from the field and five layers sampled at each building.
Points lie on a lattice of about 30 m, so several buildings share one place. Only a split by ground
therefore separates training from test.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
from numpy.typing import NDArray

from quakestream.domain.damage_words import FIELD_SURVEY
from quakestream.errors import RequestError, ShapeError
from training.foreign_errors import first_line

FIELD_FILE = Path("kahramanmaras-2023-main/labels/field_damage_points_with_features.txt")
FIELD_EPSG = 32637
FIELD_FEATURES = ("adi", "dpm_s1", "dpm_alos2", "ndbi", "pga_g")
"""Columns of the file, in its order: amplitude dispersion index, damage proxies of Sentinel-1 and
ALOS-2 (0 to 1), built-up index, peak ground acceleration (g)."""
FIELD_CLASSES = FIELD_SURVEY.labels
"""Labels, mildest first. The file names a class by its number, counted from 0."""
NODATA = -9999.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldPoints:
    """N surveyed buildings with M values each.

    Raises:
        ShapeError: if the arrays do not describe the same points.
    """

    lon_N: NDArray[np.float64]
    """Degrees, EPSG:4326."""
    lat_N: NDArray[np.float64]
    x_m_N: NDArray[np.float64]
    """Metres east, EPSG:32637."""
    y_m_N: NDArray[np.float64]
    """Metres north."""
    features_NM: NDArray[np.float32]
    """Values in the order of `names`; NaN where there is none."""
    label_N: NDArray[np.int8]
    """Index into `classes`."""
    names: tuple[str, ...] = FIELD_FEATURES
    classes: tuple[str, ...] = FIELD_CLASSES

    def __post_init__(self) -> None:
        shapes = {a.shape for a in (self.lon_N, self.lat_N, self.x_m_N, self.y_m_N, self.label_N)}
        if shapes != {(len(self),)} or self.features_NM.shape != (len(self), len(self.names)):
            raise ShapeError(
                "columns of different length",
                "field points",
                expected=f"{len(self)} rows and {len(self.names)} features",
                got=f"{shapes} and {self.features_NM.shape}",
            )

    def __len__(self) -> int:
        return len(self.label_N)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "FieldPoints":
        """The points of a mask or of indices, in that order."""
        return FieldPoints(
            lon_N=self.lon_N[rows],
            lat_N=self.lat_N[rows],
            x_m_N=self.x_m_N[rows],
            y_m_N=self.y_m_N[rows],
            features_NM=self.features_NM[rows],
            label_N=self.label_N[rows],
            names=self.names,
            classes=self.classes,
        )


def read_field_points(path: Path) -> FieldPoints:
    """Reads a text file without a header: `lon lat`, then `FIELD_FEATURES`, then the class.

    Args:
        path: the file, or the folder of real data that holds it at `FIELD_FILE`.

    Raises:
        RequestError: if the file is missing or empty, or a row is malformed.
    """
    file = path / FIELD_FILE if path.is_dir() else path
    columns = 3 + len(FIELD_FEATURES)
    if not file.is_file():
        raise RequestError(
            "no field points",
            str(file),
            remedy="set QUAKESTREAM_DATA to the folder of the data",
        )
    rows = f"rows of {columns} numbers"
    if not file.stat().st_size:
        raise RequestError("file is empty", str(file), expected=rows)
    try:
        table_NC = np.loadtxt(file, ndmin=2)
    except ValueError as error:
        raise RequestError(f"cannot be read: {first_line(error)}", str(file), rows) from error
    if table_NC.shape[1] != columns:
        raise RequestError(
            "wrong number of columns", str(file), str(columns), str(table_NC.shape[1])
        )
    _check(table_NC, file)
    lon_N, lat_N = table_NC[:, 0], table_NC[:, 1]
    to_metres = pyproj.Transformer.from_crs(4326, FIELD_EPSG, always_xy=True)
    x_m_N, y_m_N = to_metres.transform(lon_N, lat_N)
    features_NM = table_NC[:, 2:-1].astype(np.float32)
    features_NM[features_NM == NODATA] = np.nan
    return FieldPoints(
        lon_N=lon_N,
        lat_N=lat_N,
        x_m_N=x_m_N,
        y_m_N=y_m_N,
        features_NM=features_NM,
        label_N=table_NC[:, -1].astype(np.int8),
    )


def _check(table_NC: NDArray[np.float64], file: Path) -> None:
    """Refuses rows without a place on earth or without a class of `FIELD_CLASSES`."""
    on_earth_N = (np.abs(table_NC[:, :2]) <= (180.0, 90.0)).all(axis=1)
    if not on_earth_N.all():
        row = int(np.flatnonzero(~on_earth_N)[0])
        raise RequestError(
            "not a place",
            f"{file}, row {row + 1}",
            expected="longitude and latitude",
            got=str(table_NC[row, :2]),
        )
    known_N = np.isin(table_NC[:, -1], np.arange(len(FIELD_CLASSES)))
    if not known_N.all():
        row = int(np.flatnonzero(~known_N)[0])
        raise RequestError(
            "unknown class",
            f"{file}, row {row + 1}",
            expected=f"a whole number from 0 to {len(FIELD_CLASSES) - 1}",
            got=f"{table_NC[row, -1]:g}",
        )
