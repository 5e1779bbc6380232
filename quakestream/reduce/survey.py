"""The number of destroyed buildings by the design of the sample alone.

The stratified difference estimator: the sum of the map's probabilities, corrected in each stratum
by the mean difference from the answers. It is unbiased whatever the map is worth. The weight of the
map (0: the answers alone, 1: the plain difference) is tuned in each stratum, as in
prediction-powered inference (Angelopoulos, Duchi and Zrnic 2023, "PPI++"), and drawn towards that
of all strata, since few answers say little about it. Variances have the finite-population
correction; a stratum in which all answers agree gets that of half an answer to the contrary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Z95 = 1.6448536
"""Quantile of the normal distribution: intervals of 90 %."""
_PRIOR_ANSWERS = 8.0
"""Answers that the weight of all strata counts for in each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyTotal:
    """A total with its 90 % interval."""

    value: float
    low: float
    high: float
    map_weight: float
    """Mean weight of the map's probabilities: 0 where they do not help."""


def survey_total(
    p_N: Floats, stratum_N: Integers, checked_N: NDArray[np.bool_], yes_N: NDArray[np.bool_]
) -> SurveyTotal | None:
    """The number of buildings with yes; None where a stratum has no answer.

    Args:
        p_N: the map's probabilities, of all buildings.
        stratum_N: their strata, 0, 1, ...
        checked_N: True where there is an answer.
        yes_N: the answers.
    """
    size_G = np.bincount(stratum_N)
    checks_G = np.bincount(stratum_N[checked_N], minlength=len(size_G))
    if (checks_G[size_G > 0] == 0).any():
        return None
    g_n, p_n, y_n = stratum_N[checked_N], p_N[checked_N], yes_N[checked_N].astype(float)
    weight_G = _map_weights(p_n, y_n, g_n, checks_G)
    fitted_N = weight_G[stratum_N] * p_N
    rest_n = y_n - fitted_N[checked_N]
    n_G = np.maximum(checks_G, 1)
    mean_G = np.bincount(g_n, rest_n, len(size_G)) / n_G
    square_G = np.bincount(g_n, (rest_n - mean_G[g_n]) ** 2, len(size_G))
    half_G = (np.bincount(g_n, y_n, len(size_G)) + 0.5) / (n_G + 1)
    spread_G = (square_G + half_G * (1 - half_G)) / n_G
    part_G = size_G * (size_G - checks_G) * spread_G / n_G
    variance = float(part_G.sum())
    total = float(fitted_N.sum() + (size_G * mean_G).sum())
    freedom = variance**2 / max(float((part_G**2 / np.maximum(n_G - 1, 1)).sum()), 1e-12)
    reach = t95(freedom) * variance**0.5
    least, most = float(y_n.sum()), float(len(p_N) - (1 - y_n).sum())
    return SurveyTotal(
        value=min(max(total, least), most),
        low=min(max(total - reach, least), most),
        high=min(max(total + reach, least), most),
        map_weight=float((weight_G * size_G).sum() / size_G.sum()),
    )


def _map_weights(p_n: Floats, y_n: Floats, g_n: Integers, checks_G: Integers) -> Floats:
    """Weight of the map's probabilities in each stratum, 0 to 1 where it helps."""
    n_G = np.maximum(checks_G, 1)
    p_mean_G = np.bincount(g_n, p_n, len(n_G)) / n_G
    y_mean_G = np.bincount(g_n, y_n, len(n_G)) / n_G
    p_off_n = p_n - p_mean_G[g_n]
    both_G = np.bincount(g_n, p_off_n * (y_n - y_mean_G[g_n]), len(n_G))
    own_G = np.bincount(g_n, p_off_n**2, len(n_G))
    if own_G.sum() <= 0:
        return np.zeros(len(n_G))
    common = both_G.sum() / own_G.sum()
    usual_G = _PRIOR_ANSWERS * own_G.sum() / n_G.sum()
    weight_G: Floats = np.clip((both_G + common * usual_G) / (own_G + usual_G), 0.0, 2.0)
    return weight_G


def t95(freedom: float) -> float:
    """The 95 % quantile of Student's t, by its expansion; at least 3 degrees of freedom."""
    v, z = max(freedom, 3.0), Z95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3
