"""Combines what an image and the prior from shaking say of a landslide by adding log-odds.

For the probability p of an image model that assumes the share π of ground that slid, and the
prior q from shaking and terrain:

    logit(p | everything) = logit(p) + logit(q) - logit(π)

This holds where image and prior are independent given the slide: an image shows the slide, shaking
and terrain its cause. What is missing is left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import ShapeError
from quakestream.fusion.evidence import ROUNDING_FLOOR
from quakestream.fusion.nowicki_jessee import LEAST_COVERAGE

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CombinedSlide:
    """Probability of a landslide at N places, and what it comes from."""

    p_N: F64
    """NaN where neither image nor prior is there."""
    image_share_N: F64
    """Share of the image in the log-odds that both moved from the model's share of ground, 0 to
    1; NaN where neither is there."""
    prior_share_N: F64
    """Share of the prior; both add up to 1."""
    evidence_N: NDArray[np.object_]
    """`image+prior`, `image`, `prior`, or None where neither is there."""


def combined(p_image_N: F64, p_prior_N: F64, prior_share_of_model: float) -> CombinedSlide:
    """The probability of a landslide by image and prior together.

    Args:
        p_image_N: calibrated probability of the image model; NaN where there is no image.
        p_prior_N: share of ground that slides, by shaking and terrain; NaN where it is not
            known. Shares below the least one of the model, such as those of level ground, count
            as the least one: an image may show a slide there.
        prior_share_of_model: share of ground that slid, as the image model assumes it.

    Raises:
        ShapeError: if the numbers of places differ, or the share is not between 0 and 1.
    """
    if p_image_N.shape != p_prior_N.shape:
        raise ShapeError(
            "image and prior differ in places", "", str(p_image_N.shape), str(p_prior_N.shape)
        )
    if not 0 < prior_share_of_model < 1:
        raise ShapeError(
            "share of the model is wrong", "", "above 0 and below 1", str(prior_share_of_model)
        )
    start = _logit(np.array(prior_share_of_model))
    imaged_N, shaken_N = np.isfinite(p_image_N), np.isfinite(p_prior_N)
    image_N = np.where(imaged_N, _logit(_inner(p_image_N, ROUNDING_FLOOR)) - start, 0.0)
    prior_N = np.where(shaken_N, _logit(_inner(p_prior_N, LEAST_COVERAGE)) - start, 0.0)
    known_N = imaged_N | shaken_N
    p_N = 1.0 / (1.0 + np.exp(-(start + image_N + prior_N)))
    image_share_N = _share(np.abs(image_N), np.abs(prior_N), imaged_N, shaken_N)
    return CombinedSlide(
        p_N=np.where(known_N, p_N, np.nan),
        image_share_N=np.where(known_N, image_share_N, np.nan),
        prior_share_N=np.where(known_N, 1.0 - image_share_N, np.nan),
        evidence_N=np.select(
            [imaged_N & shaken_N, imaged_N, shaken_N],
            np.array(["image+prior", "image", "prior"], object),
            np.array(None, object),
        ),
    )


def _share(
    image_N: F64, prior_N: F64, imaged_N: NDArray[np.bool_], shaken_N: NDArray[np.bool_]
) -> F64:
    """Share of the image; where neither moves anything, it is that of those that are there."""
    total_N = image_N + prior_N
    alone_N = np.where(imaged_N & shaken_N, 0.5, np.where(imaged_N, 1.0, 0.0))
    return np.where(total_N > 0, image_N / np.where(total_N > 0, total_N, 1.0), alone_N)


def _inner(p_N: F64, floor: float) -> F64:
    """Probabilities that have finite log-odds."""
    return np.clip(np.nan_to_num(p_N, nan=0.5), floor, 1.0 - ROUNDING_FLOOR)


def _logit(p_N: F64) -> F64:
    return np.asarray(np.log(p_N) - np.log1p(-p_N), np.float64)
