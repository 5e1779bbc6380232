"""Figures of adapted models against sums done by hand and scikit-learn."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import precision_recall_curve, roc_auc_score

from quakestream.domain.calibration import Calibration, ScoreShape
from quakestream.fusion.calibration import log_ratio, score_logit
from quakestream.reduce.metrics import roc_auc
from training.adapt.head import Examples
from training.adapt.judging import (
    calibration_of,
    event_share,
    fit_platt,
    judge,
    recall_at_precision,
    score_weights,
    shape_of,
    thresholds_of,
    weighted_auc,
)


def labelled(count: int, signal: float, seed: int = 0) -> tuple[Examples, np.ndarray]:
    """Buildings whose features say `signal`, and the score of a map that says less."""
    rng = np.random.default_rng(seed)
    destroyed_N = rng.random(count) < 0.3
    feature_ND = rng.normal(size=(count, 20)).astype(np.float32)
    feature_ND[:, 0] = rng.normal(size=count) + 0.5 * destroyed_N
    feature_ND[:, 1] += signal * destroyed_N
    block_N = np.arange(count) // 4
    examples = Examples(feature_ND=feature_ND, destroyed_N=destroyed_N, block_N=block_N, trusted=1)
    return examples, expit(feature_ND[:, 0].astype(np.float64))


def test_recall_at_precision_is_that_of_the_curve() -> None:
    rng = np.random.default_rng(3)
    truth_N = rng.random(300) < 0.3
    score_N = np.round(rng.normal(size=300) + 2 * truth_N, 1)  # with ties
    precision, recall, _ = precision_recall_curve(truth_N, score_N)
    expected = recall[:-1][precision[:-1] >= 0.9].max(initial=0.0)
    assert recall_at_precision(truth_N, score_N) == pytest.approx(expected)
    assert recall_at_precision(np.array([False, True]), np.array([0.9, 0.1])) == 0


def test_platt_finds_what_distorted_the_log_odds() -> None:
    rng = np.random.default_rng(0)
    true_N = rng.normal(size=20_000) * 2
    truth_N = rng.random(20_000) < expit(true_N)
    assert fit_platt((true_N - 1) / 2, truth_N) == pytest.approx((2.0, 1.0), abs=0.08)


def test_the_share_of_the_event_survives_a_choice_by_score() -> None:
    rng = np.random.default_rng(0)
    score_N = expit(rng.normal(-2.5, 1.5, 20_000))
    truth_N = rng.random(20_000) < score_N
    by_score = rng.choice(20_000, 800, replace=False, p=score_N / score_N.sum())
    assert truth_N[by_score].mean() > 2 * truth_N.mean()
    share = event_share(truth_N[by_score], score_N[by_score], score_N)
    assert share == pytest.approx(truth_N.mean(), abs=0.03)


def test_weights_undo_a_choice_by_score() -> None:
    rng = np.random.default_rng(1)
    score_N = expit(rng.normal(-1, 2, 20_000))
    truth_N = rng.random(20_000) < score_N
    unsure = np.exp(-20 * np.abs(score_N - 0.5)) + 0.02
    some = rng.choice(20_000, 3000, replace=False, p=unsure / unsure.sum())
    whole = roc_auc(truth_N, score_N)
    assert roc_auc(truth_N[some], score_N[some]) < whole - 0.05
    weight_N = score_weights(score_N[some], score_N)
    assert weighted_auc(truth_N[some], score_N[some], weight_N) == pytest.approx(whole, abs=0.02)
    expected = roc_auc_score(truth_N[some], score_N[some], sample_weight=weight_N)
    assert weighted_auc(truth_N[some], score_N[some], weight_N) == pytest.approx(expected)


def test_a_better_model_is_called_better_and_noise_is_not() -> None:
    examples, old_N = labelled(240, signal=2.0)
    good = judge(examples, old_N)
    assert good.better
    assert good.figures["adapted"]["auc"][0] > good.figures["before"]["auc"][0] + 0.1
    examples, old_N = labelled(240, signal=0.0)
    assert not judge(examples, old_N).better


def test_the_calibration_takes_the_score_as_it_is() -> None:
    examples, old_N = labelled(200, signal=2.0)
    judgement = judge(examples, old_N, old_N)
    one = calibration_of(judgement, "here-2026")
    assert isinstance(one, Calibration)
    score_N = np.array([0.2, 0.7])
    p_N = expit(log_ratio(one, {"score_logit": score_logit(score_N)}) + logit(one.share))
    np.testing.assert_allclose(p_N, score_N)
    assert one.covariance[0][0] > 0
    assert one.covariance[1][1] > 0


def test_the_peaks_of_an_event_are_those_of_its_labels() -> None:
    rng = np.random.default_rng(0)
    truth_N = np.arange(8000) < 2000
    ratio_N = np.where(truth_N, rng.normal(2.5, 1.5, 8000), rng.normal(-1.0, 0.8, 8000))
    shape = shape_of(ratio_N, truth_N)
    assert (shape.intact_at, shape.intact_width) == pytest.approx((-1.0, 0.8), abs=0.1)
    assert (shape.destroyed_at, shape.destroyed_width) == pytest.approx((2.5, 1.5), abs=0.1)
    assert shape_of(-ratio_N, truth_N) == ScoreShape()  # a head that tells nothing


def test_thresholds_keep_their_promises() -> None:
    truth_N = np.array([0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1], bool)
    p_N = np.linspace(0.1, 0.9, 11)
    points = thresholds_of(truth_N, p_N)
    assert points.high_recall <= 0.26 <= points.balanced == 0.5 <= points.high_precision
