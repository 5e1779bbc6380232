"""Losses on landslide maps against slow references and closed forms."""

import numpy as np
import pytest
import torch

from training.losses import bce_loss, focal_loss, lovasz_hinge


def slow_lovasz(logits: np.ndarray, truth: np.ndarray) -> float:
    """The Lovász extension of 1 - IoU by its definition, one image."""
    error = 1 - logits * (2 * truth - 1)
    order = np.argsort(-error, kind="stable")
    previous, total = 0.0, 0.0
    for count in range(1, len(order) + 1):
        wrong = np.zeros(len(order), bool)
        wrong[order[:count]] = True
        # IoU when exactly these pixels are wrong.
        found = truth.astype(bool) ^ wrong
        union = (found | truth.astype(bool)).sum()
        loss = 1 - (found & truth.astype(bool)).sum() / union if union else 0.0
        total += max(error[order[count - 1]], 0.0) * (loss - previous)
        previous = loss
    return total


def test_lovasz_is_its_definition_and_averages_images():
    random = np.random.default_rng(1)
    logits = random.normal(size=(3, 4, 5)).astype(np.float32)
    truth = (random.random((3, 4, 5)) < 0.3).astype(np.float32)
    expected = np.mean(
        [slow_lovasz(a.ravel(), b.ravel()) for a, b in zip(logits, truth, strict=True)]
    )
    got = lovasz_hinge(torch.from_numpy(logits), torch.from_numpy(truth))
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_lovasz_of_right_signs_is_one_minus_iou_at_hinge_two():
    # All logits are 1 with the right or the wrong sign: errors are 0 or 2.
    truth = torch.tensor([[[1.0, 1, 1, 0, 0, 0]]])
    found = torch.tensor([[[1.0, 1, 0, 1, 0, 0]]])
    loss = lovasz_hinge(2 * found - 1, truth)
    assert float(loss) == pytest.approx(2 * (1 - 2 / 4))
    assert float(lovasz_hinge(2 * truth - 1, truth)) == 0


def test_unknown_pixels_do_not_count():
    random = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 6, 6, generator=random)
    truth = (torch.rand(2, 6, 6, generator=random) < 0.4).float()
    known = torch.ones(2, 6, 6, dtype=torch.bool)
    known[:, :2] = False
    for loss in (lovasz_hinge, focal_loss):
        part = loss(logits[:, 2:], truth[:, 2:])
        assert float(loss(logits, truth, known)) == pytest.approx(float(part), rel=1e-6)


def test_focal_in_three_normalisations():
    logits = torch.tensor([[[2.0, -1.0, 0.5, -3.0]]])
    truth = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    p = torch.sigmoid(logits)
    right = torch.where(truth > 0, p, 1 - p).double().numpy().ravel()
    weight = np.array([0.75, 0.75, 0.25, 0.25])
    factor, entropy = (1 - right) ** 2, -np.log(right)
    total = (weight * factor * entropy).sum()
    for norm, expected in (
        ("mean", total / 4),
        ("weights", total),
        ("factors", total / factor.sum()),
    ):
        got = focal_loss(logits, truth, alpha=0.75, norm=norm)
        assert float(got) == pytest.approx(expected, rel=1e-5), norm
    plain = focal_loss(logits, truth, norm="factors")
    assert float(plain) == pytest.approx((factor * entropy).sum() / factor.sum(), rel=1e-5)


def test_focal_without_focus_is_half_the_cross_entropy():
    random = torch.Generator().manual_seed(3)
    logits, truth = torch.randn(2, 5, 5, generator=random), torch.ones(2, 5, 5)
    truth[:, 2:] = 0
    assert float(focal_loss(logits, truth, gamma=0.0)) == pytest.approx(
        0.5 * float(bce_loss(logits, truth, positive_weight=1.0)), rel=1e-6
    )


def test_gradients_are_finite_where_all_is_right_or_nothing_is_there():
    for truth in (torch.zeros(1, 4, 4), torch.ones(1, 4, 4)):
        logits = torch.full((1, 4, 4), 40.0).requires_grad_(True)
        total = lovasz_hinge(logits, truth)
        for norm in ("mean", "factors", "weights"):
            total = total + focal_loss(logits, truth, norm=norm)
        total.backward()
        assert torch.isfinite(logits.grad).all()
