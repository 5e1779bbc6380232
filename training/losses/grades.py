"""The modified focal loss on damage grades, and its class weights."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from quakestream.errors import ConfigError

UNKNOWN = -1
"""Label of a building whose grade is not known."""

Reduction = Literal["official", "mean"]
"""`official` divides the sum over the batch by the sum of the class weights, as the authors'
published training does, so gradients grow with the batch. `mean` is the mean over the labelled
samples."""


def modified_focal(
    logits_NC: Tensor,
    label_N: Tensor,
    weights_C: Tensor | None = None,
    *,
    gamma: float = 4.0,
    reduction: Reduction = "official",
    ignore: int = UNKNOWN,
) -> Tensor:
    """Weighted cross-entropy that discounts samples that are nearly right.

    A sample has the loss w (1 - p)^gamma (-log p). With `gamma` 0 it is weighted cross-entropy,
    which the paper compares with.

    Args:
        logits_NC: one row per building.
        label_N: class of each building, `ignore` where unknown.
        weights_C: weight of each class; None means 1 for all.
        gamma: how fast the weight of well-classified samples fades; 4 in the paper.
        reduction: how samples become one number.
        ignore: the label that does not count.
    """
    known_N = label_N != ignore
    weights_C = logits_NC.new_ones(logits_NC.shape[1]) if weights_C is None else weights_C
    weights_C = weights_C.to(logits_NC.device, torch.float32)
    # Masking, unlike selecting, keeps shapes independent of the data, and gives gradients of 0
    # if there is no label.
    class_N = label_N.where(known_N, 0)
    log_p_NC = torch.log_softmax(logits_NC.float(), dim=1)
    log_p_N = log_p_NC.gather(1, class_N[:, None])[:, 0]
    each_N = weights_C[class_N] * (-torch.expm1(log_p_N)) ** gamma * -log_p_N
    total = (each_N * known_N).sum()
    if reduction == "official":
        return total / weights_C.sum()
    return total / known_N.sum().clamp(min=1)


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """Weights N / (K n_c), which are 1 for a class of average size.

    The paper uses them for its four-class data set.

    Raises:
        ConfigError: if a class has no example.
    """
    counts_C = _counts(counts)
    return counts_C.sum() / (len(counts_C) * counts_C)


def inverse_frequency_weights(counts: Sequence[int]) -> Tensor:
    """Weights 1 / n_c, scaled to sum to 1. The paper uses them for its five-class data set.

    Raises:
        ConfigError: if a class has no example.
    """
    inverse_C = 1 / _counts(counts)
    return inverse_C / inverse_C.sum()


def _counts(counts: Sequence[int]) -> Tensor:
    empty = [i for i, count in enumerate(counts) if count <= 0]
    if empty or not counts:
        raise ConfigError(
            "a class has no example",
            "class weights",
            expected="examples of every class",
            got=f"counts {list(counts)}",
            remedy="leave empty classes out, or merge them with a neighbour",
        )
    return torch.tensor(counts, dtype=torch.float32)
