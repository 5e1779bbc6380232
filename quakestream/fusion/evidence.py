"""Combines class probabilities of several models by adding log-odds.

For damage class c of one building, and models k with probabilities p_k that assume the class
prior π_k:

    p(c | everything) ∝ π(c) · Π_k p_k(c) / π_k(c)

This holds where the inputs of the models are independent given the damage: an image shows the
damage, a hazard layer shows its cause. Two models that read the same values are not independent,
and must not both be given.

Axes: N buildings, C damage classes, mildest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec
from quakestream.errors import ShapeError

F64 = NDArray[np.float64]

ROUNDING_FLOOR = 2.0**-24
"""Smallest probability that counts: float32 cannot tell it from zero."""
HAZARD_FLOOR = 1e-3
"""Smallest probability that counts from hazard values. They describe a place and not a building,
so odds stay within a thousand to one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Class probabilities of one model, and the class shares they assume.

    Raises:
        ShapeError: if the prior is not one share of at least 0 for each class.
    """

    p_NC: F64
    """Class probabilities; a row with a NaN is missing."""
    prior_C: F64
    """Class shares that the probabilities assume."""
    floor: float = ROUNDING_FLOOR
    """Smaller probabilities and shares count as this value."""

    def __post_init__(self) -> None:
        if self.p_NC.ndim != 2 or self.prior_C.shape != self.p_NC.shape[1:]:
            raise ShapeError(
                "probabilities and shares do not match",
                expected="(N, C) probabilities and C shares",
                got=f"{self.p_NC.shape} and {self.prior_C.shape}",
            )
        if not (np.isfinite(self.prior_C).all() and (self.prior_C >= 0).all()):
            raise ShapeError("invalid class share", "", "at least 0", str(self.prior_C.tolist()))

    @property
    def known_N(self) -> NDArray[np.bool_]:
        """True where the model gives probabilities."""
        return np.asarray(np.isfinite(self.p_NC).all(axis=1))

    def log_ratio_NC(self) -> F64:
        """Logarithm of probability over prior, per class; 0 where missing."""
        p_NC = np.where(self.known_N[:, None], self.p_NC, self.prior_C)
        # Both have the same floor, so that a model which repeats its prior counts exactly 0.
        return np.log(np.maximum(p_NC, self.floor)) - np.log(np.maximum(self.prior_C, self.floor))


def combine(prior_C: F64, parts: Sequence[Evidence]) -> F64:
    """Class probabilities from all parts under one prior, shape (N, C); rows sum to 1.

    Missing parts are left out. A building without any part is NaN. The order of the parts
    matters for rounding only. Higher odds of "class c or worse" in a part never lower the odds
    of the result.

    Args:
        prior_C: class shares that the result assumes. For a decision: the shares of the model
            whose threshold is used.
        parts: one or more, over the same buildings.

    Raises:
        ShapeError: if parts and prior differ in buildings or classes.
    """
    shapes = {part.p_NC.shape for part in parts}
    if len(shapes) != 1 or shapes != {(len(parts[0].p_NC), len(prior_C))}:
        raise ShapeError(
            "cannot combine evidence of different shapes",
            expected=f"one shape with {len(prior_C)} classes",
            got=str(sorted(shapes)),
        )
    start_C = np.log(np.maximum(prior_C, ROUNDING_FLOOR))
    log_NC = start_C + np.sum([part.log_ratio_NC() for part in parts], axis=0)
    p_NC = np.exp(log_NC - log_NC.max(axis=1, keepdims=True))
    p_NC /= p_NC.sum(axis=1, keepdims=True)
    known_N = np.any([part.known_N for part in parts], axis=0)
    return np.where(known_N[:, None], p_NC, np.nan)


def prior_of(spec: BundleSpec) -> F64:
    """Class shares that a bundle's probabilities assume; equal where its manifest has none."""
    classes = len(spec.classes)
    return np.array(spec.prior or [1.0 / classes] * classes, np.float64)
