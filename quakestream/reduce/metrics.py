"""Metrics of a map in pure numpy, checked against scikit-learn.

A figure that the data cannot give (one class only, nothing declared) is nan, never 0 or 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quakestream.errors import ShapeError

Metric = Callable[[NDArray[np.bool_], NDArray[np.float64]], float]
FigureOfSums = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure with its bootstrap interval; nan where the data cannot give it."""

    value: float
    low: float
    high: float

    def as_text(self) -> str:
        """The figure and its interval in three digits."""
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class against the rest."""

    precision: float
    recall: float
    f1: float
    support: int
    """Number of reference items of this class."""


def roc_auc(truth_N: ArrayLike, score_N: ArrayLike) -> float:
    """Probability that a positive scores above a negative; ties count half.

    This is the Mann-Whitney statistic over mean ranks; nan with one class only.
    """
    truth, score = _pair(truth_N, score_N)
    positives = int(truth.sum())
    negatives = truth.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    rank_sum = float(_mean_ranks(score)[truth].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def average_precision(truth_N: ArrayLike, score_N: ArrayLike) -> float:
    """Precision averaged over the steps of recall; tied scores are one step.

    Without interpolation (Davis and Goadrich 2006); nan without positives.
    """
    truth, score = _pair(truth_N, score_N)
    if not truth.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    last_of_tie = np.append(np.flatnonzero(np.diff(score[order])), truth.size - 1)
    precision = hits[last_of_tie] / (last_of_tie + 1.0)
    recall = hits[last_of_tie] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def confusion(truth_N: ArrayLike, verdict_N: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts, shape (truth, verdict), of class indices 0 to `classes` - 1.

    Raises:
        ShapeError: if lengths differ or an index is outside the scale.
    """
    truth, verdict = np.asarray(truth_N, dtype=np.int64), np.asarray(verdict_N, dtype=np.int64)
    if truth.shape != verdict.shape or truth.ndim != 1:
        raise ShapeError(
            "truth and verdicts do not match",
            expected="two lists of one length",
            got=f"shapes {truth.shape} and {verdict.shape}",
        )
    both = np.concatenate([truth, verdict])
    if both.size and (both.min() < 0 or both.max() >= classes):
        raise ShapeError(
            "class index outside the scale",
            expected=f"0..{classes - 1}",
            got=f"{both.min()}..{both.max()}",
        )
    flat = np.bincount(truth * classes + verdict, minlength=classes * classes)
    return flat.reshape(classes, classes)


