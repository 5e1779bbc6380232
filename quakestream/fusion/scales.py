"""From one damage scale to another, by the EMS-98 grades that classes hold."""

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
    """Shares by which H source classes become C target classes.

    A source class goes to the target class with which it has most EMS-98 grades in common.
    On a tie it goes to the milder: a building is called severe only where most of what the
    class holds is severe. One whose grades the target scale leaves out goes to the class with
    the nearest grade.

    A target class that would get nothing from that (the source scale is the coarser one) shares
    the source class it has most in common with, by number of grades. Of it the source then says
    what it says of the whole class: probability over prior is the same for all that share.
    """

    share_HC: F64
    """Each row sums to 1, so probability is neither lost nor made."""

    @classmethod
    def between(cls, source: Sequence[ScaleClass], target: Sequence[ScaleClass]) -> Self:
        """The map from `source` to `target`, both mildest first.

        Raises:
            BundleError: if a class names no grade.
        """
        for scale in (source, target):
            for one in scale:
                if not one.ems98:
                    raise BundleError(
                        f"damage class {one.label!r} names no EMS-98 grade, so no other scale can "
                        "be brought to it; add `ems98` to the bundle's manifest"
                    )
        common_HC = np.array([[len({*s.ems98} & {*t.ems98}) for t in target] for s in source])
        away_HC = np.array(
            [[min(abs(a - b) for a in s.ems98 for b in t.ems98) for t in target] for s in source]
        )
        # Grades in common decide; among classes without any, the nearest. argmax takes the first.
        fit_HC = np.where(common_HC > 0, common_HC, -away_HC)
        taken_HC = np.zeros(common_HC.shape, np.bool_)
        taken_HC[np.arange(len(source)), fit_HC.argmax(axis=1)] = True
        for c in np.flatnonzero(~taken_HC.any(axis=0)):
            taken_HC[fit_HC[:, c].argmax(), c] = True
        weight_HC = np.where(taken_HC, np.maximum(common_HC, 1), 0)
        return cls(share_HC=weight_HC / weight_HC.sum(axis=1, keepdims=True))

    def __call__(self, p_NH: ArrayLike) -> F64:
        """Probabilities (or shares) of target classes, shape (..., C); NaN stays NaN."""
        return np.asarray(np.asarray(p_NH, np.float64) @ self.share_HC)
