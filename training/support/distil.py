"""A few made-up items that stand for a labelled set: matched means, and the head's own conditions.

DeepKKT (arXiv:2405.00348) adds, to the distance between the distributions of real and made-up
items, how far made-up items are from being the support of a head that is given. Only part of the
data need be at hand. Made here for frozen features; the published form makes images.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Distance = Literal["l1", "l2"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GivenHead:
    """A linear head with an output per class."""

    weight_DK: Tensor
    bias_K: Tensor

    def __call__(self, feature_ND: Tensor) -> Tensor:
        return feature_ND @ self.weight_DK + self.bias_K


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilSettings:
    """How items are made."""

    per_class: int = 10
    kkt: float = 30.0
    """Weight of the head's conditions; 0 matches distributions alone."""
    primal: float = 1.0
    """Weight of the cross-entropy of items that the head takes for another class."""
    distance: Distance = "l1"
    steps: int = 300
    lr: float = 0.02
    views: int = 64
    """Random directions in which means are compared, drawn anew in every step."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MadeItems:
    """Items that stand for a labelled set."""

    feature_ND: NDArray[np.float32]
    class_N: NDArray[np.int64]
    multiplier_N: NDArray[np.float32]
    """How much each item counts; the same for all without the head's conditions."""


def stationarity(
    head: GivenHead, feature_ND: Tensor, class_N: Tensor, multiplier_N: Tensor, distance: Distance
) -> Tensor:
    """Distance between the weights and the weighted sum of the items' gradients, per weight.

    The gradient of cross-entropy by the weights is h (p - y)^T, so nothing is differentiated twice.
    The pulls on the biases, which do not decay, must cancel: a feature that is the same for all
    items, with weights of 0.
    """
    onehot_NK = nn.functional.one_hot(class_N, head.weight_DK.shape[1]).to(feature_ND.dtype)
    gap_NK = torch.softmax(head(feature_ND), dim=1) - onehot_NK
    level = feature_ND.detach().norm(dim=1).mean().item()
    level_ND = nn.functional.pad(feature_ND, (0, 1), value=level)
    target_DK = nn.functional.pad(head.weight_DK, (0, 0, 0, 1))
    left_DK = target_DK + level_ND.T @ (multiplier_N[:, None] * gap_NK)
    return left_DK.abs().mean() if distance == "l1" else (left_DK**2).mean()


def primal(head: GivenHead, feature_ND: Tensor, class_N: Tensor) -> Tensor:
    """Cross-entropy of the items that are taken for another class; 0 where all are right."""
    logit_NK = head(feature_ND)
    wrong_N = logit_NK.argmax(dim=1) != class_N
    entropy_N = nn.functional.cross_entropy(logit_NK, class_N, reduction="none")
    return (entropy_N * wrong_N).mean()


def distil(
    feature_ND: NDArray[np.floating],
    class_N: NDArray[np.integer],
    weight_DK: NDArray[np.floating],
    bias_K: NDArray[np.floating],
    settings: DistilSettings | None = None,
) -> MadeItems:
    """Made-up items, started from real ones.

    Items whose multiplier falls below 0 are removed, as in the paper.

    Args:
        feature_ND: the real items that are at hand, maybe few.
        class_N: their classes.
        weight_DK: weights of a head that was trained on all items; one output is widened to two.
        bias_K: its biases.
        settings: how.
    """
    how = settings or DistilSettings()
    generator = torch.Generator().manual_seed(how.seed)
    real_ND = torch.as_tensor(np.asarray(feature_ND), dtype=torch.float32)
    label_N = torch.as_tensor(np.asarray(class_N), dtype=torch.int64)
    head = _head(weight_DK, bias_K)
    start = torch.cat([_some(label_N, c, how.per_class, generator) for c in torch.unique(label_N)])
    made_ND = real_ND[start].clone().requires_grad_()
    made_N = label_N[start]
    multiplier_N = torch.full((len(start),), 1.0 / len(start)).requires_grad_()
    optimiser = torch.optim.Adam([made_ND, multiplier_N], lr=how.lr)
    for _ in range(how.steps):
        kept_N = (multiplier_N.detach() >= 0).float()
        optimiser.zero_grad()
        loss = _mean_gap(real_ND, label_N, made_ND, made_N, how.views, generator)
        if how.kkt > 0:
            own = stationarity(head, made_ND, made_N, multiplier_N * kept_N, how.distance)
            loss = loss + how.kkt * (own + how.primal * primal(head, made_ND, made_N))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    kept = (multiplier_N.detach() >= 0) if how.kkt > 0 else torch.ones(len(start), dtype=torch.bool)
    return MadeItems(
        feature_ND=made_ND.detach()[kept].numpy(),
        class_N=made_N[kept].numpy(),
        multiplier_N=multiplier_N.detach()[kept].numpy(),
    )


def _head(weight_DK: NDArray[np.floating], bias_K: NDArray[np.floating]) -> GivenHead:
    weight = torch.as_tensor(np.asarray(weight_DK), dtype=torch.float32)
    bias = torch.as_tensor(np.asarray(bias_K), dtype=torch.float32)
    if weight.shape[1] == 1:  # a logit against 0 is two logits of half its size
        weight, bias = torch.cat([-weight, weight], dim=1) / 2, torch.cat([-bias, bias]) / 2
    return GivenHead(weight_DK=weight, bias_K=bias)


def _some(label_N: Tensor, label: Tensor, count: int, generator: torch.Generator) -> Tensor:
    place = torch.nonzero(label_N == label)[:, 0]
    return place[torch.randperm(len(place), generator=generator)[:count]]


def _mean_gap(
    real_ND: Tensor,
    label_N: Tensor,
    made_ND: Tensor,
    made_N: Tensor,
    views: int,
    generator: torch.Generator,
) -> Tensor:
    """Squared distance of class means behind a random layer (distribution matching)."""
    scale = real_ND.shape[1] ** -0.5
    view_DK = scale * torch.randn(real_ND.shape[1], views, generator=generator)
    total = torch.zeros(())
    for label in torch.unique(label_N):
        seen = torch.relu(real_ND[label_N == label] @ view_DK).mean(dim=0)
        own = torch.relu(made_ND[made_N == label] @ view_DK).mean(dim=0)
        total = total + ((seen - own) ** 2).mean()
    return total
