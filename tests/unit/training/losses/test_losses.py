"""Losses against hand computations, torch, and the laws they must keep."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from quakestream.errors import ConfigError
from training.losses import (
    UNKNOWN,
    LossWeights,
    UnlabelledRisk,
    balanced_weights,
    bce_loss,
    contrastive_loss,
    damage_loss,
    dice_loss,
    inverse_frequency_weights,
    iou_loss,
    modified_focal,
    pairs_contrast,
    siamese_contrast,
)

seeds = st.integers(0, 2**31)


def sample(seed: int, count: int = 6, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and class weights."""
    g = torch.Generator().manual_seed(seed)
    logits_NC = 3 * torch.randn(count, classes, generator=g)
    label_N = torch.randint(0, classes, (count,), generator=g)
    return logits_NC, label_N, torch.rand(classes, generator=g) + 0.1


@given(seed=seeds)
def test_focal_is_its_formula(seed: int) -> None:
    logits_NC, label_N, weights_C = sample(seed)
    total = 0.0
    for row, y in zip(logits_NC.tolist(), label_N.tolist(), strict=True):
        p = math.exp(row[y]) / sum(math.exp(v) for v in row)
        total += float(weights_C[y]) * (1 - p) ** 4 * -math.log(p)
    official = modified_focal(logits_NC, label_N, weights_C)
    assert official.item() == pytest.approx(total / float(weights_C.sum()), rel=1e-4, abs=1e-6)
    mean = modified_focal(logits_NC, label_N, weights_C, reduction="mean")
    assert mean.item() == pytest.approx(total / 6, rel=1e-4, abs=1e-6)


def test_focal_by_hand() -> None:
    logits_NC = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # p = 3/4 and 1/2
    loss = modified_focal(logits_NC, torch.tensor([0, 1]), torch.tensor([2.0, 6.0]))
    by_hand = (2 * 0.25**4 * math.log(4 / 3) + 6 * 0.5**4 * math.log(2)) / 8
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)


@given(seed=seeds)
def test_focal_without_focus_is_cross_entropy(seed: int) -> None:
    logits_NC, label_N, weights_C = sample(seed)
    label_N[0] = UNKNOWN
    expected = nn.functional.cross_entropy(
        logits_NC, label_N, weights_C, ignore_index=UNKNOWN, reduction="sum"
    )
    mean = modified_focal(logits_NC, label_N, weights_C, gamma=0, reduction="mean")
    torch.testing.assert_close(mean, expected / 5)


def test_official_focal_grows_with_the_batch_and_the_mean_does_not() -> None:
    logits_NC, label_N, weights_C = sample(1)
    twice = logits_NC.repeat(2, 1), label_N.repeat(2), weights_C
    once = logits_NC, label_N, weights_C
    torch.testing.assert_close(modified_focal(*twice), 2 * modified_focal(*once))
    torch.testing.assert_close(
        modified_focal(*twice, reduction="mean"), modified_focal(*once, reduction="mean")
    )


def test_focal_stands_extreme_logits() -> None:
    logits_NC = torch.tensor([[100.0, -100.0], [-100.0, 100.0]], requires_grad=True)
    loss = modified_focal(logits_NC, torch.tensor([0, 0]), reduction="mean")
    loss.backward()
    assert loss.item() == pytest.approx(100)
    assert logits_NC.grad is not None
    assert logits_NC.grad.isfinite().all()


# Every loss as a function of logits of eight samples and of which of them are known.
_LABELS = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])


def _focal(logits: Tensor, known: Tensor) -> Tensor:
    return modified_focal(logits, _LABELS.where(known, UNKNOWN), reduction="mean")


def _focal_official(logits: Tensor, known: Tensor) -> Tensor:
    return modified_focal(logits, _LABELS.where(known, UNKNOWN))


def _siamese(points: Tensor, known: Tensor) -> Tensor:
    return siamese_contrast(points[:, :1], points[:, 1:], _LABELS.where(known, UNKNOWN))


def _pairs(points: Tensor, known: Tensor) -> Tensor:
    second = _LABELS.roll(1).where(known, UNKNOWN)
    return pairs_contrast(points[:, :1], points[:, 1:], _LABELS, second)


