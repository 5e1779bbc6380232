"""Metrics against scikit-learn, with ties and lopsided classes."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as oracle

from quakestream.reduce import metrics

_QUICK = settings(max_examples=60, deadline=None)
_SCORES = st.one_of(
    st.integers(0, 4).map(lambda v: v / 4),  # many ties
    st.floats(0, 1, allow_nan=False, width=32),
)


@st.composite
def judged(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 60))
    truth = draw(hnp.arrays(bool, n))
    return truth, draw(hnp.arrays(np.float64, n, elements=_SCORES))


@_QUICK
@given(judged())
def test_auc_and_average_precision_are_those_of_scikit_learn(case):
    truth, score = case
    assume(truth.any() and not truth.all())
    assert metrics.roc_auc(truth, score) == pytest.approx(oracle.roc_auc_score(truth, score))
    expected = oracle.average_precision_score(truth, score)
    assert metrics.average_precision(truth, score) == pytest.approx(expected)


@_QUICK
@given(judged())
def test_auc_is_symmetric_and_knows_order_only(case):
    truth, score = case
    auc = metrics.roc_auc(truth, score)
    assert metrics.roc_auc(truth, 8 * score) == pytest.approx(auc, nan_ok=True)
    assert metrics.roc_auc(~truth, score) == pytest.approx(1 - auc, nan_ok=True)
    assert math.isnan(auc) == (truth.all() or not truth.any())


@_QUICK
@given(judged())
def test_brier_is_that_of_scikit_learn(case):
    truth, score = case
    expected = oracle.brier_score_loss(truth, score, pos_label=True)
    assert metrics.brier(truth, score) == pytest.approx(expected)


@_QUICK
@given(judged(), st.integers(1, 20))
def test_calibration_error_is_the_binned_gap(case, bins):
    truth, score = case
    expected = 0.0
    for b in range(bins):
        last = b == bins - 1
        inside = (np.floor(score * bins) == b) | (last & (np.floor(score * bins) >= bins))
        if inside.any():
            expected += inside.mean() * abs(score[inside].mean() - truth[inside].mean())
    assert metrics.calibration_error(truth, score, bins) == pytest.approx(expected, abs=1e-12)


@_QUICK
@given(
    st.integers(2, 5).flatmap(
        lambda k: st.tuples(
            st.just(k),
            st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1),
        )
    )
)
def test_class_scores_are_those_of_scikit_learn(case):
    classes, pairs = case
    truth, verdict = np.array(pairs).T
    counts = metrics.confusion(truth, verdict, classes)
    assert (counts == oracle.confusion_matrix(truth, verdict, labels=range(classes))).all()
    p, r, f, n = oracle.precision_recall_fscore_support(
        truth, verdict, labels=range(classes), zero_division=np.nan
    )
    for k, score in enumerate(metrics.class_scores(counts)):
        assert score.support == n[k]
        assert score.precision == pytest.approx(p[k], nan_ok=True)
        assert score.recall == pytest.approx(r[k], nan_ok=True)
        assert score.f1 == pytest.approx(f[k], nan_ok=True)
    present = sorted(set(truth) | set(verdict))
    expected = oracle.f1_score(truth, verdict, labels=present, average="macro", zero_division=0)
    assert metrics.macro_f1(counts) == pytest.approx(expected)


@_QUICK
@given(judged(), st.integers(0, 3))
def test_bootstrap_repeats_itself_and_brackets_a_mean(case, seed):
    truth, score = case

    def mean(_: np.ndarray, s: np.ndarray) -> float:
        return float(s.mean())

    first = metrics.bootstrap(mean, truth, score, resamples=40, seed=seed)
    assert metrics.bootstrap(mean, truth, score, resamples=40, seed=seed) == first or len(truth) < 2
    if len(truth) >= 2:
        assert score.min() - 1e-9 <= first.low <= first.high <= score.max() + 1e-9
