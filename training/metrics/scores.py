"""Figures of probabilities at every threshold, from two histograms that add up over batches."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.metrics.pixels import PixelCounts

BINS = 2000
I64 = NDArray[np.int64]


def _empty() -> I64:
    return np.zeros(BINS, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreCounts:
    """Number of pixels by probability, in bins of 1/2000, of either truth.

    Thresholds that are multiples of 1/2000 are exact.
    """

    positive_P: I64 = field(default_factory=_empty)
    negative_P: I64 = field(default_factory=_empty)

    @classmethod
    def of(cls, p: NDArray[Any], truth: NDArray[Any]) -> "ScoreCounts":
        """Counts of probabilities 0..1 and a truth of the same shape."""
        bin_P = np.minimum((p.ravel().astype(np.float64) * BINS + 1e-9).astype(np.int64), BINS - 1)
        true_P = truth.ravel().astype(bool)
        return cls(
            positive_P=np.bincount(bin_P[true_P], minlength=BINS),
            negative_P=np.bincount(bin_P[~true_P], minlength=BINS),
        )

    def __add__(self, other: "ScoreCounts") -> "ScoreCounts":
        return ScoreCounts(
            positive_P=self.positive_P + other.positive_P,
            negative_P=self.negative_P + other.negative_P,
        )

    def counts_at(self, threshold: float) -> PixelCounts:
        """Counts of pixels when those with a probability of at least `threshold` are declared."""
        first = round(threshold * BINS)
        hits, alarms = int(self.positive_P[first:].sum()), int(self.negative_P[first:].sum())
        return PixelCounts(
            true_positive=hits,
            false_positive=alarms,
            false_negative=int(self.positive_P.sum()) - hits,
            true_negative=int(self.negative_P.sum()) - alarms,
        )

    def best_threshold(self, step: float = 0.01) -> float:
        """The threshold of the best F1 on a grid; the middle one where several are equal."""
        grid = np.arange(1, round(1 / step)) * step
        f1 = np.array([self.counts_at(t).figures(undefined=0.0)["f1"] for t in grid])
        best = np.flatnonzero(f1 >= f1.max() - 1e-12)
        return float(np.round(grid[best[len(best) // 2]], 6))

    def figures_at(self, threshold: float) -> dict[str, float]:
        """Pooled figures of landslides at a threshold; `miou` is the mean IoU of both classes."""
        counts = self.counts_at(threshold)
        figures = counts.figures(undefined=0.0)
        ground = counts.true_negative
        wrong = counts.false_positive + counts.false_negative
        rest = ground / (ground + wrong) if ground + wrong else 0.0
        return {
            **{name: figures[name] for name in ("f1", "precision", "recall", "iou")},
            "miou": (figures["iou"] + rest) / 2,
        }

    def ranking(self) -> dict[str, float]:
        """ROC-AUC and average precision; NaN if a class is missing."""
        positives, negatives = int(self.positive_P.sum()), int(self.negative_P.sum())
        if not positives or not negatives:
            return {"auc": float("nan"), "average_precision": float("nan")}
        below_P = np.cumsum(self.negative_P) - self.negative_P
        wins = (self.positive_P * (below_P + 0.5 * self.negative_P)).sum()
        hits_P = np.cumsum(self.positive_P[::-1])
        declared_P = hits_P + np.cumsum(self.negative_P[::-1])
        precision_P = hits_P / np.maximum(declared_P, 1)
        gained_P = self.positive_P[::-1] / positives
        return {
            "auc": float(wins / (positives * negatives)),
            "average_precision": float((gained_P * precision_P).sum()),
        }

    def calibration(self, bins: int = 20) -> dict[str, float]:
        """Expected calibration error over equal bins, and the mean log-loss."""
        middle_P = (np.arange(BINS) + 0.5) / BINS
        all_P = self.positive_P + self.negative_P
        total = max(int(all_P.sum()), 1)
        count = all_P.reshape(bins, -1).sum(axis=1)
        mean_p = (all_P * middle_P).reshape(bins, -1).sum(axis=1) / np.maximum(count, 1)
        share = self.positive_P.reshape(bins, -1).sum(axis=1) / np.maximum(count, 1)
        loss = -(self.positive_P * np.log(middle_P) + self.negative_P * np.log1p(-middle_P)).sum()
        return {
            "calibration_error": float((count * np.abs(mean_p - share)).sum() / total),
            "log_loss": float(loss / total),
        }