def _pixels(loss: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def of(logits: Tensor, known: Tensor) -> Tensor:
        return loss(logits[:, 0], _LABELS, known)

    return of


def _nnpu(logits: Tensor, known: Tensor) -> Tensor:
    owner_N = torch.where(_LABELS == 1, 2, -1).where(known, 0)
    return damage_loss(
        logits[:, :1, None, None], owner_N[:, None, None], LossWeights(), UnlabelledRisk()
    )


def _buildings(logits: Tensor, known: Tensor) -> Tensor:
    owner_N = torch.where(_LABELS == 1, 2, -1).where(known, 0)
    return damage_loss(logits[:, :1, None, None], owner_N[:, None, None], LossWeights())


LOSSES = {
    "focal": _focal,
    "focal official": _focal_official,
    "siamese": _siamese,
    "pairs": _pairs,
    "bce": _pixels(bce_loss),
    "dice": _pixels(dice_loss),
    "iou": _pixels(iou_loss),
    "buildings": _buildings,
    "nnpu": _nnpu,
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("unknown", [[], [2], [0, 3, 5], list(range(8))])
def test_what_is_unknown_has_no_say(name: str, unknown: list[int]) -> None:
    torch.manual_seed(0)
    logits = torch.randn(8, 2, requires_grad=True)
    known = torch.ones(8, dtype=torch.bool)
    known[unknown] = False
    loss = LOSSES[name](logits, known)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert not logits.grad[~known].any()
    assert logits.grad[known].any() == bool(known.any())
    with torch.no_grad():
        changed = logits.clone()
        changed[~known] = 7.0
        torch.testing.assert_close(LOSSES[name](changed, known), loss.detach())
    if not known.any():
        assert loss.item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_reduced_precision_gives_the_same_loss(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(8, 2).bfloat16()
    known = torch.ones(8, dtype=torch.bool)
    loss = LOSSES[name](logits, known)
    torch.testing.assert_close(loss.float(), LOSSES[name](logits.float(), known))
    assert loss.dtype == torch.float32


def test_class_weights_are_the_published_ones() -> None:
    # Shares of the two data sets in the paper, per mille, as counts.
    of_l = balanced_weights([735, 198, 26, 43])
    assert of_l.tolist() == pytest.approx([0.34, 1.26, 9.8, 5.85], rel=0.02)
    of_s = inverse_frequency_weights([703, 222, 9, 55, 11])
    published = [0.0064, 0.0202, 0.4884, 0.0822, 0.4028]
    assert of_s.tolist() == pytest.approx(published, rel=0.03)
    assert sum(of_s.tolist()) == pytest.approx(1)


@given(counts=st.lists(st.integers(1, 10**6), min_size=1, max_size=6))
def test_balanced_weights_give_every_class_the_same_say(counts: list[int]) -> None:
    says = balanced_weights(counts).double().numpy() * np.array(counts)
    np.testing.assert_allclose(says, sum(counts) / len(counts), rtol=1e-5)
    ratio = inverse_frequency_weights(counts) / balanced_weights(counts)
    torch.testing.assert_close(ratio, ratio[:1].expand(len(counts)))


@pytest.mark.parametrize("counts", [[3, 0, 2], []])
def test_a_class_without_example_has_no_weight(counts: list[int]) -> None:
    for weights in (balanced_weights, inverse_frequency_weights):
        with pytest.raises(ConfigError, match="expected examples of every class"):
            weights(counts)


def test_pixel_losses_by_hand() -> None:
    logits = torch.logit(torch.tensor([0.9, 0.2, 0.6]))
    changed = torch.tensor([True, False, True])
    both, p, y = 0.9 + 0.6, 0.9 + 0.2 + 0.6, 2.0
    assert dice_loss(logits, changed).item() == pytest.approx(1 - (2 * both + 1) / (p + y + 1))
    assert iou_loss(logits, changed).item() == pytest.approx(1 - (both + 1) / (p + y - both + 1))
    each = -(16.2578 * math.log(0.9) + math.log(0.8) + 16.2578 * math.log(0.6)) / 3
    assert bce_loss(logits, changed).item() == pytest.approx(each, rel=1e-5)
    one = bce_loss(logits, changed, positive_weight=1)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, changed.float())
    torch.testing.assert_close(one, expected)


@given(seed=seeds)
def test_overlap_losses_agree_on_what_is_better(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    changed = torch.rand(2, 1, 4, 4, generator=g) < 0.4
    logits = torch.randn(2, 1, 4, 4, generator=g)
    better = logits + changed - 0.5
    for loss in (dice_loss, iou_loss, bce_loss):
        assert loss(better, changed) < loss(logits, changed)
    dice, iou = (f(logits, changed, smooth=0).item() for f in (dice_loss, iou_loss))
    if changed.any():
        assert 1 - dice == pytest.approx(2 * (1 - iou) / (2 - iou), abs=1e-4)  # F1 from IoU


def test_contrast_by_hand() -> None:
    a, b = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[1.0, 0], [0.6, 0.8], [0.0, 1.0]])
    d = [0.0, 0.8, 2.0]
    for i, squared in enumerate(d):
        one = slice(i, i + 1)
        alike = contrastive_loss(a[one], b[one], torch.tensor([False]))
        assert alike.item() == pytest.approx(squared, abs=1e-6)
        differing = contrastive_loss(a[one], b[one], torch.tensor([True]))
        assert differing.item() == pytest.approx(max(0.0, 1 - squared) ** 2, abs=1e-6)
    mixed = contrastive_loss(a, b, torch.tensor([True, False, True]), margin=3.0)
    assert mixed.item() == pytest.approx((9 + 0.8 + 1) / 3)


def test_contrast_is_symmetric_and_pairs_differ_when_one_is_damaged() -> None:
    torch.manual_seed(0)
    a, b = nn.functional.normalize(torch.randn(2, 4, 5), dim=2)
    first, second = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    pairs = pairs_contrast(a, b, first, second)
    torch.testing.assert_close(pairs, pairs_contrast(b, a, second, first))
    torch.testing.assert_close(pairs, siamese_contrast(a, b, torch.tensor([0, 1, 1, 0])))
