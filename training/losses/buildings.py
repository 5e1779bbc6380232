"""The loss on buildings inside image chips. Unlabelled ground does not count."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from training.losses.unlabelled import UnlabelledRisk, unlabelled_risk


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weights of the terms of the loss."""

    pixel: float = 0.5
    """Weight of the cross-entropy per pixel."""
    building: float = 0.5
    """Weight of the cross-entropy of a building's mean probability, which decides the verdict."""
    smoothing: float = 0.05
    """Label smoothing, because some labels are wrong."""


def damage_loss(
    logits_N1YX: Tensor,
    owner_NYX: Tensor,
    weights: LossWeights,
    unlabelled: UnlabelledRisk | None = None,
) -> Tensor:
    """Cross-entropy, balanced over the two states, so that it assumes a prior of one half.

    Args:
        logits_N1YX: logits of "destroyed".
        owner_NYX: building per pixel as in `RawChips`: the sign is the state, 0 is unknown.
        weights: weights of the terms.
        unlabelled: take buildings of negative sign for unlabelled, not for intact.
    """
    known = owner_NYX != 0
    logit_P, owner_P = logits_N1YX[:, 0][known].float(), owner_NYX[known]
    if not len(logit_P):
        return logits_N1YX.sum() * 0.0
    risk = partial(unlabelled_risk, how=unlabelled) if unlabelled else _balanced
    pixel = risk(logit_P, owner_P > 0, smoothing=weights.smoothing)
    logit_K, destroyed_K = _building_logits(logit_P, owner_P, known)
    building = risk(logit_K, destroyed_K, smoothing=weights.smoothing)
    return weights.pixel * pixel + weights.building * building


def _building_logits(logit_P: Tensor, owner_P: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Logit of the mean probability of each building in each chip, and its state."""
    chip_P = known.nonzero()[:, 0]
    span = int(owner_P.abs().max()) + 1
    key_P = (chip_P * 2 * span) + owner_P + span
    keys, place_P = torch.unique(key_P, return_inverse=True)
    count_K = torch.bincount(place_P, minlength=len(keys))
    p_K = logit_P.new_zeros(len(keys)).index_add(0, place_P, torch.sigmoid(logit_P)) / count_K
    logit_K = torch.logit(p_K.clamp(1e-4, 1 - 1e-4))
    return logit_K, keys % (2 * span) > span


def _balanced(logit_P: Tensor, destroyed_P: Tensor, *, smoothing: float) -> Tensor:
    """Mean cross-entropy of each state, averaged over the states that occur."""
    target_P = destroyed_P.float() * (1 - smoothing) + smoothing / 2
    each_P = nn.functional.binary_cross_entropy_with_logits(logit_P, target_P, reduction="none")
    states = [each_P[mask].mean() for mask in (destroyed_P, ~destroyed_P) if mask.any()]
    return torch.stack(states).mean()
