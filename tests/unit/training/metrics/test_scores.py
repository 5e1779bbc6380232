"""Pooled figures of probabilities against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from training.metrics.scores import BINS, ScoreCounts


@pytest.fixture(scope="module")
def pixels() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    truth = random.random((30, 40)) < 0.15
    # Multiples of a bin, so that binning moves nothing.
    p = np.clip(random.normal(0.3 + 0.3 * truth, 0.2), 0, 0.999)
    return np.floor(p * BINS) / BINS, truth


def test_figures_are_those_of_scikit_learn(pixels):
    p, truth = pixels
    counts = ScoreCounts.of(p[:10], truth[:10]) + ScoreCounts.of(p[10:], truth[10:])
    y, score = truth.ravel(), p.ravel()
    for threshold in (0.25, 0.5, 0.61):
        got, found = counts.figures_at(threshold), score >= threshold
        assert got["f1"] == pytest.approx(metrics.f1_score(y, found))
        assert got["precision"] == pytest.approx(metrics.precision_score(y, found))
        assert got["recall"] == pytest.approx(metrics.recall_score(y, found))
        assert got["miou"] == pytest.approx(metrics.jaccard_score(y, found, average="macro"))
    ranking = counts.ranking()
    assert ranking["auc"] == pytest.approx(metrics.roc_auc_score(y, score))
    assert ranking["average_precision"] == pytest.approx(metrics.average_precision_score(y, score))


def test_the_best_threshold_is_the_best_of_the_grid(pixels):
    p, truth = pixels
    counts = ScoreCounts.of(p, truth)
    best = counts.best_threshold()
    grid = [round(0.01 * n, 2) for n in range(1, 100)]
    f1 = [metrics.f1_score(truth.ravel(), p.ravel() >= t) for t in grid]
    assert counts.figures_at(best)["f1"] == pytest.approx(max(f1))


def test_calibration_error_is_zero_where_probabilities_are_right():
    random = np.random.default_rng(5)
    p = random.random(400_000)
    right = ScoreCounts.of(p, random.random(400_000) < p).calibration()
    wrong = ScoreCounts.of(p, random.random(400_000) < p**3).calibration()
    assert right["calibration_error"] < 0.01
    assert wrong["calibration_error"] == pytest.approx(1 / 2 - 1 / 4, abs=0.01)
    assert right["log_loss"] == pytest.approx(0.5, abs=0.01)


def test_one_class_has_no_ranking():
    assert np.isnan(ScoreCounts.of(np.ones(3), np.ones(3)).ranking()["auc"])
