"""Figures of out-of-fold predictions, with intervals over blocks of ground.

Axis legend: N points, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.reduce.metrics import Interval
from training.data.splits import Fold
from training.metrics import Statistic, block_interval, class_figures, difference, statistic

DRAWS = 500


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Predictions for points on ground that was held out from the model."""

    p_NC: NDArray[np.float64]
    """Class probabilities; NaN for points that no fold held out."""
    prior_NC: NDArray[np.float64]
    """Class shares of the training points of the fold that held a point out."""
    folds: tuple[Fold, ...]


def macro_auc(predicted: Predictions, label_N: NDArray[np.int64]) -> Statistic:
    """Mean over classes of the mean over folds of the one-vs-rest ROC area.

    Points are compared only with points of the same fold. Pooled folds punish a model for knowing
    the class shares of its training points: where much of a class is held out, little of it is
    left for training, and all its probabilities are low.
    """
    figures_C = [_class_auc(predicted, label_N, c) for c in range(predicted.p_NC.shape[1])]

    def figure(weight_N: NDArray[np.float64]) -> float:
        return _mean([one(weight_N) for one in figures_C])

    return figure


def class_aucs(predicted: Predictions, label_N: NDArray[np.int64]) -> tuple[float, ...]:
    """Mean over folds of the ROC area of each class; NaN if no fold holds out enough of it."""
    ones_N = np.ones(len(label_N))
    classes = range(predicted.p_NC.shape[1])
    return tuple(_class_auc(predicted, label_N, c)(ones_N) for c in classes)


def pooled_auc(
    predicted: Predictions, label_N: NDArray[np.int64], *, over_prior: bool = False
) -> Statistic:
    """Macro one-vs-rest ROC area of all held-out points in one pool.

    Args:
        predicted: the predictions.
        label_N: classes of the points.
        over_prior: rank by probability divided by the share of the class in training, which
            removes the artefact of pooling and keeps the order within a fold.
    """
    held_N = _held(predicted)
    p_NC = predicted.p_NC[held_N]
    ratio_NC = p_NC / predicted.prior_NC[held_N] if over_prior else p_NC
    figure = statistic("macro_auc", ratio_NC, label_N[held_N])
    return lambda weight_N: figure(weight_N[held_N])


def figures(
    predicted: Predictions,
    label_N: NDArray[np.int64],
    block_N: NDArray[np.int64],
    *,
    reference: Predictions | None = None,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """One row of the comparison.

    Args:
        predicted: the predictions.
        label_N: classes of the points.
        block_N: block of ground of each point; the bootstrap draws whole blocks.
        reference: predictions on the same folds; the paired difference to them is reported.
        draws: bootstrap draws of an interval.
    """
    held_N = _held(predicted)
    p_NC, prior_NC, held_label_N = (
        predicted.p_NC[held_N],
        predicted.prior_NC[held_N],
        label_N[held_N],
    )
    plain = class_figures(p_NC, held_label_N)
    lifted_NC = p_NC / prior_NC
    lifted = class_figures(lifted_NC / lifted_NC.sum(axis=1, keepdims=True), held_label_N)
    auc = macro_auc(predicted, label_N)
    ones_N = np.ones(len(label_N))
    row: dict[str, Any] = {
        "macro_auc": rounded(block_interval(auc, block_N, draws=draws)),
        "auc_per_class": [round(a, 4) for a in class_aucs(predicted, label_N)],
        "pooled_auc": round(pooled_auc(predicted, label_N)(ones_N), 4),
        "pooled_auc_over_prior": round(pooled_auc(predicted, label_N, over_prior=True)(ones_N), 4),
        "accuracy": round(plain.accuracy, 4),
        "macro_f1": round(plain.macro_f1, 4),
        "macro_f1_over_prior": round(lifted.macro_f1, 4),
        "calibration_error": round(plain.classwise_error, 4),
        "log_loss": round(plain.log_loss, 4),
    }
    if reference is not None:
        gain = difference(auc, macro_auc(reference, label_N))
        row["minus_forest"] = rounded(block_interval(gain, block_N, draws=draws))
    return row


def rounded(interval: Interval) -> dict[str, float]:
    return {
        "value": round(interval.value, 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def _class_auc(predicted: Predictions, label_N: NDArray[np.int64], c: int) -> Statistic:
    """Mean over the folds that hold out enough points of the class and of others."""
    each: list[tuple[NDArray[np.bool_], Statistic]] = []
    for fold in predicted.folds:
        p_N = predicted.p_NC[fold.held_N, c]
        # With two classes, the macro area is the area of either class.
        two = statistic("macro_auc", np.stack([-p_N, p_N], axis=1), label_N[fold.held_N] == c)
        if not np.isnan(two(np.ones(len(p_N)))):
            each.append((fold.held_N, two))

    def figure(weight_N: NDArray[np.float64]) -> float:
        return _mean([area(weight_N[held_N]) for held_N, area in each])

    return figure


def _held(predicted: Predictions) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(predicted.p_NC).any(axis=1))


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
