"""Share of ground that slides in an earthquake, from shaking and terrain, with its uncertainty.

Nowicki Jessee et al. (2018), Journal of Geophysical Research: Earth Surface 123, 1835-1859: a
logistic model fitted to 23 events, which USGS runs after each earthquake. Its probability is
turned into a share of ground by a polynomial. The coefficients of lithology and land cover are
the values of the layers that USGS distributes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

MOST_PGV_CM_S = 211.0
"""Strongest shaking of the events that the model was fitted to."""
LEAST_PGV_CM_S = 1e-5
"""Weaker shaking counts as this: the logarithm of 0 does not exist."""
LEAST_SLOPE_DEG, MOST_SLOPE_DEG = 2.0, 90.0
"""Ground that is level, or steeper than a wall, gets no coverage."""
MOST_CTI = 19.0
UNCONSOLIDATED, UNCONSOLIDATED_AS = -3.21, -1.36
"""Coefficients at or below the first are those of unconsolidated rock, and count as the second."""
LEAST_COVERAGE = 5.04e-4
"""Least share that the polynomial gives, that of a probability of 0: exp(-7.592)."""
LOGIT_STDDEV = 0.03
"""Standard deviation of the logit where there is no layer of it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriorTerms:
    """Inputs of the model, arrays of one shape; NaN where a value is missing."""

    pgv_cm_s: F64
    slope_deg: F64
    lithology: F64
    """Coefficient."""
    landcover: F64
    """Coefficient."""
    cti: F64
    """Compound topographic index."""
    stddev: F64
    """Standard deviation of the logit."""
    sigma_ln_pgv: F64
    """Standard deviation of the logarithm of PGV."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideCoverage:
    """Share of ground that slides, 0 to 1; NaN where an input is missing."""

    coverage: F64
    std: F64
    """Standard deviation of the coverage; NaN where one of its own inputs is missing. Ground
    below the least slope has one too, as in USGS's products."""


def slide_coverage(terms: PriorTerms) -> SlideCoverage:
    """The model's share of ground that slides, at each place."""
    ln_pgv = np.log(np.clip(terms.pgv_cm_s, LEAST_PGV_CM_S, MOST_PGV_CM_S))
    slope = terms.slope_deg
    lithology = np.where(terms.lithology <= UNCONSOLIDATED, UNCONSOLIDATED_AS, terms.lithology)
    logit = (
        -6.30
        + 1.65 * ln_pgv
        + 0.06 * slope
        + lithology
        + 0.03 * np.clip(terms.cti, 0.0, MOST_CTI)
        + terms.landcover
        + 0.01 * ln_pgv * slope
    )
    p = 1.0 / (1.0 + np.exp(-logit))
    coverage = np.exp(-7.592 + 5.237 * p - 3.042 * p**2 + 4.035 * p**3)
    by_pgv = (0.01 * slope + 1.65) * terms.sigma_ln_pgv
    std_p = p * (1.0 - p) * np.sqrt(by_pgv**2 + terms.stddev**2)
    std = coverage * (5.237 - 2 * 3.042 * p + 3 * 4.035 * p**2) * std_p
    level = (slope <= LEAST_SLOPE_DEG) | (slope > MOST_SLOPE_DEG)
    return SlideCoverage(coverage=np.where(level & ~np.isnan(coverage), 0.0, coverage), std=std)
