"""What networks are trained to make small. Whatever is unlabelled has no say in any of them.

With no label at all a loss is zero and so are its gradients. Losses that sum over a batch, or
divide by what lies in it, differ between one batch and the mean over its halves: `modified_focal`
"official", Dice, IoU and the balanced `damage_loss` do, the means do not when both halves hold
as many labels.
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

__all__ = [
    "POSITIVE_WEIGHT",
    "UNKNOWN",
    "LossWeights",
    "balanced_weights",
    "bce_loss",
    "contrastive_loss",
    "damage_loss",
    "dice_loss",
    "inverse_frequency_weights",
    "iou_loss",
    "modified_focal",
    "pairs_contrast",
    "siamese_contrast",
]
