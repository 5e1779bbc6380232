"""Contrastive losses of pre-training: similar points lie together, others a margin apart.

Points have length 1 (see `training.networks.Embedding`), so squared distances lie in 0..4. Damage
is 1 if it is shown, 0 if not, and `UNKNOWN` if it is not known; pairs with an unknown do not count.
"""

from torch import Tensor

from training.losses.grades import UNKNOWN


def siamese_contrast(
    pre_ND: Tensor, post_ND: Tensor, damage_N: Tensor, *, margin: float = 1.0
) -> Tensor:
    """The loss of Siamese encoders: two dates of a place differ if it was damaged between them."""
    known_N = damage_N != UNKNOWN
    return contrastive_loss(pre_ND, post_ND, damage_N == 1, known_N, margin=margin)


def pairs_contrast(
    first_ND: Tensor,
    second_ND: Tensor,
    first_damage_N: Tensor,
    second_damage_N: Tensor,
    *,
    margin: float = 1.0,
) -> Tensor:
    """The loss of early fusion: two places, with both dates each, differ if one was damaged."""
    known_N = (first_damage_N != UNKNOWN) & (second_damage_N != UNKNOWN)
    differ_N = first_damage_N != second_damage_N
    return contrastive_loss(first_ND, second_ND, differ_N, known_N, margin=margin)


def contrastive_loss(
    first_ND: Tensor,
    second_ND: Tensor,
    differ_N: Tensor,
    known_N: Tensor | None = None,
    *,
    margin: float = 1.0,
) -> Tensor:
    """Mean of d for similar pairs and max(0, margin - d)² for different pairs, d = |a - b|²."""
    d_N = (first_ND.float() - second_ND.float()).square().sum(dim=1)
    apart_N = (margin - d_N).clamp(min=0).square()
    each_N = apart_N.where(differ_N.bool(), d_N)
    if known_N is None:
        return each_N.mean()
    return (each_N * known_N).sum() / known_N.sum().clamp(min=1)
