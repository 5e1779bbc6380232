"""Maps one damage scale to another, by the EMS-98 grades of the classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quakestream.domain import ScaleClass
from quakestream.errors import BundleError

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScaleMap:
    """Shares of H source classes in C target classes.

    A source class goes to the target class with most EMS-98 grades in common. On a tie it goes
    to the milder class, so that a building counts as severe only where most grades of its class
    are severe. A source class whose grades the target scale lacks goes to the class with the
    nearest grade.

    A target class without any source class, where the source scale is coarser, shares the source
    class with most grades in common, by number of grades. Probability over prior is then the
    same for all target classes that share.
    """

    share_HC: F64
    """Share of each source class in each target class; rows sum to 1."""

    @classmethod
    def between(cls, source: Sequence[ScaleClass], target: Sequence[ScaleClass]) -> Self:
        """The map from `source` to `target`, both mildest first.

        Raises:
            BundleError: if a class has no grade.
        """
        for scale in (source, target):
            for damage_class in scale:
                if not damage_class.ems98:
                    raise BundleError(
                        f"damage class {damage_class.label!r} has no EMS-98 grade",
                        remedy="add `ems98` to the bundle's manifest: scales are matched by it",
                    )
        common_HC = np.array([[len({*s.ems98} & {*t.ems98}) for t in target] for s in source])
        away_HC = np.array(
            [[min(abs(a - b) for a in s.ems98 for b in t.ems98) for t in target] for s in source]
        )
        # Common grades decide, else the nearest grade. argmax takes the first of equals.
        fit_HC = np.where(common_HC > 0, common_HC, -away_HC)
        used_HC = np.zeros(common_HC.shape, np.bool_)
        used_HC[np.arange(len(source)), fit_HC.argmax(axis=1)] = True
        for c in np.flatnonzero(~used_HC.any(axis=0)):
            used_HC[fit_HC[:, c].argmax(), c] = True
        weight_HC = np.where(used_HC, np.maximum(common_HC, 1), 0)
        return cls(share_HC=weight_HC / weight_HC.sum(axis=1, keepdims=True))

    def __call__(self, p_NH: ArrayLike) -> F64:
        """Probabilities (or shares) of target classes, shape (..., C); NaN stays NaN."""
        return np.asarray(np.asarray(p_NH, np.float64) @ self.share_HC)
