"""Hazard values as a model takes them: its columns, in its order and units."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.config import HazardSection
from quakestream.domain import BundleSpec
from quakestream.hazard.units import MEASURES, VS30_COLUMN, in_unit


def columns_given(hazard: HazardSection) -> frozenset[str]:
    """Columns of the hazard table that a run can fill, judging by what it names."""
    shaken = {*MEASURES.values(), VS30_COLUMN} if hazard.shakemaps else set()
    site = {VS30_COLUMN} if hazard.vs30 else set()
    return frozenset(shaken | site | set(hazard.layers))


def inputs_not_given(spec: BundleSpec, hazard: HazardSection) -> tuple[str, ...]:
    """Hazard values a bundle takes that a run has no file for.

    Raises:
        BundleError: if the bundle takes one in a unit it cannot be had in.
    """
    for one in spec.hazard:
        in_unit(np.empty(0), one.name, one.unit, spec.name)
    given = columns_given(hazard)
    return tuple(one.name for one in spec.hazard if one.name not in given)


def model_inputs(values: pd.DataFrame, spec: BundleSpec) -> NDArray[np.float32]:
    """A bundle's `hazard` input, shape (N, M), in its units; NaN where a value is missing.

    Args:
        values: rows of a hazard table.
        spec: names columns and units. A column the table lacks is missing everywhere.

    Raises:
        BundleError: if the bundle takes a column in a unit it cannot be had in.
    """
    columns: Sequence[NDArray[np.float64]] = [
        in_unit(
            values[one.name].to_numpy(np.float64)
            if one.name in values.columns
            else np.full(len(values), np.nan),
            one.name,
            one.unit,
            spec.name,
        )
        for one in spec.hazard
    ]
    return np.column_stack(columns).astype(np.float32)
