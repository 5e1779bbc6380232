"""Multipliers of a head, labels to check, coresets: against conditions that must hold."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from quakestream.errors import ShapeError
from training.support import TrainedHead, check_first, coreset, head_support, residuals
from training.support.distil import DistilSettings, GivenHead, distil, primal, stationarity
from training.support.head import against, together


def blobs(
    count: int = 400, features: int = 6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, LogisticRegression]:
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    feature_ND = rng.normal(size=(count, features))
    feature_ND[:, 0] += 2.0 * label - 1.0
    head = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000).fit(feature_ND, label)
    return feature_ND, label, head


def test_the_items_explain_a_head_that_was_trained_on_them() -> None:
    feature_ND, label, head = blobs()
    weight_DK, bias_K = head.coef_.T, head.intercept_
    gap_NK = residuals(feature_ND, label, weight_DK, bias_K)
    assert np.allclose(together(feature_ND, gap_NK, np.full(400, 0.1)), weight_DK, atol=1e-6)
    full = head_support(feature_ND, label, weight_DK, bias_K, sparsity=0.0)
    assert full.residual < 0.001
    sparse = head_support(feature_ND, label, weight_DK, bias_K)
    assert sparse.residual < 0.1
    assert (sparse.multiplier_N >= 0).all()
    assert 0 < (sparse.multiplier_N > 0).sum() < 200
    right = head.predict(feature_ND) == label
    foreign = head_support(feature_ND[right], 1 - label[right], weight_DK, bias_K)
    assert foreign.residual > 0.99  # labels that all pull the other way explain nothing


def test_the_support_lies_nearer_to_the_boundary_than_its_class() -> None:
    feature_ND, label, head = blobs()
    found = head_support(feature_ND, label, head.coef_.T, head.intercept_)
    distance_N = np.abs(head.decision_function(feature_ND))
    for c in (0, 1):
        own = (label == c) & (found.multiplier_N > 0)
        right = own & (head.predict(feature_ND) == label)
        assert distance_N[right].mean() < distance_N[label == c].mean()


def test_the_slope_equals_that_of_torch() -> None:
    rng = np.random.default_rng(1)
    feature_ND, weight_DK = rng.normal(size=(9, 4)), rng.normal(size=(4, 3))
    label, multiplier = rng.integers(0, 3, 9), rng.random(9)
    gap_NK = residuals(feature_ND, label, weight_DK, np.zeros(3))
    weight = torch.tensor(weight_DK, requires_grad=True)
    logits = torch.tensor(feature_ND) @ weight
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(label), reduction="none")
    (losses * torch.tensor(multiplier)).sum().backward()
    assert weight.grad is not None
    assert together(feature_ND, gap_NK, multiplier) == pytest.approx(-weight.grad.numpy())
    one = together(feature_ND[4:5], gap_NK[4:5], np.ones(1))
    assert against(feature_ND, gap_NK, weight_DK)[4] == pytest.approx((one * weight_DK).sum())


def head_of(feature_ND: np.ndarray, label: np.ndarray, *, balanced: bool) -> TrainedHead:
    weight = "balanced" if balanced else None
    head = LogisticRegression(C=0.1, class_weight=weight).fit(feature_ND, label)
    frequency = np.bincount(label) / len(label)
    return TrainedHead(
        item_N=np.array([f"b{i}" for i in range(len(label))]),
        feature_ND=feature_ND,
        class_N=label,
        weight_DK=head.coef_.T,
        bias_K=head.intercept_,
        class_weight_C=0.5 / frequency if balanced else None,
    )


@pytest.mark.parametrize("balanced", [False, True])
def test_a_wrong_label_is_the_first_to_check_with_its_reason(balanced: bool) -> None:
    feature_ND, label, _ = blobs(200)
    keep = (label == 0) | (np.arange(200) % 8 == 1)
    feature_ND, wrong = feature_ND[keep], label[keep].copy()
    sure = int(np.argmin(feature_ND[:, 0]))
    wrong[sure] = 1
    first = check_first(head_of(feature_ND, wrong, balanced=balanced))[0]
    assert first.item == f"b{sure}"
    assert first.label == "destroyed"
    assert first.probability < 0.05
    assert first.share > 0.01
    assert first.reason.startswith("The head gives destroyed only")
    by_support = check_first(head_of(feature_ND, wrong, balanced=balanced), order="support")
    assert sum(c.share for c in by_support) == pytest.approx(1.0)
    assert by_support[0].item != first.item  # the head withstands it, and does not rest on it


def test_probabilities_of_other_heads_are_taken_where_given() -> None:
    feature_ND, label, _ = blobs(40)
    told = head_of(feature_ND, label, balanced=False)
    apart = np.full((40, 2), 0.5)
    apart[7] = [0.9, 0.1] if label[7] else [0.1, 0.9]
    other = TrainedHead(
        item_N=told.item_N,
        feature_ND=feature_ND,
        class_N=label,
        weight_DK=told.weight_DK,
        bias_K=told.bias_K,
        apart_NC=apart,
    )
    first = check_first(other)[0]
    assert (first.item, first.probability) == ("b7", pytest.approx(0.1))
    assert first.reason.startswith("A head that did not see this label")


def test_a_head_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="does not fit"):
        residuals(np.zeros((3, 2)), np.array([0, 1, 2]), np.zeros((2, 1)), np.zeros(1))
    with pytest.raises(ShapeError, match="does not fit"):
        TrainedHead(
            item_N=np.array(["a"]),
            feature_ND=np.zeros((2, 3)),
            class_N=np.array([0, 1]),
            weight_DK=np.zeros((3, 1)),
            bias_K=np.zeros(1),
        )


def test_a_coreset_has_the_best_of_each_class() -> None:
    score = np.array([5.0, 4, 3, 2, 1, 9])
    assert coreset(score, np.array([0, 0, 0, 1, 1, 1]), 2).tolist() == [0, 1, 3, 5]


def test_conditions_of_a_head_on_made_items() -> None:
    head = GivenHead(weight_DK=torch.eye(2), bias_K=torch.zeros(2))
    right = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    labels = torch.tensor([0, 1])
    assert primal(head, right, labels).item() == 0.0
    assert primal(head, right, labels.flip(0)).item() == pytest.approx(2.0 + np.log1p(np.exp(-2)))
    none = stationarity(head, right, labels, torch.zeros(2), "l1")
    assert none.item() == pytest.approx(2 / 6)  # the mean of |W| with a level of two zeros
    pull = 2.0 * expit(-2.0)
    some = stationarity(head, right, labels, torch.full((2,), 1.0), "l2")
    assert some.item() == pytest.approx((2 * (1 - pull) ** 2 + 2 * pull**2) / 6)
    lonely = stationarity(head, right, labels, torch.tensor([1.0, 0.0]), "l2")
    assert lonely.item() == pytest.approx(((1 - pull) ** 2 + pull**2 + 1 + 2 * pull**2) / 6)


def test_made_items_train_a_head_that_does_its_work() -> None:
    feature_ND, label, head = blobs(300)
    how = DistilSettings(per_class=3, steps=60)
    made = distil(feature_ND[:20], label[:20], head.coef_.T, head.intercept_, how)
    assert set(made.class_N) == {0, 1}
    assert len(made.feature_ND) == len(made.class_N) <= 6  # negative multipliers are removed
    assert (made.multiplier_N >= 0).all()
    again = distil(feature_ND[:20], label[:20], head.coef_.T, head.intercept_, how)
    assert np.array_equal(made.feature_ND, again.feature_ND)
    learnt = LogisticRegression(C=1.0).fit(made.feature_ND, made.class_N)
    assert learnt.score(feature_ND[100:], label[100:]) > head.score(feature_ND, label) - 0.1
