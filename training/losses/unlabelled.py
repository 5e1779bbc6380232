"""Positive-unlabelled risk: a building without a label may be destroyed all the same.

Kiryo et al. 2017 (arXiv:1703.00593). The weights of the two classes are those of Su et al. 2021
(IJCAI, imbalanced data), so that probabilities assume the same share as the supervised losses.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from quakestream.errors import ConfigError

Surrogate = Literal["logistic", "sigmoid"]
"""Cost of a logit that points the wrong way. `sigmoid`, which the paper trains with, is bounded, so
that a few confident errors cannot outweigh the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlabelledRisk:
    """What is assumed of unlabelled examples.

    Raises:
        ConfigError: if a share does not lie between 0 and 1, or a factor is negative.
    """

    prior: float = 0.05
    """Share of destroyed among the unlabelled. 0 takes all of them for intact."""
    assumed_share: float = 0.5
    """Share of destroyed that the probabilities assume. With `prior` it is the paper's risk."""
    surrogate: Surrogate = "logistic"
    slack: float = 0.0
    """The paper's beta: how far below 0 the risk of intact examples may be estimated."""
    ascent: float = 1.0
    """The paper's gamma: size of the step back when that estimate is too low."""
    vanished_boxes: bool = False
    """Also train on the Türkiye boxes that the detector found before the event alone. Their state
    is not known, so that only `objective=nnpu` can use them."""

    def __post_init__(self) -> None:
        shares = 0 <= self.prior < 1 and 0 < self.assumed_share < 1
        if not shares or min(self.slack, self.ascent) < 0:
            raise ConfigError(
                "impossible positive-unlabelled risk",
                "unlabelled",
                expected="0 <= prior < 1, 0 < assumed_share < 1, and no negative factor",
                got=f"prior {self.prior}, assumed_share {self.assumed_share}, "
                f"slack {self.slack}, ascent {self.ascent}",
            )


def unlabelled_risk(
    logit_P: Tensor, destroyed_P: Tensor, how: UnlabelledRisk, *, smoothing: float = 0.0
) -> Tensor:
    """The non-negative risk of examples that are labelled destroyed, or not labelled.

    The risk of intact examples is estimated as that of unlabelled ones minus what the destroyed
    among them add. An estimate below zero is a sign of memorised examples. Its gradient is then
    followed upwards.

    Args:
        logit_P: logits of "destroyed".
        destroyed_P: True where an example is labelled destroyed, False where it has no label.
        how: what is assumed of the unlabelled ones.
        smoothing: label smoothing.
    """
    yes_P = _cost(logit_P, 1 - smoothing / 2, how.surrogate)
    no_P = _cost(logit_P, smoothing / 2, how.surrogate)
    intact = _mean(no_P, ~destroyed_P) - how.prior * _mean(no_P, destroyed_P)
    weighted = (1 - how.assumed_share) / (1 - how.prior) * intact
    destroyed = how.assumed_share * _mean(yes_P, destroyed_P)
    if intact.detach() >= -how.slack:
        return destroyed + weighted
    # The value is the clipped risk; the gradient leads away from the estimate that is too low.
    floor = destroyed.detach() - (1 - how.assumed_share) / (1 - how.prior) * how.slack
    back = -how.ascent * weighted
    return floor + back - back.detach()


def _cost(logit_P: Tensor, target: float, surrogate: Surrogate) -> Tensor:
    if surrogate == "sigmoid":
        return target * torch.sigmoid(-logit_P) + (1 - target) * torch.sigmoid(logit_P)
    target_P = torch.full_like(logit_P, target)
    return nn.functional.binary_cross_entropy_with_logits(logit_P, target_P, reduction="none")


def _mean(cost_P: Tensor, where_P: Tensor) -> Tensor:
    """Mean of some costs; 0 if there are none."""
    return (cost_P * where_P).sum() / where_P.sum().clamp(min=1)
