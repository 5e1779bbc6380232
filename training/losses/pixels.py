"""Losses on maps of "changed", one logit per pixel (EPFL study on Kahramanmaraş 2023).

Each loss is computed over the whole batch at once. `known` is True where the label can be trusted;
None means everywhere. Logits, targets and `known` have the same shape.
"""

import torch
from torch import Tensor, nn

POSITIVE_WEIGHT = 16.2578
"""Weight of a changed pixel in the study's cross-entropy."""


def bce_loss(
    logits: Tensor,
    changed: Tensor,
    known: Tensor | None = None,
    *,
    positive_weight: float = POSITIVE_WEIGHT,
) -> Tensor:
    """Mean cross-entropy over known pixels; changed pixels have weight `positive_weight`."""
    each = nn.functional.binary_cross_entropy_with_logits(
        logits.float(),
        changed.float(),
        reduction="none",
        pos_weight=torch.tensor(positive_weight, device=logits.device),
    )
    if known is None:
        return each.mean()
    return (each * known).sum() / known.sum().clamp(min=1)


def dice_loss(
    logits: Tensor, changed: Tensor, known: Tensor | None = None, *, smooth: float = 1.0
) -> Tensor:
    """1 - (2 Σpy + s) / (Σp + Σy + s), with p the probability of change."""
    p, y = _masked(logits, changed, known)
    return 1 - (2 * (p * y).sum() + smooth) / (p.sum() + y.sum() + smooth)


def iou_loss(
    logits: Tensor, changed: Tensor, known: Tensor | None = None, *, smooth: float = 1.0
) -> Tensor:
    """1 - (Σpy + s) / (Σp + Σy - Σpy + s), with p the probability of change."""
    p, y = _masked(logits, changed, known)
    both = (p * y).sum()
    return 1 - (both + smooth) / (p.sum() + y.sum() - both + smooth)


def _masked(logits: Tensor, changed: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """Probability and target, both 0 where unknown, so that they do not add to any sum."""
    p, y = torch.sigmoid(logits.float()), changed.float()
    return (p, y) if known is None else (p * known, y * known)
