"""Losses on maps of landslides, one logit per pixel (Clay and Prithvi studies on Landslide4Sense).

Logits, truth and `known` have the shape (N, y, x). `known` is True where the truth can be
trusted; None means everywhere.

Focal losses of the studies differ in what the sum over pixels is divided by, so each
normalisation has its own name: see `FocalNorm`.
"""

from typing import Literal

import torch
from torch import Tensor, nn

FocalNorm = Literal["mean", "factors", "weights"]
"""What the sum of a focal loss is divided by. `mean`: the number of pixels (Smart Transfer with
alpha 0.70; the Clay study's alternative with alpha 0.75). `factors`: the sum of the focal factors
(Prithvi). `weights`: the sum of the two class weights (QuakeMetaFormer), so that the loss grows
with the batch."""
CLAY_POSITIVE_WEIGHT = 25.0
"""Weight of a landslide pixel in the Clay study's cross-entropy."""


def lovasz_hinge(logits_NYX: Tensor, truth_NYX: Tensor, known_NYX: Tensor | None = None) -> Tensor:
    """Lovász extension of 1 - IoU on hinge errors, per image, averaged (Berman et al. 2018).

    An image without landslides is charged its worst false alarm.
    """
    logit_NP = logits_NYX.float().flatten(1)
    truth_NP = truth_NYX.flatten(1).float()
    error_NP = 1.0 - logit_NP * (2.0 * truth_NP - 1.0)
    if known_NYX is not None:
        # Unknown pixels go to the end, where their hinge is 0, and count as neither class.
        known_NP = known_NYX.flatten(1)
        error_NP = error_NP.masked_fill(~known_NP, -torch.inf)
        truth_NP = truth_NP * known_NP
    sorted_NP, order_NP = error_NP.sort(dim=1, descending=True)
    hit_NP = truth_NP.gather(1, order_NP)
    all_N1 = hit_NP.sum(dim=1, keepdim=True)
    intersection_NP = all_N1 - hit_NP.cumsum(dim=1)
    union_NP = all_N1 + (1.0 - hit_NP).cumsum(dim=1)
    loss_NP = 1.0 - intersection_NP / union_NP
    gradient_NP = torch.cat([loss_NP[:, :1], loss_NP[:, 1:] - loss_NP[:, :-1]], dim=1)
    return (torch.relu(sorted_NP) * gradient_NP).sum(dim=1).mean()


def focal_loss(
    logits_NYX: Tensor,
    truth_NYX: Tensor,
    known_NYX: Tensor | None = None,
    *,
    alpha: float = 0.5,
    gamma: float = 2.0,
    norm: FocalNorm = "mean",
) -> Tensor:
    """Cross-entropy that discounts pixels that are nearly right, w (1 - p)^gamma (-log p).

    p is the probability of the true class. w is `alpha` on landslides and 1 - `alpha` elsewhere;
    the published form with `factors` has no weights, which is `alpha` 0.5 here: then w is 1.
    """
    truth = truth_NYX.float()
    logits = logits_NYX.float()
    entropy_NYX = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    factor_NYX = (-torch.expm1(-entropy_NYX)) ** gamma
    if norm == "factors" and alpha == 0.5:
        weight_NYX = torch.ones_like(truth)
    else:
        weight_NYX = alpha * truth + (1.0 - alpha) * (1.0 - truth)
    known = torch.ones_like(truth) if known_NYX is None else known_NYX.float()
    total = (weight_NYX * factor_NYX * entropy_NYX * known).sum()
    if norm == "factors":
        return total / (factor_NYX * known).sum().clamp(min=1e-8)
    # Two class weights alpha and 1 - alpha have the sum 1.
    return total if norm == "weights" else total / known.sum().clamp(min=1)
