"""Reports on scored buildings: figures, their intervals, and the differences of two models."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import ScaleClass, Thresholds
from quakestream.reduce.metrics import Interval
from training.calibrate import choose_class_thresholds, first_severe
from training.metrics import (
    STATISTICS,
    block_interval,
    class_figures,
    classwise_error,
    difference,
    prior_weights_of,
    seed_interval,
    statistic,
    top_label_error,
)

HEADLINE = ("macro_auc", "macro_f1", "accuracy")
"""Figures that are reported with an interval."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredRows:
    """Probabilities of one model for N buildings of known class."""

    row_N: NDArray[np.int64]
    """Identifies the buildings: models are compared on the same rows."""
    p_NC: NDArray[np.float64]
    label_N: NDArray[np.int64]
    block_N: NDArray[np.int64]
    """Block of ground of each building; the bootstrap draws whole blocks."""


def class_report(scored: ScoredRows, *, draws: int = 1000) -> dict[str, Any]:
    """Figures of a model; those of `HEADLINE` with 95 % intervals over blocks."""
    intervals = {
        f"{name}_95": _bounds(block_interval(_statistic(name, scored), scored.block_N, draws=draws))
        for name in HEADLINE
    }
    return {**asdict(class_figures(scored.p_NC, scored.label_N)), **intervals}


def apart(first: ScoredRows, second: ScoredRows, *, draws: int = 1000) -> dict[str, Any]:
    """Figures of the first minus those of the second, with 95 % intervals over blocks."""
    return {
        name: asdict(
            block_interval(
                difference(_statistic(name, first), _statistic(name, second)),
                first.block_N,
                draws=draws,
            )
        )
        for name in HEADLINE
    }


def over_seeds(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of each macro figure over runs that differ in their seed, with 95 % intervals."""
    return {name: asdict(seed_interval([r[name] for r in reports])) for name in STATISTICS}


def severe_points(
    scored: ScoredRows, classes: Sequence[ScaleClass], thresholds: Thresholds | None = None
) -> dict[str, Any]:
    """Thresholds of "severe", with recall, false alarms and precision.

    Args:
        scored: the buildings.
        classes: the damage scale.
        thresholds: thresholds to use; if None, they are chosen on these buildings.

    Raises:
        RequestError: if thresholds have to be chosen and no building is severe, or all are.
    """
    first = first_severe(classes)
    chosen = thresholds or choose_class_thresholds(scored.p_NC, scored.label_N, first)
    p_N, severe_N = scored.p_NC[:, first:].sum(axis=1), scored.label_N >= first
    points = {n: _point(p_N, severe_N, threshold) for n, threshold in asdict(chosen).items()}
    return {"first_severe": first, "operating_points": points}


def calibration_report(scored: ScoredRows, prior_C: Sequence[float]) -> dict[str, float]:
    """Calibration errors, weighted so that classes have the shares the probabilities assume."""
    weight_N = prior_weights_of(scored.label_N, prior_C)
    return {
        "top_label_error_at_prior": top_label_error(scored.p_NC, scored.label_N, weight_N=weight_N),
        "classwise_error_at_prior": classwise_error(scored.p_NC, scored.label_N, weight_N=weight_N),
    }


def verdict_report(scored: ScoredRows, threshold: float) -> dict[str, Any]:
    """Figures of the verdicts that inference gives, which are not the most probable class.

    A verdict is the most severe class for which the probability of that class and worse reaches
    the threshold.
    """
    cumulative_NC = scored.p_NC[:, ::-1].cumsum(axis=1)[:, ::-1]
    reaches_NC = cumulative_NC >= threshold
    reaches_NC[:, 0] = True
    classes = scored.p_NC.shape[1]
    declared_N = classes - 1 - reaches_NC[:, ::-1].argmax(axis=1)
    figures = class_figures(np.eye(classes)[declared_N], scored.label_N)
    names = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "confusion", "distance")
    return {name: getattr(figures, name) for name in names}


def plain(value: Any) -> Any:
    """The value as JSON has it: arrays become lists, and NaN becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 6)
    return value


def _statistic(name: str, scored: ScoredRows) -> Any:
    return statistic(name, scored.p_NC, scored.label_N)


def _bounds(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def _point(
    p_N: NDArray[np.float64], severe_N: NDArray[np.bool_], threshold: float
) -> dict[str, float]:
    declared_N = p_N >= threshold

    def share(of_N: NDArray[np.bool_], where_N: NDArray[np.bool_]) -> float:
        return float(of_N[where_N].mean()) if where_N.any() else float("nan")

    return {
        "threshold": threshold,
        "recall": share(declared_N, severe_N),
        "false_alarm_rate": share(declared_N, ~severe_N),
        "precision": share(severe_N, declared_N),
    }
