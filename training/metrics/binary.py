"""Figures of buildings that are destroyed or intact."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from training.scoring import BuildingLogits

MIN_PER_STATE = 10
"""Smallest number of buildings of either state for which there is an AUC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How well probabilities separate destroyed from intact buildings."""

    destroyed: int
    intact: int
    auc: float
    """ROC area; NaN with fewer than 10 buildings of either state."""
    average_precision: float
    log_loss: float
    """Log-loss at a prior of one half, whatever the share of the set is."""


def figures(
    p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_], *, probabilities: bool = True
) -> Figures:
    """Figures of scores against states; without log-loss if scores are not probabilities."""
    destroyed, intact = int(destroyed_N.sum()), int((~destroyed_N).sum())
    enough = min(destroyed, intact) >= MIN_PER_STATE
    nan = float("nan")
    return Figures(
        destroyed=destroyed,
        intact=intact,
        auc=float(roc_auc_score(destroyed_N, p_N)) if enough else nan,
        average_precision=float(average_precision_score(destroyed_N, p_N)) if enough else nan,
        log_loss=balanced_log_loss(p_N, destroyed_N) if enough and probabilities else nan,
    )


def balanced_log_loss(
    p_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_], *, prior: float = 0.5
) -> float:
    """Log-loss with the states weighted so that a share of `prior` is destroyed."""
    weight_N = prior_weights(destroyed_N, prior)
    return float(log_loss(destroyed_N, np.clip(p_N, 1e-5, 1 - 1e-5), sample_weight=weight_N))


def prior_weights(destroyed_N: NDArray[np.bool_], prior: float) -> NDArray[np.float64]:
    """Weights, mean 1, under which the share of destroyed buildings is `prior`."""
    share = destroyed_N.mean()
    weight_N: NDArray[np.float64] = np.where(destroyed_N, prior / share, (1 - prior) / (1 - share))
    return weight_N


def auc_within(
    score_N: NDArray[np.float64], destroyed_N: NDArray[np.bool_], group_N: NDArray[np.int64]
) -> float:
    """Share of pairs of a destroyed and an intact building of one group that a score orders right.

    With groups of buildings of about one size it says what a score knows beyond size. NaN if no
    group has both states.
    """
    right, pairs = 0.0, 0
    for group in np.unique(group_N):
        here_N = group_N == group
        count = int(destroyed_N[here_N].sum()) * int((~destroyed_N[here_N]).sum())
        if count:
            right += count * float(roc_auc_score(destroyed_N[here_N], score_N[here_N]))
            pairs += count
    return right / pairs if pairs else float("nan")


def auc_interval(
    p_N: NDArray[np.float64],
    destroyed_N: NDArray[np.bool_],
    block_N: NDArray[np.int64],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % bootstrap interval of the AUC over blocks, because neighbouring buildings are alike."""
    rng = np.random.default_rng(seed)
    blocks = np.unique(block_N)
    members = {b: np.flatnonzero(block_N == b) for b in blocks}
    aucs = []
    for _ in range(draws):
        drawn = np.concatenate([members[b] for b in rng.choice(blocks, len(blocks))])
        if 0 < destroyed_N[drawn].sum() < len(drawn):
            aucs.append(roc_auc_score(destroyed_N[drawn], p_N[drawn]))
    low, high = np.percentile(aucs, [2.5, 97.5])
    return float(low), float(high)


def arrays(
    scored: Sequence[BuildingLogits], *, temperature: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability and state per building."""
    p_N = np.array([s.probability(temperature=temperature) for s in scored])
    return p_N, np.array([s.building.destroyed for s in scored], bool)


def stratified_auc(
    p_N: NDArray[np.float64],
    destroyed_N: NDArray[np.bool_],
    size_N: NDArray[np.float64],
    *,
    strata: int = 5,
) -> float:
    """ROC area among buildings of about one size; NaN if no size has both states.

    Where destroyed buildings are larger than others, the size alone ranks them, and a plain ROC
    area cannot say whether a model saw damage. Strata hold equal numbers of destroyed buildings;
    each has the weight of its pairs of a destroyed and another building.
    """
    if not destroyed_N.any():
        return float("nan")
    edges = np.quantile(size_N[destroyed_N], np.arange(1, strata) / strata)
    stratum_N = np.searchsorted(edges, size_N)
    area, pairs = 0.0, 0
    for stratum in range(strata):
        here_N = stratum_N == stratum
        destroyed = int(destroyed_N[here_N].sum())
        count = destroyed * (int(here_N.sum()) - destroyed)
        if count:
            area += count * float(roc_auc_score(destroyed_N[here_N], p_N[here_N]))
            pairs += count
    return area / pairs if pairs else float("nan")
