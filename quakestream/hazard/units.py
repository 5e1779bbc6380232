"""Converts units of ShakeMap fields, as real files have them, to g, cm/s and m/s."""

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
"""Column of the product of each ShakeMap field."""

SITE_FIELD = "SVEL"
"""The ShakeMap field with VS30, m/s."""
VS30_COLUMN = "vs30_m_s"

FIELD_OF_COLUMN = {column: field for field, column in MEASURES.items()} | {VS30_COLUMN: SITE_FIELD}
"""ShakeMap field of each column with a fixed unit, whatever file its values come from."""

LARGEST_G = 10.0
"""Larger values are percents: the strongest motion on record is 4.4 g (Iwate 2008)."""

EVENT_JOINT = "__"
"""Between a measure and the id of an event, in columns with the shaking of one event."""

# ShakeMap writes an empty attribute or `%g` for percent of g.
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


def measure_of(column: str) -> str:
    """`pga_g` of `pga_g__us6000jllz`, the shaking of one event; other names as they are."""
    measure, joint, _ = column.partition(EVENT_JOINT)
    return measure if joint and measure in MEASURES.values() else column


def keeps(field: str) -> bool:
    """True for the fields of a ShakeMap that are read."""
    return field in MEASURES or field in (SITE_FIELD, "URAT") or field.startswith("STD")


def to_standard(
    values: NDArray[np.float64], field: str, unit: str, uri: str
) -> NDArray[np.float64]:
    """Values in the unit of the product; physically impossible ones become NaN.

    Standard deviations (STDPGA, ...) and URAT stay unchanged: a spread of ln(x) does not depend
    on the unit of x.

    Raises:
        HazardError: if the unit is unknown for that field.
    """
    if field not in MEASURES and field != SITE_FIELD:
        return values
    known = _known_units(field)
    canonical = _canonical(unit)
    logarithm = _LOGARITHM.match(canonical)
    name = logarithm.group(1) if logarithm else canonical
    if name not in known or (logarithm and not name):
        raise HazardError(
            f"unknown unit of field {field}",
            uri,
            expected=f"one of {', '.join(repr(u) for u in known)} or ln() of one",
            got=repr(unit),
            remedy="correct the units attribute",
        )
    linear = np.exp(values) if logarithm else values
    return _possible(linear * known[name], field)


def as_measure(values_N: NDArray[np.float64], column: str, uri: str) -> NDArray[np.float64]:
    """Values of a raster that fills the column of a measure, in the unit of the column.

    Physically impossible values become NaN.

    Raises:
        HazardError: if accelerations are so large that they must be percents of g.
    """
    field = FIELD_OF_COLUMN[column]
    possible_N = _possible(values_N, field)
    largest = float(np.max(possible_N, initial=0.0, where=~np.isnan(possible_N)))
    if _known_units(field) is _ACCELERATION and largest > LARGEST_G:
        raise HazardError(
            f"values of layer {column} are too large",
            uri,
            expected=f"g, at most {LARGEST_G:g}",
            got=f"values up to {largest:g}",
            remedy="divide by 100 if they are in percent of g",
        )
    return possible_N


def in_unit(
    values_N: NDArray[np.float64], column: str, unit: str, model: str
) -> NDArray[np.float64]:
    """Values of a hazard column in the unit of a model's input.

    Layers have no unit and stay unchanged. An empty unit in a manifest means the column's own.

    Raises:
        BundleError: if the unit is unknown for that column.
    """
    measure = measure_of(column)
    if measure not in FIELD_OF_COLUMN or not unit.strip():
        return values_N
    known = _known_units(FIELD_OF_COLUMN[measure])
    name = _canonical(unit)
    if name not in known:
        raise BundleError(
            f"unknown unit of input {column}",
            f"bundle {model}",
            expected=f"one of {', '.join(repr(u) for u in known if u)}",
            got=repr(unit),
            remedy="correct `hazard` in its manifest",
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
    # Files without a nodata value use fill values such as -1 and -999.
    low_ok = values > 0 if field == SITE_FIELD else values >= 0
    high_ok = values <= 12 if field == "MMI" else np.isfinite(values)
    return np.where(low_ok & high_ok, values, np.nan)