def class_scores(counts_CC: NDArray[np.int64]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 per class of a confusion matrix (truth, verdict).

    F1 is 0 for a class that occurs or is declared but never both, and nan for a class that does
    neither.
    """
    hits = np.diag(counts_CC)
    declared, occurring = counts_CC.sum(axis=0), counts_CC.sum(axis=1)
    return tuple(
        ClassScore(
            precision=_ratio(hits[c], declared[c]),
            recall=_ratio(hits[c], occurring[c]),
            f1=_ratio(2 * hits[c], declared[c] + occurring[c]),
            support=int(occurring[c]),
        )
        for c in range(len(hits))
    )


def macro_f1(counts_CC: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur or are declared."""
    known = [s.f1 for s in class_scores(counts_CC) if not np.isnan(s.f1)]
    return float(np.mean(known)) if known else float("nan")


def binary_scores(truth_N: ArrayLike, declared_N: ArrayLike) -> ClassScore:
    """Precision, recall and F1 of the positives."""
    truth, declared = np.asarray(truth_N, dtype=bool), np.asarray(declared_N, dtype=bool)
    return class_scores(confusion(truth, declared, 2))[1]


def brier(truth_N: ArrayLike, probability_N: ArrayLike) -> float:
    """Mean squared error of the probability of the positive class (Brier 1950)."""
    truth, probability = _pair(truth_N, probability_N)
    return float(np.mean((probability - truth) ** 2)) if truth.size else float("nan")


def calibration_error(truth_N: ArrayLike, probability_N: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: |mean probability - frequency| over equal-width bins.

    Bins are weighted by their items (Naeini et al. 2015). Probability 1 belongs to the last bin.
    """
    truth, probability = _pair(truth_N, probability_N)
    if not truth.size:
        return float("nan")
    bin_N = np.clip((probability * bins).astype(np.int64), 0, bins - 1)
    gap = np.bincount(bin_N, weights=probability - truth, minlength=bins)
    return float(np.abs(gap).sum() / truth.size)


def bootstrap(
    metric: Metric,
    truth_N: ArrayLike,
    score_N: ArrayLike,
    group_N: ArrayLike | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """A metric with its 95 % percentile interval over resampled groups.

    Neighbours share a scene, its haze and its street. Resampling whole groups (blocks of ground)
    keeps that dependence; resampling single buildings would hide it. Resamples with a nan metric
    are left out. With fewer than half of them left, or fewer than two groups, the interval is
    nan.
    """
    truth, score = _pair(truth_N, score_N)
    value = metric(truth, score)
    group = np.arange(truth.size) if group_N is None else np.asarray(group_N)
    names, index_N = np.unique(group, return_inverse=True)
    if len(names) < 2 or resamples < 1:
        return Interval(value=value, low=float("nan"), high=float("nan"))
    order = np.argsort(index_N, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(index_N))[:-1])
    rng = np.random.default_rng(seed)
    figures = np.empty(resamples)
    for i in range(resamples):
        drawn = rng.integers(0, len(members), len(members))
        rows = np.concatenate([members[g] for g in drawn])
        figures[i] = metric(truth[rows], score[rows])
    known = figures[~np.isnan(figures)]
    if known.size < resamples / 2:
        return Interval(value=value, low=float("nan"), high=float("nan"))
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(value=value, low=float(low), high=float(high))


def bootstrap_of_sums(
    figure: FigureOfSums,
    parts_of_items: ArrayLike,
    group_N: ArrayLike,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """A figure of sums, such as a share, with its 95 % percentile interval over resampled groups.

    Resamples with a nan figure are left out. With fewer than half of them left, or fewer than two
    groups, the interval is nan, as in `bootstrap`.

    Args:
        figure: of the sums of the parts, shape (part,).
        parts_of_items: parts of each item, shape (item, part).
        group_N: group of each item, such as a block of ground.
        resamples: number of resamples.
        seed: of the resampling.
    """
    parts = np.asarray(parts_of_items, dtype=np.float64)
    names, index_N = np.unique(np.asarray(group_N), return_inverse=True)
    value = float(figure(parts.sum(axis=0)))
    unknown = Interval(value=value, low=float("nan"), high=float("nan"))
    if len(names) < 2 or resamples < 1:
        return unknown
    sums = np.zeros((len(names), parts.shape[1]))
    np.add.at(sums, index_N, parts)
    rng = np.random.default_rng(seed)
    figures = np.empty(resamples)
    for i in range(resamples):
        drawn_G = rng.integers(0, len(names), len(names))
        figures[i] = figure(sums[drawn_G].sum(axis=0))
    known = figures[~np.isnan(figures)]
    if known.size < resamples / 2:
        return unknown
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(value=value, low=float(low), high=float(high))


def _mean_ranks(score_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; tied values share the mean of their ranks."""
    _, inverse, counts = np.unique(score_N, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse]
    return ranks


def _ratio(part: np.int64, whole: np.int64) -> float:
    return float(part / whole) if whole else float("nan")


def _pair(truth_N: ArrayLike, score_N: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    truth, score = np.asarray(truth_N, dtype=bool), np.asarray(score_N, dtype=np.float64)
    if truth.shape != score.shape or truth.ndim != 1:
        raise ShapeError(
            "truth and scores do not match",
            expected="two lists of one length",
            got=f"shapes {truth.shape} and {score.shape}",
        )
    if np.isnan(score).any():
        raise ShapeError(f"{int(np.isnan(score).sum())} of {score.size} scores are nan")
    return truth, score
