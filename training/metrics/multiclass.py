"""Figures of class probabilities against classes, mildest class first.

Axis legend: N items, C classes. Macro figures are means over classes; every class counts the same,
however few items it has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quakestream.errors import ShapeError
from training.metrics.binary import MIN_PER_STATE
from training.metrics.intervals import Statistic

BINS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """The figures that papers report, and the distance of wrong answers."""

    items: int
    support: tuple[int, ...]
    """Items per class."""
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    """Means over classes that occur or are declared; a class that is never declared counts as 0."""
    macro_auc: float
    """Mean one-vs-rest ROC area over the classes that have one."""
    auc: tuple[float, ...]
    """One-vs-rest ROC area per class; NaN with fewer than 10 items inside or outside the class."""
    confusion: tuple[tuple[int, ...], ...]
    """Counts (truth, declared)."""
    distance: tuple[float, ...]
    """Share of items that are declared correctly, one class off, two classes off, ..."""
    top_label_error: float
    classwise_error: float
    log_loss: float


def class_figures(
    p_NC: NDArray[np.floating], label_N: ArrayLike, *, minimum: int = MIN_PER_STATE
) -> ClassFigures:
    """All figures; an item is declared to have its most probable class.

    Raises:
        ShapeError: if probabilities and labels do not describe the same items.
    """
    p_NC, label = _checked(p_NC, label_N)
    items, classes = p_NC.shape
    counts_CC = _confusion(label, p_NC.argmax(axis=1), classes, np.ones(items))
    precision_C, recall_C, f1_C = _per_class(counts_CC)
    auc_C = [figure(np.ones(items)) for figure in _aucs(p_NC, label, minimum)]
    known = [a for a in auc_C if not np.isnan(a)]
    return ClassFigures(
        items=items,
        support=tuple(int(n) for n in counts_CC.sum(axis=1)),
        accuracy=_ratio(float(np.trace(counts_CC)), items),
        macro_precision=_mean(precision_C),
        macro_recall=_mean(recall_C),
        macro_f1=_mean(f1_C),
        macro_auc=float(np.mean(known)) if known else float("nan"),
        auc=tuple(auc_C),
        confusion=tuple(tuple(int(n) for n in row) for row in counts_CC),
        distance=confusion_distance(counts_CC),
        top_label_error=top_label_error(p_NC, label),
        classwise_error=classwise_error(p_NC, label),
        log_loss=_log_loss(p_NC, label),
    )


def confusion_distance(counts_CC: NDArray[np.floating | np.integer]) -> tuple[float, ...]:
    """Share of items whose declared class is 0, 1, 2, ... grades off the true class."""
    classes = len(counts_CC)
    apart_CC = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes)))
    total = float(counts_CC.sum())
    return tuple(_ratio(float(counts_CC[apart_CC == d].sum()), total) for d in range(classes))


def top_label_error(
    p_NC: NDArray[np.floating],
    label_N: ArrayLike,
    *,
    weight_N: NDArray[np.float64] | None = None,
    bins: int = BINS,
) -> float:
    """Expected calibration error of the declared class's probability (Guo et al. 2017).

    Args:
        p_NC: probabilities.
        label_N: classes of the items.
        weight_N: weights of the items, see `prior_weights_of`.
        bins: number of bins of equal width.
    """
    p_NC, label = _checked(p_NC, label_N)
    weight_N = _ones(label) if weight_N is None else weight_N
    return _bin_error(p_NC.max(axis=1), p_NC.argmax(axis=1) == label, weight_N, bins)


def classwise_error(
    p_NC: NDArray[np.floating],
    label_N: ArrayLike,
    *,
    weight_N: NDArray[np.float64] | None = None,
    bins: int = BINS,
) -> float:
    """Mean over classes of the calibration error of that class's probability (Kull et al. 2019).

    Unlike the top-label error it includes the probabilities of classes that are not declared,
    which matter for sums over a district.
    """
    p_NC, label = _checked(p_NC, label_N)
    weight_N = _ones(label) if weight_N is None else weight_N
    each = [_bin_error(p_NC[:, c], label == c, weight_N, bins) for c in range(p_NC.shape[1])]
    return float(np.mean(each))


def prior_weights_of(label_N: ArrayLike, prior_C: Sequence[float]) -> NDArray[np.float64]:
    """Weights under which classes have the shares of a prior, to evaluate calibration at it.

    The share of a class without an item goes to the other classes.
    """
    label = np.asarray(label_N, np.int64)
    count_C = np.bincount(label, minlength=len(prior_C))
    weight_N = (np.array(prior_C, np.float64) / np.maximum(count_C, 1))[label]
    return np.asarray(weight_N / weight_N.mean())


def statistic(name: str, p_NC: NDArray[np.floating], label_N: ArrayLike) -> Statistic:
    """A figure by name as a function of weights, for `block_interval`.

    Raises:
        ShapeError: if the items differ, or no figure has that name.
    """
    p_NC, label = _checked(p_NC, label_N)
    if name not in STATISTICS:
        raise ShapeError(
            "unknown figure", expected=f"one of {', '.join(STATISTICS)}", got=repr(name)
        )
    return STATISTICS[name](p_NC, label)


def _macro_auc(p_NC: NDArray[np.float64], label_N: NDArray[np.int64]) -> Statistic:
    """Mean over the classes with enough items in the whole set, the same classes in every draw."""
    figures = [f for f in _aucs(p_NC, label_N, MIN_PER_STATE) if not np.isnan(f(_ones(label_N)))]
    if not figures:
        return lambda weight_N: float("nan")
    return lambda weight_N: float(np.mean([figure(weight_N) for figure in figures]))


def _of_confusion(
    figure: Callable[[NDArray[np.float64]], float],
) -> Callable[[NDArray[np.float64], NDArray[np.int64]], Statistic]:
    def with_items(p_NC: NDArray[np.float64], label_N: NDArray[np.int64]) -> Statistic:
        declared_N, classes = p_NC.argmax(axis=1), p_NC.shape[1]
        return lambda weight_N: figure(_confusion(label_N, declared_N, classes, weight_N))

    return with_items


STATISTICS: dict[str, Callable[[NDArray[np.float64], NDArray[np.int64]], Statistic]] = {
    "accuracy": _of_confusion(lambda counts: _ratio(float(np.trace(counts)), float(counts.sum()))),
    "macro_precision": _of_confusion(lambda counts: _mean(_per_class(counts)[0])),
    "macro_recall": _of_confusion(lambda counts: _mean(_per_class(counts)[1])),
    "macro_f1": _of_confusion(lambda counts: _mean(_per_class(counts)[2])),
    "macro_auc": _macro_auc,
}


def _aucs(
    p_NC: NDArray[np.float64], label_N: NDArray[np.int64], minimum: int
) -> tuple[Statistic, ...]:
    return tuple(_auc(p_NC[:, c], label_N == c, minimum) for c in range(p_NC.shape[1]))


def _auc(score_N: NDArray[np.float64], positive_N: NDArray[np.bool_], minimum: int) -> Statistic:
    """ROC area by weights: the Mann-Whitney statistic, ties counting half. Sorts once."""
    if min(int(positive_N.sum()), int((~positive_N).sum())) < max(minimum, 1):
        return lambda weight_N: float("nan")
    order = np.argsort(score_N, kind="stable")
    starts = np.flatnonzero(np.diff(score_N[order], prepend=-np.inf))
    positive = positive_N[order]

    def area(weight_N: NDArray[np.float64]) -> float:
        weight = weight_N[order]
        above = np.add.reduceat(np.where(positive, weight, 0.0), starts)
        below = np.add.reduceat(np.where(positive, 0.0, weight), starts)
        won = above * (np.cumsum(below) - below / 2)
        return _ratio(float(won.sum()), float(above.sum() * below.sum()))

    return area


def _confusion(
    label_N: NDArray[np.int64],
    declared_N: NDArray[np.int64],
    classes: int,
    weight_N: NDArray[np.float64],
) -> NDArray[np.float64]:
    flat = np.bincount(label_N * classes + declared_N, weights=weight_N, minlength=classes**2)
    return flat.reshape(classes, classes).astype(np.float64)


def _per_class(
    counts_CC: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Precision, recall and F1 of each class.

    They are NaN for a class that neither occurs nor is declared, and 0 where the denominator is 0.
    """
    hit_C, declared_C = np.diag(counts_CC), counts_CC.sum(axis=0)
    true_C = counts_CC.sum(axis=1)
    seen_C = declared_C + true_C > 0
    figures = []
    for whole_C, part_C in ((declared_C, hit_C), (true_C, hit_C), (declared_C + true_C, 2 * hit_C)):
        value_C = np.divide(part_C, whole_C, out=np.zeros(len(hit_C)), where=whole_C > 0)
        figures.append(np.where(seen_C, value_C, np.nan))
    return figures[0], figures[1], figures[2]


