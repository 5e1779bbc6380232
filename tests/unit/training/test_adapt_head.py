"""The head against scikit-learn, and its folds of whole blocks."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from quakestream.reduce.metrics import roc_auc
from training.adapt.head import (
    TRUSTED_PENALTY,
    Examples,
    fit_head,
    folds,
    left_out_logits,
)


def examples(count: int = 200, features: int = 30, signal: float = 1.0, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    destroyed_N = rng.random(count) < 0.3
    feature_ND = rng.normal(size=(count, features))
    feature_ND[:, 0] += destroyed_N  # the old model
    feature_ND[:, 1:4] += signal * destroyed_N[:, None]
    return Examples(
        feature_ND=feature_ND.astype(np.float32),
        destroyed_N=destroyed_N,
        block_N=rng.integers(0, 40, count),
        trusted=1,
    )


@pytest.mark.parametrize(("count", "features"), [(200, 30), (80, 150)])
def test_it_is_ridge_logistic_regression(count: int, features: int) -> None:
    given = examples(count, features)
    head = fit_head(given, penalty=30.0)
    z_ND = (given.feature_ND - head.mean_D) / head.std_D
    # A column that is k times as long is penalised by 1 / k² as much.
    light_N2 = np.stack([np.ones(len(given)), z_ND[:, 0]], axis=1)
    design_ND = np.concatenate([z_ND[:, 1:], light_N2 * (30.0 / TRUSTED_PENALTY) ** 0.5], axis=1)
    oracle = LogisticRegression(C=1 / 30.0, fit_intercept=False, tol=1e-10, max_iter=10_000)
    oracle.fit(design_ND, given.destroyed_N)
    np.testing.assert_allclose(
        head.logit(given.feature_ND), oracle.decision_function(design_ND), atol=1e-3
    )


def test_labels_that_say_nothing_new_leave_the_old_order() -> None:
    given = examples(signal=0.0)
    gain = roc_auc(given.destroyed_N, left_out_logits(given)) - roc_auc(
        given.destroyed_N, given.feature_ND[:, 0]
    )
    assert abs(gain) < 0.05


def test_labels_that_say_much_are_used() -> None:
    given = examples(signal=1.5)
    assert roc_auc(given.destroyed_N, left_out_logits(given)) > 0.9
    assert roc_auc(given.destroyed_N, given.feature_ND[:, 0]) < 0.85


def test_folds_hold_whole_blocks_and_both_states() -> None:
    given = examples()
    parts = folds(given.block_N, given.destroyed_N, 5)
    assert (np.sum(parts, axis=0) == 1).all()
    assert all(not set(given.block_N[m]) & set(given.block_N[~m]) for m in parts)
    assert all(0.1 < given.destroyed_N[m].mean() < 0.6 for m in parts)
    assert len(folds(np.array([0, 0, 1]), np.array([True, False, True]), 5)) == 2
