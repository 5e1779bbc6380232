"""Monte Carlo dropout of a linear head: class probabilities under several masks of its features."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from quakestream.errors import ShapeError

PASSES = 20
DROPPED = 0.5
"""Share of features that a pass drops, as in the published U-Net's deep blocks."""


def dropout_passes(
    feature_ND: NDArray[np.floating],
    weight_DK: NDArray[np.floating],
    bias_K: NDArray[np.floating],
    *,
    passes: int = PASSES,
    dropped: float = DROPPED,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Class probabilities (T, N, C) of T passes; each pass drops the same features of all items.

    Features that are kept are divided by the share that is kept, so that logits keep their mean.
    Standardise features first: a dropped feature then takes its mean.

    Args:
        feature_ND: what the head takes, after standardising.
        weight_DK: weights; one output is the logit of the second of two classes.
        bias_K: added to the outputs.
        passes: number of masks.
        dropped: share of dropped features, from 0 to below 1.
        seed: of the masks.

    Raises:
        ShapeError: if features, weights and biases do not fit together.
    """
    fits = feature_ND.ndim == weight_DK.ndim == 2 and feature_ND.shape[1] == len(weight_DK)
    if not fits or bias_K.shape != weight_DK.shape[1:]:
        raise ShapeError(
            "head does not fit the features",
            "weights",
            expected=f"({feature_ND.shape[-1]}, outputs), and a bias per output",
            got=f"{weight_DK.shape} and {bias_K.shape}",
        )
    rng = np.random.default_rng(seed)
    kept_TD = (rng.random((passes, len(weight_DK))) >= dropped) / (1.0 - dropped)
    logit_TNK = feature_ND @ (kept_TD[:, :, None] * weight_DK) + bias_K
    if logit_TNK.shape[2] > 1:
        p_TNC: NDArray[np.float64] = softmax(logit_TNK, axis=2)
        return p_TNC
    return np.concatenate([expit(-logit_TNK), expit(logit_TNK)], axis=2)
