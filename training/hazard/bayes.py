"""Naive Bayes on normal scores: every value is independent evidence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import norm
from sklearn.base import BaseEstimator, ClassifierMixin

EDGE = 0.001
"""Quantile of the smallest value, and 1 minus that of the largest: a normal score of ±3.09."""


class LayerBayes(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """p(class) × Π over the known values of N(z; mean and spread of the class), normalised.

    z is the normal score of a value: its quantile among all points, on the scale of a normal
    distribution, linear between knots. Missing values are left out, so a row without any value
    gets the class shares. Correlated layers count twice, which the temperature corrects.

    Args:
        shrink: share of the common spread in the spread of each class.
        knots: number of knots of the quantile curve.
    """

    def __init__(self, shrink: float = 0.1, knots: int = 33) -> None:
        self.shrink = shrink
        self.knots = knots

    def fit(self, X: NDArray[np.floating], y: NDArray[np.integer[Any]]) -> "LayerBayes":
        X = np.asarray(X, np.float64)
        self.classes_, label_N = np.unique(y, return_inverse=True)
        self.prior_C = np.bincount(label_N) / len(label_N)
        curves = [_curve(value_N[~np.isnan(value_N)], self.knots) for value_N in X.T]
        self.at_MK, self.score_MK = (np.stack(part) for part in zip(*curves, strict=True))
        z_NM = self.scores(X)
        self.mean_CM = np.stack([_mean(z_NM[label_N == c]) for c in range(len(self.classes_))])
        own_CM = np.stack([_variance(z_NM[label_N == c]) for c in range(len(self.classes_))])
        spread_M = (self.prior_C[:, None] * own_CM).sum(axis=0)
        self.variance_CM = (1 - self.shrink) * own_CM + self.shrink * spread_M
        return self

    def scores(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """Normal scores, NaN where missing."""
        columns = zip(np.asarray(X, np.float64).T, self.at_MK, self.score_MK, strict=True)
        return np.stack([np.interp(value_N, at_K, z_K) for value_N, at_K, z_K in columns], axis=1)

    def predict_proba(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        z_N1M = self.scores(X)[:, None]
        each_NCM = -0.5 * (z_N1M - self.mean_CM) ** 2 / self.variance_CM
        each_NCM -= 0.5 * np.log(self.variance_CM)
        log_NC = np.log(self.prior_C) + np.nansum(each_NCM, axis=2)
        return np.asarray(softmax(log_NC, axis=1))


def _curve(value_N: NDArray[np.float64], knots: int) -> tuple[NDArray[np.float64], ...]:
    """Knots of the curve: values in rising order and their normal scores, `knots` of each."""
    share_K = np.linspace(0, 1, knots)
    at_K = np.quantile(value_N, share_K)
    z_K = norm.ppf(np.clip(share_K, EDGE, 1 - EDGE))
    # A value that many points share gets the mean of the scores that they span.
    at_U, place_K = np.unique(at_K.astype(np.float32), return_inverse=True)
    z_U = np.bincount(place_K, weights=z_K) / np.bincount(place_K)
    gap = knots - len(at_U)
    # Padding beyond the end, where the score stays constant.
    more = at_U[-1].astype(np.float64) + np.arange(1, gap + 1)
    return np.concatenate([at_U.astype(np.float64), more]), np.pad(z_U, (0, gap), mode="edge")


def _mean(z_NM: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the known values; 0, the mean of all points, where no value is known."""
    known_NM = ~np.isnan(z_NM)
    return np.asarray(np.nansum(z_NM, axis=0) / np.maximum(known_NM.sum(axis=0), 1))


def _variance(z_NM: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of the known values and of two more points with the spread of all points."""
    known_M = (~np.isnan(z_NM)).sum(axis=0)
    squares_M = np.nansum((z_NM - _mean(z_NM)) ** 2, axis=0)
    return np.asarray((squares_M + 2.0) / (known_M + 2.0))
