"""Reports on scored buildings: figures, how sure they are, and what two models differ by."""

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
"""Figures that get an interval."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """One model's answers on buildings of known class, N of them."""

    row_N: NDArray[np.int64]
    """Which buildings they are: models are compared on the same ones."""
    p_NC: NDArray[np.float64]
    label_N: NDArray[np.int64]
    block_N: NDArray[np.int64]
    """Ground each lies on; whole blocks are drawn."""


def class_report(judged: Judged, *, draws: int = 1000) -> dict[str, Any]:
    """Figures of a model, the headline ones with 95 % intervals over blocks."""
    intervals = {
        f"{name}_95": _bounds(block_interval(_statistic(name, judged), judged.block_N, draws=draws))
        for name in HEADLINE
    }
    return {**asdict(class_figures(judged.p_NC, judged.label_N)), **intervals}


def apart(first: Judged, second: Judged, *, draws: int = 1000) -> dict[str, Any]:
    """First minus second on the same buildings, with 95 % intervals over blocks."""
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
    judged: Judged, classes: Sequence[ScaleClass], thresholds: Thresholds | None = None
) -> dict[str, Any]:
    """Thresholds of "severe" and what they give.

    Args:
        thresholds: chosen elsewhere; chosen on these buildings if None.

    Raises:
        RequestError: if thresholds are to be chosen and no building is severe, or every one is.
    """
    first = first_severe(classes)
    chosen = thresholds or choose_class_thresholds(judged.p_NC, judged.label_N, first)
    p_N, severe_N = judged.p_NC[:, first:].sum(axis=1), judged.label_N >= first
    points = {n: _point(p_N, severe_N, threshold) for n, threshold in asdict(chosen).items()}
    return {"first_severe": first, "operating_points": points}


def calibration_report(judged: Judged, prior_C: Sequence[float]) -> dict[str, float]:
    """Calibration errors where classes have the shares that the probabilities assume."""
    weight_N = prior_weights_of(judged.label_N, prior_C)
    return {
        "top_label_error_at_prior": top_label_error(judged.p_NC, judged.label_N, weight_N=weight_N),
        "classwise_error_at_prior": classwise_error(judged.p_NC, judged.label_N, weight_N=weight_N),
    }


def verdict_report(judged: Judged, threshold: float) -> dict[str, Any]:
    """Figures of the main job's verdicts, which are not the most probable class.

    Declared is the most severe class whose cumulative probability, its own and worse, reaches
    the threshold.
    """
    cumulative_NC = judged.p_NC[:, ::-1].cumsum(axis=1)[:, ::-1]
    reaches_NC = cumulative_NC >= threshold
    reaches_NC[:, 0] = True
    classes = judged.p_NC.shape[1]
    declared_N = classes - 1 - reaches_NC[:, ::-1].argmax(axis=1)
    told = class_figures(np.eye(classes)[declared_N], judged.label_N)
    names = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "confusion", "distance")
    return {name: getattr(told, name) for name in names}


def plain(value: Any) -> Any:
    """JSON knows no NaN and no arrays: a figure that cannot be had is null."""
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


def _statistic(name: str, judged: Judged) -> Any:
    return statistic(name, judged.p_NC, judged.label_N)


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
