"""Figures of masks. The headline is pooled; a mean over batches is kept to compare with.

The study this project compares with prints F1 and IoU that satisfy IoU = F1 / (2 - F1), as only
figures of pooled counts do, while its code averages the figures of batches. Both are here.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import ShapeError

FIGURES = ("accuracy", "precision", "recall", "f1", "iou")


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelCounts:
    """Pixels by what is true and what was declared. Counts add up; figures do not."""

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
        """Counts of masks of any one shape; where `known` is False a pixel has no say.

        Raises:
            ShapeError: if the shapes differ.
        """
        if declared.shape != truth.shape or (known is not None and known.shape != truth.shape):
            raise ShapeError(f"masks differ: declared {declared.shape}, truth {truth.shape}")
        if known is not None:
            declared, truth = declared[known], truth[known]
        return PixelCounts(
            true_positive=int((declared & truth).sum()),
            false_positive=int((declared & ~truth).sum()),
            false_negative=int((~declared & truth).sum()),
            true_negative=int((~declared & ~truth).sum()),
        )

    def figures(self, *, undefined: float = float("nan")) -> dict[str, float]:
        """Accuracy, precision, recall, F1 and IoU; `undefined` where nothing can be divided by."""
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
    """Figures of all pixels together: the headline."""
    return sum(batches, PixelCounts()).figures()


def batch_mean(batches: Iterable[PixelCounts]) -> dict[str, float]:
    """Mean of the batches' own figures, 0 where one cannot be had.

    Depends on how the pixels fall into batches, and a batch without damage counts as a
    failure: only for comparison with figures that were made like this.
    """
    each = [counts.figures(undefined=0.0) for counts in batches]
    if not each:
        return dict.fromkeys(FIGURES, float("nan"))
    return {name: float(np.mean([values[name] for values in each])) for name in FIGURES}
