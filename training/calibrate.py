"""Calibrates the probability of a building at a stated prior."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, softmax

from quakestream.domain import ScaleClass, Thresholds
from quakestream.domain.damage_words import SEVERITY
from quakestream.errors import RequestError
from training.metrics import balanced_log_loss, prior_weights
from training.scoring import BuildingLogits

PRIOR = 0.5
"""Share of destroyed buildings that the probabilities assume."""
MAX_FALSE_ALARMS = 0.02
MIN_RECALL = 0.95
TEMPERATURES = (0.5, 5.0)
"""Range of the temperature. Below 0.5 a pixel votes yes or no: figures of buildings get worse, and
runtimes that differ in the last digit give different verdicts."""


CLASS_TEMPERATURES = (0.05, 20.0)
"""Range for building models. It is wider than for pixels, because a building has one logit and a
focal loss leaves it far too flat."""
OFFSET_PENALTY = 1e-3
"""Keeps the offset of a class finite if held-out data separate it perfectly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelCalibration:
    """p of a building = mean over its pixels of σ(logit / temperature).

    It has no offset for another prior. An offset before the mean over pixels would also change the
    order of buildings (`LOG.md` has the figures).
    """

    temperature: float
    prior: float


def calibrate(scored: Sequence[BuildingLogits], *, prior: float = PRIOR) -> PixelCalibration:
    """Finds the temperature with the least log-loss at the prior.

    It is fitted to the mean probability of buildings, not of pixels. Neighbouring pixels are
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

    minimum = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded")
    return PixelCalibration(temperature=float(np.exp(minimum.x)), prior=prior)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCalibration:
    """p = softmax((logits + offset) / temperature), at the prior.

    A building model has one row of logits per building. Unlike with pixels, an offset per class can
    therefore move its probabilities to any prior (Alexandari et al. 2020, arXiv:1901.06852).
    """

    temperature: float
    offset_C: tuple[float, ...]
    """Sums to 0."""
    prior_C: tuple[float, ...]

    def probabilities(self, logit_NC: NDArray[np.floating]) -> NDArray[np.float64]:
        """Class probabilities of the network's logits."""
        moved_NC = np.asarray(logit_NC, np.float64) + np.array(self.offset_C)
        p_NC: NDArray[np.float64] = softmax(moved_NC / self.temperature, axis=1)
        return p_NC


def calibrate_classes(
    logit_NC: NDArray[np.floating],
    label_N: NDArray[np.int64],
    *,
    prior_C: Sequence[float] | None = None,
    offsets: bool = True,
) -> ClassCalibration:
    """Finds temperature and offsets with the least log-loss of held-out items at the prior.

    Items are weighted so that the classes have the prior's shares. A class without a held-out
    item keeps offset 0.

    Args:
        logit_NC: logits of held-out items.
        label_N: their classes.
        prior_C: shares that the probabilities will assume; equal ones if None.
        offsets: fit offsets too; if False, the temperature alone.

    Raises:
        RequestError: if fewer than two classes have a held-out item.
    """
    classes = logit_NC.shape[1]
    prior = np.full(classes, 1 / classes) if prior_C is None else np.array(prior_C, np.float64)
    count_C = np.bincount(label_N, minlength=classes)
    if (count_C > 0).sum() < 2:
        raise RequestError(
            "too few classes to calibrate",
            expected="held-out items of two classes or more",
            got=f"counts {count_C.tolist()}",
        )
    logit = np.asarray(logit_NC, np.float64)
    weight_N = (prior / np.maximum(count_C, 1))[label_N]
    weight_N /= weight_N.sum()
    free_C = np.flatnonzero((count_C > 0) & (prior > 0)) if offsets else np.arange(0)

    def offset_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        offset_C = np.zeros(classes)
        offset_C[free_C] = values - values.mean() if len(values) else values
        return offset_C

    def loss(parameters: NDArray[np.float64]) -> float:
        # Offsets are in units of the temperature, so that the two hardly depend on each other.
        scaled_NC = logit / np.exp(parameters[0]) + offset_of(parameters[1:])
        picked_N = log_softmax(scaled_NC, axis=1)[np.arange(len(label_N)), label_N]
        return float(-(weight_N * picked_N).sum() + OFFSET_PENALTY * (parameters[1:] ** 2).sum())

    bounds = [tuple(np.log(CLASS_TEMPERATURES)), *([(-20.0, 20.0)] * len(free_C))]
    minimum = minimize(loss, np.zeros(1 + len(free_C)), method="L-BFGS-B", bounds=bounds)
    temperature = float(np.exp(minimum.x[0]))
    return ClassCalibration(
        temperature=temperature,
        offset_C=tuple(float(v) for v in offset_of(minimum.x[1:]) * temperature),
        prior_C=tuple(float(v) for v in prior),
    )


def first_severe(classes: Sequence[ScaleClass]) -> int:
    """Index of the mildest severe class: xBD `major` or `destroyed`, else the last class alone."""
    severe = [c.index for c in classes if SEVERITY[c.grade] == 1 and c.index > 0]
    return min(severe, default=len(classes) - 1)


def choose_class_thresholds(
    p_NC: NDArray[np.float64], label_N: NDArray[np.int64], first: int
) -> Thresholds:
    """Operating points of "severe": thresholds on the probability of class `first` and worse.

    A verdict is the most severe class whose cumulative probability reaches the threshold. Missed
    and invented severe damage matter most, so thresholds are chosen on severe against the rest.

    Raises:
        RequestError: if no held-out item is severe, or all are.
    """
    severe_N = label_N >= first
    if severe_N.all() or not severe_N.any():
        raise RequestError(
            "thresholds cannot be chosen",
            expected="severe and other items on held-out ground",
            got=f"{int(severe_N.sum())} severe of {len(severe_N)}",
            remedy="hold out other ground",
        )
    return choose_thresholds(p_NC[:, first:].sum(axis=1), severe_N)


def choose_thresholds(p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_]) -> Thresholds:
    """Operating points on held-out buildings. None depends on the share of destroyed ones.

    High precision is the lowest threshold that declares at most 2 % of the intact buildings
    destroyed. Balanced has the largest mean of both states' recalls. High recall is the highest
    threshold that finds 95 % of the destroyed buildings.
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
    """Rounds down to four digits, so that the building that set a threshold still reaches it."""
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
