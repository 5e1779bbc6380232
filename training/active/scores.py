"""How unsure a model is of each item, from class probabilities over several passes.

T here counts the passes of Monte Carlo dropout. A generator of passes (N, C) serves as well as an
array (T, N, C): only running sums are kept. With two classes `entropy` and `margin` order items
alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from quakestream.errors import ShapeError

Passes = NDArray[np.floating] | Iterable[NDArray[np.floating]]
"""Class probabilities (T, N, C), or an iterable of T arrays (N, C)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PassMoments:
    """What the scores need of all passes."""

    mean_NC: NDArray[np.float64]
    """Mean probabilities over the passes."""
    mean_entropy_N: NDArray[np.float64]
    """Mean over the passes of the entropy of a single pass, nats."""
    passes: int


def moments(probabilities_TNC: Passes) -> PassMoments:
    """Running sums over the passes.

    Raises:
        ShapeError: if there is no pass, or an array is no table of class probabilities.
    """
    passes, sum_NC, sum_entropy_N = 0, np.zeros((0, 0)), np.zeros(0)
    for raw in probabilities_TNC:
        p_NC = _checked(np.asarray(raw, np.float64), sum_NC.shape if passes else None)
        first = passes == 0
        sum_NC = p_NC.copy() if first else sum_NC + p_NC
        sum_entropy_N = entropy_of(p_NC) if first else sum_entropy_N + entropy_of(p_NC)
        passes += 1
    if not passes:
        raise ShapeError("no passes", "probabilities", expected="one pass or more", got="none")
    return PassMoments(
        mean_NC=sum_NC / passes, mean_entropy_N=sum_entropy_N / passes, passes=passes
    )


def entropy(probabilities_TNC: Passes) -> NDArray[np.float64]:
    """Entropy of the mean probabilities, (N,), nats: between 0 and log C."""
    return entropy_of(moments(probabilities_TNC).mean_NC)


def margin(probabilities_TNC: Passes) -> NDArray[np.float64]:
    """1 minus the difference of the two largest mean probabilities, (N,): 1 is a tie."""
    top_NC = np.sort(moments(probabilities_TNC).mean_NC, axis=1)
    score_N: NDArray[np.float64] = 1.0 - (top_NC[:, -1] - top_NC[:, -2])
    return score_N


def bald(probabilities_TNC: Passes) -> NDArray[np.float64]:
    """What the passes disagree on, (N,), nats: entropy of the mean minus the mean entropy.

    It is 0 where all passes are alike, however unsure they are, and with a single pass.
    """
    told = moments(probabilities_TNC)
    return np.maximum(entropy_of(told.mean_NC) - told.mean_entropy_N, 0.0)


def entropy_of(p_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy of each row, nats."""
    score_N: NDArray[np.float64] = -xlogy(p_NC, p_NC).sum(axis=-1)
    return score_N


def _checked(p_NC: NDArray[np.float64], shape: tuple[int, ...] | None) -> NDArray[np.float64]:
    table = p_NC.ndim == 2 and p_NC.shape[1] >= 2 and shape in (None, p_NC.shape)
    if not table:
        raise ShapeError(
            "wrong shape of a pass",
            "probabilities",
            expected="(items, classes) with two classes or more, the same in every pass",
            got=str(p_NC.shape),
        )
    if not (np.all(p_NC >= 0) and np.allclose(p_NC.sum(axis=1), 1.0, atol=1e-3)):
        raise ShapeError(
            "not probabilities",
            "probabilities",
            expected="rows of numbers from 0 that add up to 1",
            got="negative numbers, NaN, or other sums",
        )
    return p_NC
