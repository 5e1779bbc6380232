"""Fits the head of a context bundle on buildings of several towns.

Every town's features are brought to mean 0 and deviation 1 before the fit, so that what sets two
cities apart is no part of what is learnt. The head is then applied to features as they are: the
place of a run's scores is found by the estimate of shares. A strong ridge leaves little more than
the direction from standing to fallen buildings, which is what carries over to another city.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from quakestream.fusion.calibration import score_logit
from training.context.features import ContextExamples
from training.context.graph import ContextHead
from training.data.pairs import LabelledPair
from training.scoring import BuildingLogits

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

BEFORE = 0.7
"""Share of the image before the event that is taken off."""
STRENGTH = 3e-5
"""Inverse of the ridge of the logistic regression, on features of deviation 1."""
SQUARE_PART = 0.5
"""Spread of the log-odds over the square, in spreads of the pixel network's own."""
FEWEST = 50
"""Fewest buildings of a town whose spread counts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TownScores:
    """Log-odds of the pixel network for the buildings of a town."""

    town: str
    logit_N: F64

    @classmethod
    def of(
        cls, pair: LabelledPair, scored: Sequence[BuildingLogits], temperature: float
    ) -> "TownScores":
        """Log-odds of the mean probability of each building; 0 where it has no pixel."""
        p_of = {s.building.id: s.probability(temperature=temperature) for s in scored}
        p_N = np.array([p_of.get(b.id, 0.5) for b in pair.buildings])
        return cls(town=pair.name, logit_N=score_logit(p_N))


def fit_context(
    examples: Sequence[ContextExamples],
    pixels: Sequence[TownScores],
    *,
    before: float = BEFORE,
    strength: float = STRENGTH,
) -> ContextHead:
    """A head whose parts spread by fixed amounts among the standing buildings of a town.

    The part of the backbone spreads as the pixel network does, that over the square half as much.
    The middle of standing and fallen buildings, over all towns, lies at 0.

    Args:
        examples: buildings of each town.
        pixels: what the pixel network says of the same buildings, for towns that have it.
        before: share of the image before that is taken off.
        strength: inverse of the ridge.
    """
    change = [e.change(before).astype(np.float64) for e in examples]
    std_D = _mean_deviation(change)
    destroyed_N = np.concatenate([e.destroyed_N for e in examples])
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    model.fit(np.concatenate([_standardised(c) for c in change]), destroyed_N)
    weight_D = model.coef_[0] / std_D
    around = {e.town: c @ weight_D for e, c in zip(examples, change, strict=True)}
    standing = {e.town: ~e.destroyed_N for e in examples}
    square = {e.town: e.square_N for e in examples if e.square_N is not None}
    scale = _matching(around, pixels, standing)
    square_scale = SQUARE_PART * _matching(square, pixels, standing)
    sums = {p.town: scale * around[p.town] + square_scale * square[p.town] for p in pixels}
    return ContextHead(
        weight_D=scale * weight_D,
        before=before,
        offset=-_middle(sums, standing),
        square_scale=square_scale,
    )


def _mean_deviation(change: Sequence[F64]) -> F64:
    deviations = [c.std(axis=0) for c in change if len(c) >= FEWEST]
    return np.asarray(np.maximum(np.mean(deviations, axis=0), 1e-3), np.float64)


def _standardised(change_ND: F64) -> F64:
    spread_D = np.maximum(change_ND.std(axis=0), 1e-3)
    return np.asarray((change_ND - change_ND.mean(axis=0)) / spread_D)


def _matching(
    part: Mapping[str, F64], pixels: Sequence[TownScores], standing: Mapping[str, Mask]
) -> float:
    """Factor that spreads a part as the pixel network's scores, over standing buildings."""
    ratios = [
        p.logit_N[standing[p.town]].std() / part[p.town][standing[p.town]].std() for p in pixels
    ]
    return float(np.median(ratios))


def _middle(logit: Mapping[str, F64], standing: Mapping[str, Mask]) -> float:
    """The middle between the medians of standing and of fallen buildings of all towns."""
    medians = [
        np.median(np.concatenate([logit[town][standing[town] == state] for town in logit]))
        for state in (True, False)
    ]
    return float(np.mean(medians))
