"""How far a landslide probability can be trusted: Platt calibration and Monte Carlo dropout."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from quakestream.errors import RequestError
from training.data.slide_augment import coarsened
from training.data.slide_chips import SlideChips
from training.lessons.slides import AT_ONCE, SlidesLesson
from training.metrics.scores import BINS as PROBABILITY_BINS
from training.metrics.scores import ScoreCounts
from training.networks import PixelNetwork
from training.uncertain_graph import pass_logits

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
SAMPLE = 400_000
"""Validation pixels that the calibration is fitted to."""
SLOPES = (0.05, 5.0)
"""Range of the slope. Where validation is separated perfectly the best slope has no end, and the
last digits of a runtime would decide."""
OUTCOMES = ("tp", "fp", "fn", "tn")
_BINS = 1000
_LARGEST_STD = 0.75
"""Upper end of the histogram of deviations; two passes at 0 and 1 have 0.71."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platt:
    """p = mean over passes of sigmoid(slope · z + offset)."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, logits: F32) -> F32:
        """Probabilities of logits of any shape, before the mean over passes."""
        return np.asarray(expit(self.slope * logits + self.offset), np.float32)


def fit_platt(logits_PT: F32, truth_P: U8) -> Platt:
    """Slope and offset with the least log-loss of the mean probability over the passes.

    Raises:
        RequestError: if the pixels are all of one class.
    """
    truth = truth_P.astype(bool)
    if truth.all() or not truth.any():
        raise RequestError("validation has one class only; it cannot calibrate", "validation")
    logits = logits_PT.astype(np.float64)

    def slope_of(values: NDArray[np.float64]) -> float:
        return float(np.clip(np.exp(values[0]), *SLOPES))

    def loss(values: NDArray[np.float64]) -> float:
        p = expit(slope_of(values) * logits + values[1]).mean(axis=1).clip(1e-7, 1 - 1e-7)
        return float(-np.where(truth, np.log(p), np.log1p(-p)).mean())

    # Nelder-Mead needs a simplex of its own: around zero the default one has no size.
    simplex = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, -2.0]])
    found = minimize(loss, simplex[0], method="Nelder-Mead", options={"initial_simplex": simplex})
    return Platt(slope=slope_of(found.x), offset=float(found.x[1]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapScores:
    """Scores of a part at a threshold; they add up over batches."""

    threshold: float
    counts: ScoreCounts = field(default_factory=ScoreCounts)
    deviation_QP: NDArray[np.int64] = field(default_factory=lambda: np.zeros((4, _BINS), np.int64))
    """Histogram of the deviation for each of `OUTCOMES`."""

    def add(self, p_NTYX: F32, mask_NYX: U8) -> "MapScores":
        """The scores after another batch of probabilities per pass."""
        mean = p_NTYX.mean(axis=1)
        std = p_NTYX.std(axis=1, ddof=1) if p_NTYX.shape[1] > 1 else np.zeros_like(mean)
        place = np.minimum((std / _LARGEST_STD * _BINS).astype(np.int64), _BINS - 1)
        slid, declared = mask_NYX > 0, mean >= self.threshold
        outcomes = (slid & declared, ~slid & declared, slid & ~declared, ~slid & ~declared)
        more = [np.bincount(place[where], minlength=_BINS) for where in outcomes]
        return MapScores(
            threshold=self.threshold,
            counts=self.counts + ScoreCounts.of(mean, mask_NYX),
            deviation_QP=self.deviation_QP + np.stack(more),
        )

    def figures(self) -> dict[str, float]:
        """Figures at the threshold, and of ranking and calibration."""
        return {
            **self.counts.figures_at(self.threshold),
            **self.counts.ranking(),
            **self.counts.calibration(),
        }

    def doubt(self, share: float = 0.1) -> dict[str, float]:
        """Share of the errors among the tenth of pixels whose mean probability is least sure.

        It is what a network without several passes has, and what the deviation must beat.
        """
        middle_P = (np.arange(PROBABILITY_BINS) + 0.5) / PROBABILITY_BINS
        declared_P = np.arange(PROBABILITY_BINS) >= round(self.threshold * PROBABILITY_BINS)
        positive_P, negative_P = self.counts.positive_P, self.counts.negative_P
        wrong_P = np.where(declared_P, negative_P, positive_P)
        order = np.argsort(middle_P * (1.0 - middle_P), kind="stable")
        caught = _share_in_top((positive_P + negative_P)[order], wrong_P[order], share)
        return {"errors_in_least_sure_tenth": caught}

    def uncertainty(self) -> dict[str, float]:
        """Mean deviation by outcome, and how errors gather where the deviation is large."""
        middle = (np.arange(_BINS) + 0.5) / _BINS * _LARGEST_STD
        all_P = self.deviation_QP.sum(axis=0)
        wrong_P = self.deviation_QP[1] + self.deviation_QP[2]
        total = max(int(all_P.sum()), 1)
        means = (self.deviation_QP * middle).sum(axis=1) / np.maximum(
            self.deviation_QP.sum(axis=1), 1
        )
        return {
            **{f"std_{name}": float(v) for name, v in zip(OUTCOMES, means, strict=True)},
            "std_above_0.01": float(all_P[middle > 0.01].sum() / total),
            "std_above_0.05": float(all_P[middle > 0.05].sum() / total),
            "errors_in_most_uncertain_tenth": _share_in_top(all_P, wrong_P, 0.1),
        }


def scored_passes(
    lesson: SlidesLesson,
    network: PixelNetwork,
    chips: SlideChips,
    *,
    passes: int,
) -> Iterator[tuple[F32, U8]]:
    """Logits (N, pass, y, x) and masks of chips, batch by batch.

    Args:
        lesson: gives the scale of the bands.
        network: with fixed masks for `passes` above 1, else the network itself.
        chips: such as `lesson.part("test")`.
        passes: number of fixed masks.
    """
    for image_NBYX, mask_NYX in chips.batches(AT_ONCE):
        z = lesson.scale(coarsened(image_NBYX, lesson.coarsen))
        with torch.inference_mode():
            logits = pass_logits(network, torch.from_numpy(z), passes)
        yield np.asarray(logits.float().numpy(), np.float32), mask_NYX


def sample_pixels(scored: Iterator[tuple[F32, U8]], seed: int = 0) -> tuple[F32, U8]:
    """Logits (P, pass) and truth of at most about `SAMPLE` pixels, evenly drawn."""
    random = np.random.default_rng(seed)
    logits, truths, batches = [], [], list(scored)
    pixels = sum(mask.size for _, mask in batches)
    for logits_NTYX, mask_NYX in batches:
        chosen = random.random(mask_NYX.shape) < SAMPLE / max(pixels, 1)
        logits.append(np.moveaxis(logits_NTYX, 1, -1)[chosen])
        truths.append(mask_NYX[chosen])
    return np.concatenate(logits), np.concatenate(truths)


def _share_in_top(all_P: NDArray[np.int64], wrong_P: NDArray[np.int64], share: float) -> float:
    """Share of the wrong pixels among the `share` of pixels in the last bins."""
    left = share * all_P.sum()
    caught = 0.0
    for count, wrong in zip(all_P[::-1], wrong_P[::-1], strict=True):
        if not count:
            continue
        part = min(1.0, left / count)
        caught += part * wrong
        left -= part * count
        if left <= 0:
            break
    return float(caught / max(int(wrong_P.sum()), 1))
