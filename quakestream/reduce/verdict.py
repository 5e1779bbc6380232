"""Decides one verdict per building from tallies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec, Quality
from quakestream.reduce.tally import Tally

MIN_PIXELS = 4
"""A footprint with fewer pixels is `too_small` to be assessed."""
MIN_VALID_FRACTION = 0.5
"""Smallest share of valid pixels of a footprint that is assessed."""

_REASON_OF_QUALITY = {
    Quality.NODATA: "nodata",
    Quality.CLOUD: "cloud",
    Quality.SNOW: "snow",
    Quality.SATURATED: "saturated",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdicts:
    """Verdicts of N buildings, in the order of the tally."""

    reason_N: NDArray[np.object_]
    """None where assessed, else the reason."""
    damage_N: NDArray[np.int8]
    """Class index on the bundle's scale, -1 where not assessed."""
    p_NC: NDArray[np.float32]
    """Class probabilities, NaN where not assessed."""
    confidence_N: NDArray[np.float32]
    """Probability of the declared class, 0 to 1."""
    uncertainty_N: NDArray[np.float32]
    """Probability that the building is of another class: 1 - confidence."""
    valid_fraction_N: NDArray[np.float32]
    difference_N: NDArray[np.float32]
    """Mean |post - pre| per valid pixel and band, sensor counts."""


def decide(
    tally: Tally,
    spec: BundleSpec,
    views_N: NDArray[np.int64] | None = None,
    p_NC: NDArray[np.float64] | None = None,
    threshold: float | None = None,
) -> Verdicts:
    """One verdict per building of a merged tally.

    The declared class is the most severe one whose cumulative probability (its own and worse)
    reaches the threshold.

    Args:
        views_N: number of views of the same ground in the tally; None: one. A building that one
            of three views shows whole counts as whole, whatever clouds the others have.
        p_NC: class probabilities that decide; None: those of the image. They do not change which
            buildings are assessed.
        threshold: None: the balanced threshold of the bundle.
    """
    fraction_N = _valid_fraction(tally, views_N)
    reason_N = unseen_reasons(tally, views_N)
    assessed_N = np.array([r is None for r in reason_N], np.bool_)
    p_NC = image_probabilities(tally) if p_NC is None else p_NC
    cumulative_NC = p_NC[:, ::-1].cumsum(axis=1)[:, ::-1]
    reaches_NC = cumulative_NC >= (spec.thresholds.balanced if threshold is None else threshold)
    reaches_NC[:, 0] = True  # the mildest class where no worse one is reached
    classes = p_NC.shape[1]
    damage_N = classes - 1 - reaches_NC[:, ::-1].argmax(axis=1)
    confidence_N = p_NC[np.arange(len(p_NC)), damage_N]
    valid_N = tally.pixels_NQ[:, Quality.VALID]
    return Verdicts(
        reason_N=reason_N,
        damage_N=np.where(assessed_N, damage_N, -1).astype(np.int8),
        p_NC=np.where(assessed_N[:, None], p_NC, np.nan).astype(np.float32),
        confidence_N=_masked(confidence_N, assessed_N),
        uncertainty_N=_masked(1.0 - confidence_N, assessed_N),
        valid_fraction_N=fraction_N.astype(np.float32),
        difference_N=_masked(
            tally.change_N / np.maximum(valid_N * len(spec.bands), 1), valid_N > 0
        ),
    )


def image_probabilities(tally: Tally) -> NDArray[np.float64]:
    """Mean class probabilities over the valid pixels of each building, shape (N, C).

    The last column is the *score* of a building. Rows without a valid pixel are 0.
    """
    whole_N1 = tally.sum_NC.sum(axis=1, keepdims=True)
    p_NC: NDArray[np.float64] = tally.sum_NC / np.maximum(whole_N1, 1)
    return p_NC


def unseen_reasons(tally: Tally, views_N: NDArray[np.int64] | None = None) -> NDArray[np.object_]:
    """Why the pixels of a building do not suffice for a verdict; None where they do."""
    pixels_N = tally.pixels_NQ.sum(axis=1)
    return _reasons(tally, pixels_N, _valid_fraction(tally, views_N))


def _valid_fraction(tally: Tally, views_N: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Valid pixels of a building over its pixels in one view, at most 1."""
    pixels_N = tally.pixels_NQ.sum(axis=1)
    once_N = pixels_N if views_N is None else pixels_N / np.maximum(views_N, 1)
    fraction_N: NDArray[np.float64] = tally.pixels_NQ[:, Quality.VALID] / np.maximum(once_N, 1)
    return np.minimum(fraction_N, 1.0)


def _reasons(
    tally: Tally, pixels_N: NDArray[np.int64], fraction_N: NDArray[np.float64]
) -> NDArray[np.object_]:
    reason_N = np.full(len(tally), None, object)
    unseen_N = fraction_N < MIN_VALID_FRACTION
    worst_N = tally.pixels_NQ[:, 1:].argmax(axis=1) + 1
    for quality, reason in _REASON_OF_QUALITY.items():
        reason_N[unseen_N & (worst_N == quality)] = reason
    reason_N[pixels_N < MIN_PIXELS] = "too_small"
    return reason_N


def _masked(values_N: NDArray[np.float64], keep_N: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(keep_N, values_N, np.nan).astype(np.float32)
