"""The modified focal loss on damage grades, and its class weights."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from quakestream.errors import ConfigError

UNKNOWN = -1
"""Label of a building whose grade is not known."""

Reduction = Literal["official", "mean"]
"""`official`: sum over the batch, divided by the sum of the class weights, as the authors'
published training does; gradients grow with the batch. `mean`: mean over the labelled samples."""


def modified_focal(
    logits_NC: Tensor,
    label_N: Tensor,
    weights_C: Tensor | None = None,
    *,
    gamma: float = 4.0,
    reduction: Reduction = "official",
    ignore: int = UNKNOWN,
) -> Tensor:
    """Weighted cross-entropy that forgives what is nearly right: w (1 - p)^gamma (-log p).

    With `gamma` 0 it is weighted cross-entropy, which the paper compares with.

    Args:
        logits_NC: one row per building.
        label_N: class of each, `ignore` where unknown.
        weights_C: weight of each class; all 1 when not given.
        gamma: how fast the say of well-judged samples fades; 4 in the paper.
        reduction: how samples become one number.
        ignore: the label without a say.
    """
    known_N = label_N != ignore
    weights_C = logits_NC.new_ones(logits_NC.shape[1]) if weights_C is None else weights_C
    weights_C = weights_C.to(logits_NC.device, torch.float32)
    # Masked rather than selected: no shape depends on the data, and no label leaves no gradient.
    class_N = label_N.where(known_N, 0)
    log_p_NC = torch.log_softmax(logits_NC.float(), dim=1)
    log_p_N = log_p_NC.gather(1, class_N[:, None])[:, 0]
    each_N = weights_C[class_N] * (-torch.expm1(log_p_N)) ** gamma * -log_p_N
    total = (each_N * known_N).sum()
    if reduction == "official":
        return total / weights_C.sum()
    return total / known_N.sum().clamp(min=1)


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """N / (K n_c): a class weighs 1 when it is as common as the average one.

    The paper's weights of its four-class data set.

    Raises:
        ConfigError: if a class has no example.
    """
    counts_C = _counts(counts)
    return counts_C.sum() / (len(counts_C) * counts_C)


def inverse_frequency_weights(counts: Sequence[int]) -> Tensor:
    """1 / n_c, scaled to sum 1: the paper's weights of its five-class data set.

    Raises:
        ConfigError: if a class has no example.
    """
    inverse_C = 1 / _counts(counts)
    return inverse_C / inverse_C.sum()


def _counts(counts: Sequence[int]) -> Tensor:
    empty = [i for i, count in enumerate(counts) if count <= 0]
    if empty or not counts:
        raise ConfigError(
            f"class weights: expected examples of every class, got {list(counts)}; "
            "leave the empty classes out or merge them with a neighbour"
        )
    return torch.tensor(counts, dtype=torch.float32)
