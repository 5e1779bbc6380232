"""Hazard values as terms of a linear model: z-scores, flags for missing values, and products."""

from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

REACH = 4.0
"""Largest z-score, because powers of values beyond the training data mean nothing."""


class HazardTerms(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Turns (N, M) values, NaN where missing, into (N, T) terms.

    With M z-scores z (0 where missing) and M flags m (1 where missing), the terms are z, m, all
    products of z up to `degree`, z_i m_j (the effect of one value if another is missing) and
    m_i m_j.

    Args:
        degree: 1, 2 or 3; 1 has no products at all.
    """

    def __init__(self, degree: int = 2) -> None:
        self.degree = degree

    def fit(self, X: NDArray[np.floating], y: Any = None) -> "HazardTerms":
        X = np.asarray(X, np.float64)
        self.n_features_in_ = X.shape[1]
        self.mean_ = np.nanmean(X, axis=0).astype(np.float32)
        self.std_ = np.nanstd(X, axis=0).astype(np.float32)
        self.factors_TD = factors_of(X.shape[1], self.degree)
        return self

    def transform(self, X: NDArray[np.floating]) -> NDArray[np.float32]:
        # float32 from the start, as in runtimes, so that a tree's threshold divides the same rows.
        X = np.asarray(X, np.float32)
        absent_NM = np.isnan(X)
        z_NM = np.clip((X - self.mean_) / self.std_, np.float32(-REACH), np.float32(REACH))
        ones_N1 = np.ones((len(X), 1), np.float32)
        columns_NK = np.concatenate(
            [np.where(absent_NM, np.float32(0), z_NM), absent_NM, ones_N1], axis=1, dtype=np.float32
        )
        terms_NT: NDArray[np.float32] = columns_NK[:, self.factors_TD[:, 0]]
        for factor_T in self.factors_TD.T[1:]:
            terms_NT = terms_NT * columns_NK[:, factor_T]
        return terms_NT


def factors_of(values: int, degree: int) -> NDArray[np.int64]:
    """Columns of [z, m, 1] that each term multiplies, shape (T, degree); the last column is 1."""
    z, m, one = range(values), range(values, 2 * values), 2 * values
    terms: list[tuple[int, ...]] = [(k,) for k in range(2 * values)]
    for size in range(2, degree + 1):
        terms += combinations_with_replacement(z, size)
    if degree > 1:
        # z_i m_i is 0 and m_i m_i is m_i, so neither is a term.
        terms += [(i, j) for i in z for j in m if j - values != i]
        terms += [(i, j) for i in m for j in m if i < j]
    return np.array([t + (one,) * (degree - len(t)) for t in terms], np.int64)
