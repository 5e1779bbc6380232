"""What metrics say where the data say nothing, and what the bootstrap resamples."""

import math

import numpy as np
import pytest

from quakestream.errors import ShapeError
from quakestream.reduce import metrics


def test_one_class_gives_nan_not_a_figure():
    assert math.isnan(metrics.roc_auc([True, True], [0.1, 0.9]))
    assert math.isnan(metrics.average_precision([False], [0.1]))
    nothing = metrics.binary_scores([False, False], [False, False])
    assert math.isnan(nothing.precision)
    assert math.isnan(nothing.recall)
    assert math.isnan(nothing.f1)
    for metric in (metrics.roc_auc, metrics.average_precision, metrics.brier):
        assert math.isnan(metric([], []))


def test_a_constant_score_is_worth_one_half():
    assert metrics.roc_auc([True, False, False], [0.3, 0.3, 0.3]) == 0.5


def test_nan_scores_and_foreign_classes_are_refused():
    with pytest.raises(ShapeError, match="1 of 2 scores are nan"):
        metrics.roc_auc([True, False], [0.1, float("nan")])
    with pytest.raises(ShapeError, match="expected two lists of one length"):
        metrics.roc_auc([True], [0.1, 0.2])
    with pytest.raises(ShapeError, match=r"expected 0\.\.1"):
        metrics.confusion([0, 2], [0, 1], 2)


def test_groups_widen_the_interval_when_neighbours_agree():
    rng = np.random.default_rng(3)
    street = np.repeat(np.arange(12), 25)
    truth = rng.random(street.size) < 0.5
    score = truth + rng.normal(0, 1, street.size) + rng.normal(0, 2, 12)[street]
    alone = metrics.bootstrap(metrics.roc_auc, truth, score, resamples=400)
    blocks = metrics.bootstrap(metrics.roc_auc, truth, score, street, resamples=400)
    assert alone.value == blocks.value == metrics.roc_auc(truth, score)
    assert alone.low < alone.value < alone.high
    assert blocks.high - blocks.low != pytest.approx(alone.high - alone.low, rel=0.05)


def test_groups_are_drawn_whole():
    seen = set()

    def sizes(truth: np.ndarray, score: np.ndarray) -> float:
        counts = np.unique(score, return_counts=True)
        for name, n in zip(*counts, strict=True):
            seen.add((float(name), int(n) % 4))
        return 0.0

    metrics.bootstrap(sizes, [True] * 12, np.repeat([0.0, 1.0, 2.0], 4), np.repeat(list("abc"), 4))
    assert {rest for _, rest in seen} == {0}


def test_too_few_usable_resamples_give_no_interval():
    truth, score = [True, False, False], [0.9, 0.1, 0.2]

    def only_without_repeats(_: np.ndarray, drawn: np.ndarray) -> float:
        return 1.0 if len(set(drawn)) == 3 else float("nan")  # 6 of 27 resamples

    got = metrics.bootstrap(only_without_repeats, truth, score)
    assert got.value == 1.0
    assert math.isnan(got.low)
    assert math.isnan(got.high)
    one_group = metrics.bootstrap(metrics.roc_auc, truth, score, ["a", "a", "a"])
    assert one_group.value == 1.0
    assert math.isnan(one_group.low)


def test_a_figure_of_sums_has_the_interval_of_the_same_figure_of_items():
    rng = np.random.default_rng(5)
    truth, declared, street = rng.random(60) < 0.4, rng.random(60) < 0.5, rng.integers(0, 9, 60)

    def precision(truth_N: np.ndarray, declared_N: np.ndarray) -> float:
        return metrics.binary_scores(truth_N, declared_N > 0.5).precision

    items = metrics.bootstrap(precision, truth, declared, street, resamples=200, seed=3)
    parts = np.column_stack([truth & declared, declared])
    sums = metrics.bootstrap_of_sums(lambda s: s[0] / s[1], parts, street, resamples=200, seed=3)
    assert (sums.value, sums.low, sums.high) == pytest.approx((items.value, items.low, items.high))
    lone = metrics.bootstrap_of_sums(lambda s: s[0] / s[1], parts, np.zeros(60))
    assert math.isnan(lone.low)
