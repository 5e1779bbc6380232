"""Multipliers of the labelled items of a linear head.

A head that was trained with weight decay is a sum of its items' gradients: with features h,
probabilities p and one-hot labels y, W = - sum_i lambda_i h_i (p_i - y_i)^T with lambda >= 0, and
0 = sum_i lambda_i (p_i - y_i) for the biases, which do not decay. The same lambda for all items
always solves this, so a sparse solution is looked for: items with large multipliers are the
support of the head. A wrong label that the head withstands pulls against it and gets none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from quakestream.errors import ShapeError

F64 = NDArray[np.float64]
SPARSITY = 0.05
"""Weight of the sum of multipliers, as a share of the weight from which all of them are 0."""
ROUNDS = 500
TOLERANCE = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeadSupport:
    """How a head rests on its labelled items."""

    multiplier_N: F64
    """0 or more; 0 where the head does without the item."""
    pull_N: F64
    """Length of what the item adds to the weights: multiplier · |p - y| · |h|."""
    residual: float
    """What the items leave unexplained: |W + sum| / |W|. Near 1 the multipliers mean nothing."""


def residuals(
    feature_ND: NDArray[np.floating],
    class_N: NDArray[np.integer],
    weight_DK: NDArray[np.floating],
    bias_K: NDArray[np.floating],
) -> F64:
    """Probabilities minus one-hot labels, (N, K): the gradient of cross-entropy by the logits.

    One output is the logit of class 1 of two; several outputs go through a softmax.

    Raises:
        ShapeError: if features, labels and head do not fit together.
    """
    outputs = weight_DK.shape[-1]
    fits = feature_ND.ndim == weight_DK.ndim == 2 and feature_ND.shape[1] == len(weight_DK)
    known = len(class_N) == len(feature_ND) and bias_K.shape == (outputs,)
    classes = max(outputs, 2)
    if not (fits and known and len(class_N) and 0 <= class_N.min() <= class_N.max() < classes):
        raise ShapeError(
            "head does not fit the labelled items",
            "labels",
            expected=f"an item per label, classes from 0 to {classes - 1}, a weight per feature",
            got=f"features {feature_ND.shape}, labels {class_N.shape}, weights {weight_DK.shape}",
        )
    logit_NK = np.asarray(feature_ND @ weight_DK + bias_K, np.float64)
    if outputs == 1:
        gap_NK: F64 = expit(logit_NK) - np.asarray(class_N, np.float64)[:, None]
        return gap_NK
    gap_NK = softmax(logit_NK, axis=1)
    gap_NK[np.arange(len(class_N)), class_N] -= 1.0
    return gap_NK


def head_support(
    feature_ND: NDArray[np.floating],
    class_N: NDArray[np.integer],
    weight_DK: NDArray[np.floating],
    bias_K: NDArray[np.floating],
    *,
    sparsity: float = SPARSITY,
    rounds: int = ROUNDS,
) -> HeadSupport:
    """Sparse multipliers under which the items add up to the head.

    Accelerated projected gradient (FISTA) on |W + sum|² + weight · sum of multipliers. Each round
    is two products with the features; no table of pairs of items is made. The pulls on the biases
    must cancel.

    Args:
        feature_ND: features as the head takes them.
        class_N: labels that the head was trained with, wrong ones too.
        weight_DK: weights of the head.
        bias_K: biases.
        sparsity: 0 explains the head as well as can be; near 1 hardly any item is kept.
        rounds: most rounds.
    """
    gap_NK = residuals(feature_ND, class_N, weight_DK, bias_K)
    length_N = np.linalg.norm(feature_ND, axis=1) * np.linalg.norm(gap_NK, axis=1)
    # One more feature, the same for all items, whose weights are 0: the pulls on the biases.
    level = np.sqrt((np.asarray(feature_ND, np.float64) ** 2).sum(axis=1).mean())
    feature = np.pad(np.asarray(feature_ND, np.float64), ((0, 0), (0, 1)), constant_values=level)
    target_DK = np.pad(np.asarray(weight_DK, np.float64), ((0, 1), (0, 0)))
    toward_N = against(feature, gap_NK, target_DK)
    penalty = sparsity * max(float(toward_N.max()), 0.0)
    step = 1.0 / max(_largest(feature, gap_NK), 1e-300)
    multiplier_N = momentum_N = np.zeros(len(feature))
    speed = 1.0
    for _ in range(rounds):
        slope_N = against(feature, gap_NK, together(feature, gap_NK, momentum_N)) - toward_N
        new_N = np.maximum(momentum_N - step * (slope_N + penalty), 0.0)
        change_N = new_N - multiplier_N
        if momentum_N @ change_N - new_N @ change_N > 0:  # a restart keeps it from swinging
            speed = 1.0
        faster = (1.0 + np.sqrt(1.0 + 4.0 * speed**2)) / 2.0
        momentum_N = new_N + (speed - 1.0) / faster * change_N
        multiplier_N, speed = new_N, faster
        if np.linalg.norm(change_N) <= TOLERANCE * max(float(np.linalg.norm(new_N)), 1e-300):
            break
    left_DK = target_DK - together(feature, gap_NK, multiplier_N)
    scale = max(float(np.linalg.norm(target_DK)), 1e-300)
    return HeadSupport(
        multiplier_N=multiplier_N,
        pull_N=multiplier_N * length_N,
        residual=float(np.linalg.norm(left_DK)) / scale,
    )


def together(feature_ND: F64, gap_NK: F64, multiplier_N: F64) -> F64:
    """The weights (D, K) that the items add up to; a sum, so parts of the items may be added."""
    total_DK: F64 = -feature_ND.T @ (multiplier_N[:, None] * gap_NK)
    return total_DK


def against(feature_ND: F64, gap_NK: F64, weight_DK: F64) -> F64:
    """Product of each item's own addition with given weights, (N,)."""
    product_N: F64 = -((feature_ND @ weight_DK) * gap_NK).sum(axis=1)
    return product_N


def coreset(
    score_N: NDArray[np.floating], class_N: NDArray[np.integer], per_class: int
) -> NDArray[np.int64]:
    """Places of the `per_class` items of each class with the highest scores, ascending."""
    chosen = []
    for label in np.unique(class_N):
        place = np.flatnonzero(class_N == label)
        best = np.argsort(-score_N[place], kind="stable")[:per_class]
        chosen.append(place[best])
    return np.sort(np.concatenate(chosen))


def _largest(feature_ND: F64, gap_NK: F64) -> float:
    """Upper estimate of the largest curvature, by power iteration."""
    vector_N, value = np.ones(len(feature_ND)) / np.sqrt(len(feature_ND)), 0.0
    for _ in range(30):
        vector_N = against(feature_ND, gap_NK, together(feature_ND, gap_NK, vector_N))
        value = float(np.linalg.norm(vector_N))
        if value == 0.0:
            return 0.0
        vector_N = vector_N / value
    return 1.05 * value
