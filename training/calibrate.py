"""Makes the probability of a building mean what it says, at a stated prior."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from quakestream.domain import Thresholds
from training.metrics import balanced_log_loss, prior_weights
from training.scoring import BuildingLogits

PRIOR = 0.1
"""Share of destroyed buildings the probabilities assume: about that of the labelled ones."""
MIN_PRECISION = 0.8
MIN_RECALL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """p of a building = mean over its pixels of σ((logit + offset) / temperature)."""

    temperature: float
    offset: float
    """Goes into the exported graph, so that the manifest needs the temperature alone."""
    prior: float


def calibrate(scored: Sequence[BuildingLogits], *, prior: float = PRIOR) -> Calibration:
    """The temperature and offset with the least log-loss at the prior.

    They are fitted to the mean probability of buildings, not of pixels: neighbouring pixels are
    nearly one observation, and the verdict is about the building.
    """
    logit_P = np.concatenate([s.logit_P for s in scored]).astype(np.float64)
    starts_N = np.cumsum([0, *(len(s.logit_P) for s in scored[:-1])])
    pixels_N = np.array([len(s.logit_P) for s in scored])
    destroyed_N = np.array([s.building.destroyed for s in scored], bool)

    def loss(values: NDArray[np.float64]) -> float:
        p_P = 1.0 / (1.0 + np.exp(-(logit_P + values[1]) / np.exp(values[0])))
        p_N = np.add.reduceat(p_P, starts_N) / pixels_N
        return balanced_log_loss(p_N, destroyed_N, prior=prior)

    # Its own first simplex around 0 would be too small to leave it.
    simplex = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    options = {"initial_simplex": simplex, "xatol": 1e-3, "fatol": 1e-6}
    found = minimize(loss, simplex[0], method="Nelder-Mead", options=options)
    return Calibration(temperature=float(np.exp(found.x[0])), offset=float(found.x[1]), prior=prior)


def choose_thresholds(
    p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_], *, prior: float
) -> Thresholds:
    """Operating points on held-out buildings.

    High precision: the lowest threshold with precision 0.8 at the prior. Balanced: the largest
    mean of both states' recalls, which no prior moves. High recall: the highest threshold that
    still finds 95 %.
    """
    threshold_T = np.unique(p_N)
    declared_TN = p_N >= threshold_T[:, None]
    weight_N = prior_weights(destroyed_N, prior)
    recall_T = declared_TN[:, destroyed_N].mean(axis=1)
    cleared_T = 1.0 - declared_TN[:, ~destroyed_N].mean(axis=1)
    right_T = (declared_TN * (weight_N * destroyed_N)).sum(axis=1)
    precision_T = right_T / (declared_TN * weight_N).sum(axis=1)
    balanced = float(threshold_T[np.argmax(recall_T + cleared_T)])
    sure_T = threshold_T[precision_T >= MIN_PRECISION]
    found_T = threshold_T[recall_T >= MIN_RECALL]
    return Thresholds(
        high_precision=_floor(max(float(sure_T.min(initial=1.0)), balanced)),
        balanced=_floor(balanced),
        high_recall=_floor(min(float(found_T.max(initial=0.0)), balanced)),
    )


def _floor(threshold: float) -> float:
    """Four digits, never above: the building that set a threshold still reaches it."""
    return float(np.floor(threshold * 1e4) / 1e4)


def calibration_error(
    p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_], *, prior: float, bins: int = 5
) -> float:
    """Expected calibration error at the prior, over bins of equal weight."""
    order = np.argsort(p_N)
    weight_N = prior_weights(destroyed_N, prior)[order]
    place_N = np.cumsum(weight_N) / weight_N.sum()
    error = 0.0
    for part in range(bins):
        chosen = (place_N > part / bins) & (place_N <= (part + 1) / bins + 1e-12)
        if chosen.any():
            weight_K = weight_N[chosen]
            gap = np.average(p_N[order][chosen] - destroyed_N[order][chosen], weights=weight_K)
            error += float(abs(gap) * weight_K.sum() / weight_N.sum())
    return error
