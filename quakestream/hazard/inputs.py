"""Hazard values as model inputs: the model's columns, in its order and units."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.config import HazardSection
from quakestream.domain import BundleSpec
from quakestream.hazard.units import MEASURES, VS30_COLUMN, in_unit, measure_of


def columns_given(hazard: HazardSection) -> frozenset[str]:
    """Columns of the hazard table that the files of a run can fill."""
    shaken = {*MEASURES.values(), VS30_COLUMN} if hazard.shakemaps else set()
    site = {VS30_COLUMN} if hazard.vs30 else set()
    return frozenset(shaken | site | set(hazard.layers))


def inputs_not_given(spec: BundleSpec, hazard: HazardSection) -> tuple[str, ...]:
    """Hazard inputs of a bundle for which a run has no file.

    Raises:
        BundleError: if the unit of an input is unknown.
    """
    for column in spec.hazard:
        in_unit(np.empty(0), column.name, column.unit, spec.name)
    given = columns_given(hazard)
    return tuple(column.name for column in spec.hazard if measure_of(column.name) not in given)


def takes_events(*specs: BundleSpec | None) -> bool:
    """True if a bundle takes the shaking of single events, such as aftershocks."""
    names = [column.name for spec in specs if spec is not None for column in spec.hazard]
    return any(measure_of(name) != name for name in names)


def model_inputs(values: pd.DataFrame, spec: BundleSpec) -> NDArray[np.float32]:
    """The `hazard` input of a bundle, shape (N, M), in its units; NaN where a value is missing.

    Args:
        values: rows of a hazard table.
        spec: names columns and units. A column that the table lacks is missing in every row.

    Raises:
        BundleError: if the unit of a column is unknown.
    """
    columns: Sequence[NDArray[np.float64]] = [
        in_unit(
            values[column.name].to_numpy(np.float64)
            if column.name in values.columns
            else np.full(len(values), np.nan),
            column.name,
            column.unit,
            spec.name,
        )
        for column in spec.hazard
    ]
    return np.column_stack(columns).astype(np.float32)
