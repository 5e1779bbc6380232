"""Class probabilities of several models as log-odds that add up.

For damage class c of one building, models k with probabilities p_k and the class prior
π_k that those assume:

    p(c | everything) ∝ π(c) · Π_k p_k(c) / π_k(c)

which holds where the models' inputs are independent given the damage: a picture shows what
fell, a hazard layer what the place went through. Two models that read the same values are
not two pieces of evidence, and must not both be given.

Axis legend: N buildings, C damage classes, mildest first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import BundleSpec
from quakestream.errors import ShapeError

F64 = NDArray[np.float64]

ROUNDING_FLOOR = 2.0**-24
"""Probabilities below this count as this: a zero cannot be told from it in float32."""
HAZARD_FLOOR = 1e-3
"""The same for hazard values, which know a place and never one building: no class is ruled
out, or taken for certain, beyond odds of a thousand to one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What one model says, and what it assumed before it looked.

    Raises:
        ShapeError: if the prior is not one positive share for each class.
    """

    p_NC: F64
    """Class probabilities; a row with a NaN in it is missing."""
    prior_C: F64
    """Class shares the probabilities assume."""
    floor: float = ROUNDING_FLOOR
    """Probabilities and shares below this count as this."""

    def __post_init__(self) -> None:
        if self.p_NC.ndim != 2 or self.prior_C.shape != self.p_NC.shape[1:]:
            raise ShapeError(
                f"expected (N, C) probabilities and C shares, got {self.p_NC.shape} and "
                f"{self.prior_C.shape}"
            )
        if not (np.isfinite(self.prior_C).all() and (self.prior_C >= 0).all()):
            raise ShapeError(f"expected shares of at least 0, got {self.prior_C.tolist()}")

    @property
    def there_N(self) -> NDArray[np.bool_]:
        """True where the model said something."""
        return np.asarray(np.isfinite(self.p_NC).all(axis=1))

    def log_ratio_NC(self) -> F64:
        """How much more likely each class has become, as ln; 0 where missing."""
        p_NC = np.where(self.there_N[:, None], self.p_NC, self.prior_C)
        # Floored alike, so that a model which only repeats its prior says exactly nothing.
        return np.log(np.maximum(p_NC, self.floor)) - np.log(np.maximum(self.prior_C, self.floor))


def combine(prior_C: F64, parts: Sequence[Evidence]) -> F64:
    """Class probabilities from all parts under one prior, shape (N, C), rows sum to 1.

    Missing parts are left out; a building of which no part says anything is NaN. The order of
    the parts does not matter but for rounding, and raising a part's odds of "class c or worse"
    never lowers those of the result.

    Args:
        prior_C: class shares the result shall assume. For a decision, those of the model whose
            threshold is used.
        parts: one or more, over the same buildings.

    Raises:
        ShapeError: if parts and prior differ in buildings or classes.
    """
    shapes = {part.p_NC.shape for part in parts}
    if len(shapes) != 1 or shapes != {(len(parts[0].p_NC), len(prior_C))}:
        raise ShapeError(f"cannot combine {sorted(shapes)} under {len(prior_C)} class shares")
    start_C = np.log(np.maximum(prior_C, ROUNDING_FLOOR))
    log_NC = start_C + np.sum([part.log_ratio_NC() for part in parts], axis=0)
    p_NC = np.exp(log_NC - log_NC.max(axis=1, keepdims=True))
    p_NC /= p_NC.sum(axis=1, keepdims=True)
    known_N = np.any([part.there_N for part in parts], axis=0)
    return np.where(known_N[:, None], p_NC, np.nan)


def prior_of(spec: BundleSpec) -> F64:
    """Class shares a bundle's probabilities assume; equal ones where its manifest names none."""
    classes = len(spec.classes)
    return np.array(spec.prior or [1.0 / classes] * classes, np.float64)
