"""The head of an adapted bundle: logistic regression on features, with a ridge.

The log-odds are `intercept + weights · z`, where `z` are standardised features. The first features
are trusted: they are log-odds of the model that is adapted, and hardly penalised. As the penalty of
the others grows, the head becomes the old model, re-calibrated. Penalties are chosen by the
log-loss on blocks of ground that were left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

F64 = NDArray[np.float64]

PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
"""Ridges that are tried, on features of deviation 1."""
TRUSTED_PENALTY = 1.0
"""Ridge on the weights of trusted features and on the intercept, which keeps them finite."""
DIRECTIONS = 96
"""Most directions of the features that a head uses: those in which the buildings differ most."""
STEPS = 25
FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Head:
    """A fitted head."""

    mean_D: F64
    std_D: F64
    weight_D: F64
    """Weights of standardised features."""
    intercept: float
    penalty: float

    def logit(self, feature_ND: NDArray[np.floating]) -> F64:
        """Log-odds of destroyed."""
        z_ND = (np.asarray(feature_ND, np.float64) - self.mean_D) / self.std_D
        logit_N: F64 = self.intercept + z_ND @ self.weight_D
        return logit_N


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """Labelled buildings."""

    feature_ND: NDArray[np.float32]
    destroyed_N: NDArray[np.bool_]
    block_N: NDArray[np.int64]
    """Block of ground that each building lies on."""
    trusted: int = 0
    """Number of leading features that are log-odds of the model that is adapted."""

    def __len__(self) -> int:
        return len(self.destroyed_N)

    def some(self, chosen: NDArray[np.generic]) -> "Examples":
        """Some of the buildings, by mask or index."""
        return Examples(
            feature_ND=self.feature_ND[chosen],
            destroyed_N=self.destroyed_N[chosen],
            block_N=self.block_N[chosen],
            trusted=self.trusted,
        )


def fit_head(examples: Examples, penalty: float | None = None) -> Head:
    """Fits a head; the penalty is chosen on left-out blocks if None is given."""
    if penalty is None:
        penalty, _ = choose_penalty(examples)
    return _fit(examples, (penalty,))[0]


def choose_penalty(examples: Examples) -> tuple[float, F64]:
    """The largest penalty whose log-loss on left-out blocks is that of the best, within an error.

    The error is the standard error of the mean difference to the best (one-standard-error rule of
    Breiman et al. 1984). A few labels therefore leave the old model's order as it is.

    Returns:
        The penalty, and the left-out log-odds of each building at it.
    """
    logit_KN = np.zeros((len(PENALTIES), len(examples)))
    for held_N in folds(examples.block_N, examples.destroyed_N, FOLDS):
        feature_ND = examples.feature_ND[held_N]
        heads = _fit(examples.some(~held_N), PENALTIES)
        logit_KN[:, held_N] = [head.logit(feature_ND) for head in heads]
    loss_KN = losses(logit_KN, examples.destroyed_N)
    worse_KN = loss_KN - loss_KN[loss_KN.mean(axis=1).argmin()]
    error_K = worse_KN.std(axis=1) / np.sqrt(worse_KN.shape[1])
    near_K = worse_KN.mean(axis=1) <= error_K
    chosen = int(np.flatnonzero(near_K)[-1])  # penalties grow
    return PENALTIES[chosen], logit_KN[chosen]


def left_out_logits(examples: Examples) -> F64:
    """Log-odds of each building from a head that saw nothing of its block.

    The penalty of each of those heads is chosen on the buildings that it saw.
    """
    logit_N = np.zeros(len(examples))
    for held_N in folds(examples.block_N, examples.destroyed_N, FOLDS):
        head = fit_head(examples.some(~held_N))
        held = examples.some(held_N)
        logit_N[held_N] = head.logit(held.feature_ND)
    return logit_N


def folds(
    block_N: NDArray[np.int64], destroyed_N: NDArray[np.bool_], number: int
) -> list[NDArray[np.bool_]]:
    """Parts of whole blocks; each part has about as many buildings of either state.

    Blocks are dealt largest first, to the part that lacks most of what the block has. A part
    without a building is left out, so that few blocks give few parts.
    """
    names, place_N = np.unique(block_N, return_inverse=True)
    count_G2 = np.stack(
        [
            np.bincount(place_N, weights=w, minlength=len(names))
            for w in (destroyed_N, ~destroyed_N)
        ],
        axis=1,
    )
    share_G2 = count_G2 / np.maximum(count_G2.sum(axis=0), 1)
    order = np.lexsort((names, -share_G2.sum(axis=1)))
    part_G = np.zeros(len(names), np.int64)
    held_K2 = np.zeros((number, 2))
    for block in order:
        after_K = ((held_K2 + share_G2[block]) ** 2).sum(axis=1) - (held_K2**2).sum(axis=1)
        part_G[block] = int(np.argmin(after_K))
        held_K2[part_G[block]] += share_G2[block]
    masks = [part_G[place_N] == part for part in range(number)]
    return [mask for mask in masks if mask.any()]


def losses(logit_N: F64, destroyed_N: NDArray[np.bool_]) -> F64:
    """Log-loss of each building, in nats; other axes may come first."""
    loss_N: F64 = np.logaddexp(0.0, np.where(destroyed_N, -logit_N, logit_N))
    return loss_N


def _fit(examples: Examples, penalties: Sequence[float]) -> list[Head]:
    """Heads of several penalties. The features are turned once, to their main directions."""
    feature_ND = np.asarray(examples.feature_ND, np.float64)
    mean_D, std_D = feature_ND.mean(axis=0), feature_ND.std(axis=0)
    std_D = np.where(std_D > 1e-6, std_D, 1.0)
    z_ND, trusted = (feature_ND - mean_D) / std_D, examples.trusted
    left_NK, size_K, right_KD = np.linalg.svd(z_ND[:, trusted:], full_matrices=False)
    kept = np.flatnonzero(size_K > 1e-6 * max(float(size_K.max(initial=0.0)), 1e-12))[:DIRECTIONS]
    turned_NK, right_KD = (left_NK * size_K)[:, kept], right_KD[kept]
    ones_N1 = np.ones((len(examples), 1))
    design_NK = np.concatenate([ones_N1, z_ND[:, :trusted], turned_NK], axis=1)
    heads, weight_K = {}, np.zeros(design_NK.shape[1])
    for penalty in sorted(penalties, reverse=True):
        ridge_K = np.full(design_NK.shape[1], penalty)
        ridge_K[: 1 + trusted] = TRUSTED_PENALTY
        weight_K = _newton(design_NK, examples.destroyed_N, ridge_K, weight_K)
        others_D = weight_K[1 + trusted :] @ right_KD
        heads[penalty] = Head(
            mean_D=mean_D,
            std_D=std_D,
            weight_D=np.concatenate([weight_K[1 : 1 + trusted], others_D]),
            intercept=float(weight_K[0]),
            penalty=penalty,
        )
    return [heads[penalty] for penalty in penalties]


def _newton(design_NK: F64, destroyed_N: NDArray[np.bool_], ridge_K: F64, start_K: F64) -> F64:
    """Minimises the log-loss plus half the ridge by Newton's method with halved steps."""

    def objective(weight_K: F64) -> float:
        loss = losses(design_NK @ weight_K, destroyed_N).sum()
        return float(loss + 0.5 * (ridge_K * weight_K**2).sum())

    weight_K, value = start_K, objective(start_K)
    for _ in range(STEPS):
        p_N = expit(design_NK @ weight_K)
        slope_K = design_NK.T @ (p_N - destroyed_N) + ridge_K * weight_K
        curve_KK = (design_NK.T * (p_N * (1 - p_N) + 1e-9)) @ design_NK + np.diag(ridge_K)
        step_K = np.linalg.solve(curve_KK, slope_K)
        size = 1.0
        while size > 1e-4 and objective(weight_K - size * step_K) > value:
            size /= 2
        weight_K = weight_K - size * step_K
        before, value = value, objective(weight_K)
        if before - value < 1e-7 * max(abs(before), 1.0):
            break
    return weight_K