def _bin_error(
    p_N: NDArray[np.float64],
    right_N: NDArray[np.bool_],
    weight_N: NDArray[np.float64],
    bins: int,
) -> float:
    """|mean probability - frequency| over equal-width bins, weighted by their items."""
    if not len(p_N):
        return float("nan")
    bin_N = np.clip((p_N * bins).astype(np.int64), 0, bins - 1)
    gap_B = np.bincount(bin_N, weights=weight_N * (p_N - right_N))
    return float(np.abs(gap_B).sum() / weight_N.sum())


def _log_loss(p_NC: NDArray[np.float64], label_N: NDArray[np.int64]) -> float:
    if not len(label_N):
        return float("nan")
    p_N = p_NC[np.arange(len(label_N)), label_N]
    return float(-np.log(np.clip(p_N, 1e-12, 1.0)).mean())


def _checked(
    p_NC: NDArray[np.floating], label_N: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    p, label = np.asarray(p_NC, np.float64), np.asarray(label_N, np.int64)
    if p.ndim != 2 or label.shape != p.shape[:1]:
        raise ShapeError(
            "probabilities and labels do not fit",
            expected="(N, C) and (N,)",
            got=f"{p.shape} and {label.shape}",
        )
    if np.isnan(p).any():
        raise ShapeError(f"{int(np.isnan(p).any(axis=1).sum())} of {len(p)} items have no score")
    if label.size and not 0 <= label.min() <= label.max() < p.shape[1]:
        raise ShapeError(
            "label is not a class",
            expected=f"0 to {p.shape[1] - 1}",
            got=f"{label.min()} to {label.max()}",
        )
    return p, label


def _mean(values_C: NDArray[np.float64]) -> float:
    known = values_C[~np.isnan(values_C)]
    return float(known.mean()) if len(known) else float("nan")


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _ones(label_N: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.ones(len(label_N))
