"""Losses. Unlabelled ground does not count in any of them.

Without any label, a loss and its gradients are zero. Some losses sum over a batch or divide by its
contents, so the loss of a batch differs from the mean over its halves: `modified_focal` "official",
Dice, IoU and the balanced `damage_loss`. Losses that are means do not differ if both halves hold
equally many labels.
"""

from training.losses.buildings import LossWeights, damage_loss
from training.losses.contrastive import contrastive_loss, pairs_contrast, siamese_contrast
from training.losses.grades import (
    UNKNOWN,
    balanced_weights,
    inverse_frequency_weights,
    modified_focal,
)
from training.losses.pixels import POSITIVE_WEIGHT, bce_loss, dice_loss, iou_loss
from training.losses.slides import CLAY_POSITIVE_WEIGHT, FocalNorm, focal_loss, lovasz_hinge
from training.losses.transfer import (
    Triplets,
    distance_triplet_loss,
    draw_triplets,
    patch_labels,
    prototype_loss,
)
from training.losses.unlabelled import Surrogate, UnlabelledRisk, unlabelled_risk

__all__ = [
    "CLAY_POSITIVE_WEIGHT",
    "POSITIVE_WEIGHT",
    "UNKNOWN",
    "FocalNorm",
    "LossWeights",
    "Surrogate",
    "Triplets",
    "UnlabelledRisk",
    "balanced_weights",
    "bce_loss",
    "contrastive_loss",
    "damage_loss",
    "dice_loss",
    "distance_triplet_loss",
    "draw_triplets",
    "focal_loss",
    "inverse_frequency_weights",
    "iou_loss",
    "lovasz_hinge",
    "modified_focal",
    "pairs_contrast",
    "patch_labels",
    "prototype_loss",
    "siamese_contrast",
    "unlabelled_risk",
]
