"""Makes the probability of a building mean what it says, at a stated prior."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from quakestream.domain import Thresholds
from training.metrics import balanced_log_loss, prior_weights
from training.scoring import BuildingLogits

PRIOR = 0.5
"""Share of destroyed buildings the probabilities assume."""
MAX_FALSE_ALARMS = 0.02
MIN_RECALL = 0.95
TEMPERATURES = (0.5, 5.0)
"""Between these the temperature is looked for. Sharper than that, a pixel is a vote of yes or no:
figures of buildings get worse, and runtimes that differ in the last digit give other verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """p of a building = mean over its pixels of σ(logit / temperature).

    There is no offset to move the probabilities to another prior: before the mean over pixels
    it would change the order of buildings too (`LOG.md` has the figures).
    """

    temperature: float
    prior: float


def calibrate(scored: Sequence[BuildingLogits], *, prior: float = PRIOR) -> Calibration:
    """The temperature with the least log-loss at the prior.

    It is fitted to the mean probability of buildings, not of pixels: neighbouring pixels are
    nearly one observation, and the verdict is about the building.
    """
    logit_P = np.concatenate([s.logit_P for s in scored]).astype(np.float64)
    starts_N = np.cumsum([0, *(len(s.logit_P) for s in scored[:-1])])
    pixels_N = np.array([len(s.logit_P) for s in scored])
    destroyed_N = np.array([s.building.destroyed for s in scored], bool)

    def loss(log_temperature: float) -> float:
        p_P = expit(logit_P / np.exp(log_temperature))
        p_N = np.add.reduceat(p_P, starts_N) / pixels_N
        return balanced_log_loss(p_N, destroyed_N, prior=prior)

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return Calibration(temperature=float(np.exp(found.x)), prior=prior)


def choose_thresholds(p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_]) -> Thresholds:
    """Operating points on held-out buildings; none depends on how many are destroyed.

    High precision: the lowest threshold that calls at most 2 % of the intact destroyed.
    Balanced: the largest mean of both states' recalls. High recall: the highest threshold that
    finds 95 % of the destroyed.
    """
    threshold_T = np.unique(p_N)
    declared_TN = p_N >= threshold_T[:, None]
    recall_T = declared_TN[:, destroyed_N].mean(axis=1)
    false_T = declared_TN[:, ~destroyed_N].mean(axis=1)
    balanced = float(threshold_T[np.argmax(recall_T - false_T)])
    sure_T = threshold_T[false_T <= MAX_FALSE_ALARMS]
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
