"""Figures of masks: pooled over all pixels, and as a mean over batches for comparison.

The EPFL study prints F1 and IoU that satisfy IoU = F1 / (2 - F1), which only figures of pooled
counts do, while its code averages the figures of batches. Both are here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import ShapeError

FIGURES = ("accuracy", "precision", "recall", "f1", "iou")


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelCounts:
    """Counts of pixels by truth and declared class. Counts add up; figures do not."""

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(
            true_positive=self.true_positive + other.true_positive,
            false_positive=self.false_positive + other.false_positive,
            false_negative=self.false_negative + other.false_negative,
            true_negative=self.true_negative + other.true_negative,
        )

    @staticmethod
    def of(
        declared: NDArray[np.bool_],
        truth: NDArray[np.bool_],
        known: NDArray[np.bool_] | None = None,
    ) -> "PixelCounts":
        """Counts of masks of one shape; pixels where `known` is False do not count.

        Raises:
            ShapeError: if the shapes differ.
        """
        if declared.shape != truth.shape or (known is not None and known.shape != truth.shape):
            raise ShapeError(
                "masks differ in shape", expected=str(truth.shape), got=str(declared.shape)
            )
        if known is not None:
            declared, truth = declared[known], truth[known]
        return PixelCounts(
            true_positive=int((declared & truth).sum()),
            false_positive=int((declared & ~truth).sum()),
            false_negative=int((~declared & truth).sum()),
            true_negative=int((~declared & ~truth).sum()),
        )

    def figures(self, *, undefined: float = float("nan")) -> dict[str, float]:
        """Accuracy, precision, recall, F1 and IoU; `undefined` where the denominator is 0."""
        hit, alarm, miss = self.true_positive, self.false_positive, self.false_negative
        known = hit + alarm + miss + self.true_negative
        parts = (
            (hit + self.true_negative, known),
            (hit, hit + alarm),
            (hit, hit + miss),
            (2 * hit, 2 * hit + alarm + miss),
            (hit, hit + alarm + miss),
        )
        values = (part / whole if whole else undefined for part, whole in parts)
        return dict(zip(FIGURES, values, strict=True))


def pooled(batches: Iterable[PixelCounts]) -> dict[str, float]:
    """Figures of all pixels together, which reports print first."""
    return sum(batches, PixelCounts()).figures()


def batch_mean(batches: Iterable[PixelCounts]) -> dict[str, float]:
    """Mean of the figures of batches; an undefined figure counts as 0.

    It depends on how pixels are divided into batches, and a batch without damage counts as a
    failure. Use it only to compare with figures that were computed the same way.
    """
    each = [counts.figures(undefined=0.0) for counts in batches]
    if not each:
        return dict.fromkeys(FIGURES, float("nan"))
    return {name: float(np.mean([values[name] for values in each])) for name in FIGURES}
