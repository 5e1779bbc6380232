"""Units of ShakeMap fields, as seen in the wild, made into the product's: g, cm/s, m/s."""

import re

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import BundleError, HazardError

STANDARD_GRAVITY_M_S2 = 9.80665

MEASURES: dict[str, str] = {
    "MMI": "mmi",
    "PGA": "pga_g",
    "PGV": "pgv_cm_s",
    "PSA03": "psa03_g",
    "PSA10": "psa10_g",
    "PSA30": "psa30_g",
}
"""ShakeMap field to the column of the product."""

SITE_FIELD = "SVEL"
"""ShakeMap's VS30, m/s."""
VS30_COLUMN = "vs30_m_s"

FIELD_OF_COLUMN = {column: field for field, column in MEASURES.items()} | {VS30_COLUMN: SITE_FIELD}
"""Columns that have a unit of their own, whatever file their values come from."""

LARGEST_G = 10.0
"""More than twice the strongest motion on record (4.4 g, Iwate 2008): beyond it are percents."""

# ShakeMap writes an empty attribute, or `%g`, for percent of g.
_ACCELERATION = {
    "": 0.01,
    "%": 0.01,
    "%g": 0.01,
    "pctg": 0.01,
    "percentg": 0.01,
    "g": 1.0,
    "cm/s2": 0.01 / STANDARD_GRAVITY_M_S2,
    "cm/s/s": 0.01 / STANDARD_GRAVITY_M_S2,
    "gal": 0.01 / STANDARD_GRAVITY_M_S2,
    "m/s2": 1.0 / STANDARD_GRAVITY_M_S2,
    "m/s/s": 1.0 / STANDARD_GRAVITY_M_S2,
}
_VELOCITY_CM_S = {"": 1.0, "cm/s": 1.0, "cms": 1.0, "cm/sec": 1.0, "m/s": 100.0, "ms": 100.0}
_VELOCITY_M_S = {"": 1.0, "m/s": 1.0, "ms": 1.0, "m/sec": 1.0, "cm/s": 0.01, "km/s": 1000.0}
_INTENSITY = {"": 1.0, "intensity": 1.0, "mmi": 1.0, "none": 1.0, "1": 1.0}

_LOGARITHM = re.compile(r"^(?:ln|log)\((.*)\)$")


def keeps(field: str) -> bool:
    """Whether a field of a ShakeMap is one that is read."""
    return field in MEASURES or field in (SITE_FIELD, "URAT") or field.startswith("STD")


def to_standard(
    values: NDArray[np.float64], field: str, unit: str, uri: str
) -> NDArray[np.float64]:
    """Values in the product's unit; what no instrument could mean becomes NaN.

    Standard deviations (STDPGA, ...) and URAT are kept as they are: a spread of ln(x) does
    not change with the unit of x.

    Raises:
        HazardError: if the unit is not known for that field.
    """
    if field not in MEASURES and field != SITE_FIELD:
        return values
    known = _known_units(field)
    canonical = _canonical(unit)
    logarithm = _LOGARITHM.match(canonical)
    name = logarithm.group(1) if logarithm else canonical
    if name not in known or (logarithm and not name):
        raise HazardError(
            f"{uri}: field {field} has unit {unit!r}, expected one of "
            f"{', '.join(repr(u) for u in known)} or ln() of one; correct the units attribute"
        )
    linear = np.exp(values) if logarithm else values
    return _possible(linear * known[name], field)


def as_measure(values_N: NDArray[np.float64], column: str, uri: str) -> NDArray[np.float64]:
    """Values of a raster that stands in for a measure, which must be in the column's unit; what
    no instrument could mean becomes NaN.

    Raises:
        HazardError: if accelerations can only be in percent of g.
    """
    field = FIELD_OF_COLUMN[column]
    possible_N = _possible(values_N, field)
    largest = float(np.max(possible_N, initial=0.0, where=~np.isnan(possible_N)))
    if _known_units(field) is _ACCELERATION and largest > LARGEST_G:
        raise HazardError(
            f"{uri}: layer {column} holds values up to {largest:g}, expected g (no motion beyond "
            f"{LARGEST_G:g} g is known); divide by 100 if it is in percent of g"
        )
    return possible_N


def in_unit(
    values_N: NDArray[np.float64], column: str, unit: str, model: str
) -> NDArray[np.float64]:
    """A hazard column's values in the unit a model takes; layers have no unit and stay.

    An empty unit in a manifest is the column's own.

    Raises:
        BundleError: if the column cannot be had in that unit.
    """
    if column not in FIELD_OF_COLUMN or not unit.strip():
        return values_N
    known = _known_units(FIELD_OF_COLUMN[column])
    name = _canonical(unit)
    if name not in known:
        raise BundleError(
            f"bundle {model} takes {column} in {unit!r}, expected one of "
            f"{', '.join(repr(u) for u in known if u)}; correct `hazard` in its manifest"
        )
    return values_N / known[name]


def _canonical(unit: str) -> str:
    return unit.strip().lower().replace(" ", "").replace("^", "").replace("**", "")


def _known_units(field: str) -> dict[str, float]:
    if field == "MMI":
        return _INTENSITY
    if field == SITE_FIELD:
        return _VELOCITY_M_S
    return _VELOCITY_CM_S if field == "PGV" else _ACCELERATION


def _possible(values: NDArray[np.float64], field: str) -> NDArray[np.float64]:
    # Fill values (-1, -999) in files that have no way to say "no value".
    low_ok = values > 0 if field == SITE_FIELD else values >= 0
    high_ok = values <= 12 if field == "MMI" else np.isfinite(values)
    return np.where(low_ok & high_ok, values, np.nan)
