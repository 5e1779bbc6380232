"""Figures against scikit-learn, and laws of the intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from quakestream.errors import ShapeError
from training.metrics import (
    STATISTICS,
    PixelCounts,
    batch_mean,
    block_interval,
    blocks_of,
    class_figures,
    classwise_error,
    confusion_distance,
    difference,
    pooled,
    prior_weights_of,
    seed_interval,
    statistic,
    top_label_error,
)

Items = tuple[NDArray[np.float64], NDArray[np.int64]]


@st.composite
def items(draw: st.DrawFn, most: int = 60) -> Items:
    """Probabilities with many ties, and labels of which some classes may be absent."""
    count, classes = draw(st.integers(2, most)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Not halves: two equal largest probabilities would leave the declared class to chance.
    counts_NC = rng.integers(1, 6, (count, classes)) + 0.01 * rng.permuted(
        np.tile(np.arange(classes), (count, 1)), axis=1
    )
    return counts_NC / counts_NC.sum(axis=1, keepdims=True), rng.integers(0, classes, count)


@given(case=items())
def test_counts_of_verdicts_are_those_of_scikit_learn(case: Items) -> None:
    p_NC, label_N = case
    declared_N = p_NC.argmax(axis=1)
    got = class_figures(p_NC, label_N)
    macro = oracle.precision_recall_fscore_support(
        label_N, declared_N, average="macro", zero_division=0
    )
    assert got.accuracy == pytest.approx(oracle.accuracy_score(label_N, declared_N))
    assert (got.macro_precision, got.macro_recall, got.macro_f1) == pytest.approx(macro[:3])
    matrix = oracle.confusion_matrix(label_N, declared_N, labels=range(p_NC.shape[1]))
    np.testing.assert_array_equal(got.confusion, matrix)
    assert got.log_loss == pytest.approx(
        oracle.log_loss(label_N, p_NC, labels=range(p_NC.shape[1]))
    )
    assert sum(got.distance) == pytest.approx(1.0)
    assert got.distance[0] == pytest.approx(got.accuracy)
    assert sum(d * share for d, share in enumerate(got.distance)) == pytest.approx(
        oracle.mean_absolute_error(label_N, declared_N)
    )


@given(case=items())
def test_areas_are_those_of_scikit_learn(case: Items) -> None:
    p_NC, label_N = case
    got = class_figures(p_NC, label_N, minimum=1)
    areas = []
    for c, area in enumerate(got.auc):
        if 0 < (label_N == c).sum() < len(label_N):
            areas.append(oracle.roc_auc_score(label_N == c, p_NC[:, c]))
            assert area == pytest.approx(areas[-1])
        else:
            assert np.isnan(area)
    if len(areas) == p_NC.shape[1] > 2:
        macro = oracle.roc_auc_score(label_N, p_NC, multi_class="ovr", average="macro")
        assert got.macro_auc == pytest.approx(macro)
    assert got.macro_auc == pytest.approx(np.mean(areas) if areas else np.nan, nan_ok=True)


@settings(max_examples=40)
@given(case=items(most=200), seed=st.integers(0, 1000))
def test_weights_count_items_several_times(case: Items, seed: int) -> None:
    """A weight of three is three copies: what lets a bootstrap sort once."""
    p_NC, label_N = case
    times_N = np.random.default_rng(seed).integers(0, 4, len(label_N))
    copies = np.repeat(np.arange(len(label_N)), times_N)
    for name in set(STATISTICS) - {"macro_auc"}:
        weighted = statistic(name, p_NC, label_N)(times_N.astype(float))
        copied = statistic(name, p_NC[copies], label_N[copies])(np.ones(len(copies)))
        assert weighted == pytest.approx(copied, nan_ok=True)
    counts_C = np.bincount(label_N, minlength=p_NC.shape[1])
    known = [c for c, n in enumerate(counts_C) if min(n, len(label_N) - n) >= 10]
    if known and len(copies) and all(len(set(label_N[copies] == c)) == 2 for c in known):
        expected = np.mean(
            [oracle.roc_auc_score(label_N == c, p_NC[:, c], sample_weight=times_N) for c in known]
        )
        got = statistic("macro_auc", p_NC, label_N)(times_N.astype(float))
        assert got == pytest.approx(expected)


def test_no_area_is_given_of_fewer_than_ten() -> None:
    rng = np.random.default_rng(0)
    label_N = np.array([0] * 40 + [1] * 10 + [2] * 9)
    p_NC = rng.dirichlet(np.ones(3), len(label_N))
    got = class_figures(p_NC, label_N)
    assert np.isnan(got.auc[2])
    assert not np.isnan(got.auc[:2]).any()
    assert got.macro_auc == pytest.approx(np.mean(got.auc[:2]))


@given(count=st.integers(2, 80), classes=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
def test_calibration_error_is_that_of_the_curve(count: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p_NC = rng.dirichlet(np.full(classes, 0.7), count)
    label_N = rng.integers(0, classes, count)
    edges = np.linspace(0, 1, 16)
    errors = []
    for c in range(p_NC.shape[1]):
        true_B, said_B = calibration_curve(label_N == c, p_NC[:, c], n_bins=15)
        share_B = np.histogram(p_NC[:, c], edges)[0]
        errors.append(np.sum(np.abs(true_B - said_B) * share_B[share_B > 0]) / len(label_N))
    assert classwise_error(p_NC, label_N) == pytest.approx(np.mean(errors), abs=1e-9)


def test_calibration_error_by_hand() -> None:
    p_NC = np.array([[0.9, 0.1]] * 10 + [[0.3, 0.7]] * 10)
    label_N = np.array([0] * 9 + [1] + [1] * 4 + [0] * 6)
    assert top_label_error(p_NC, label_N) == pytest.approx((0.0 + 0.3) / 2)
    assert classwise_error(p_NC, label_N) == pytest.approx(0.15)


def test_distances_of_a_matrix_by_hand() -> None:
    assert confusion_distance(np.array([[6, 1, 0], [1, 0, 0], [2, 0, 0]])) == pytest.approx(
        (0.6, 0.2, 0.2)
    )


@given(
    masks=st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.floats(0, 1)).map(
            lambda s: np.random.default_rng(s[0]).random((3, 5, 4)) < s[1]
        ),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 99),
)
def test_pixel_figures_are_those_of_scikit_learn(masks: list[NDArray[np.bool_]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = [rng.random(m.shape) < 0.3 for m in masks]
    known = [rng.random(m.shape) < 0.8 for m in masks]
    counts = [PixelCounts.of(*each) for each in zip(masks, truth, known, strict=True)]
    a = np.concatenate([t[k] for t, k in zip(truth, known, strict=True)])
    b = np.concatenate([m[k] for m, k in zip(masks, known, strict=True)])
    got = pooled(counts)
    if (a | b).any():
        assert got["f1"] == pytest.approx(oracle.f1_score(a, b, zero_division=0))
        assert got["iou"] == pytest.approx(oracle.jaccard_score(a, b))
        assert got["iou"] == pytest.approx(got["f1"] / (2 - got["f1"]))
    assert got["accuracy"] == pytest.approx(oracle.accuracy_score(a, b), nan_ok=True)
    means = [
        oracle.f1_score(t[k], m[k], zero_division=0)
        for t, m, k in zip(truth, masks, known, strict=True)
    ]
    assert batch_mean(counts)["f1"] == pytest.approx(np.mean(means))


def test_a_batch_without_damage_counts_as_a_failure_in_the_batch_mean_alone() -> None:
    empty, right = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    counts = [PixelCounts.of(right, right), PixelCounts.of(empty, empty)]
    assert pooled(counts)["f1"] == 1.0
    assert batch_mean(counts)["f1"] == 0.5


def test_blocks_widen_an_interval() -> None:
    """Twenty copies of a building are one observation, and the interval has to know it."""
    rng = np.random.default_rng(0)
    label_K = rng.integers(0, 2, 60)
    p_K = np.clip(rng.normal(0.4 + 0.2 * label_K, 0.25), 0.01, 0.99)
    label_N, p_N = np.repeat(label_K, 20), np.repeat(p_K, 20)
    figure = statistic("macro_auc", np.stack([1 - p_N, p_N], axis=1), label_N)
    alone = block_interval(figure, np.arange(len(label_N)), draws=300)
    blocks = block_interval(figure, np.repeat(np.arange(60), 20), draws=300)
    assert alone.value == blocks.value
    assert alone.low <= alone.value <= alone.high
    assert blocks.high - blocks.low > 3 * (alone.high - alone.low)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = []
    for trial in range(120):
        right_BK = rng.random((30, 1)) < 0.7
        right_N = np.repeat(right_BK, 5)
        p_NC = np.where(right_N[:, None], [0.1, 0.9], [0.9, 0.1])
        figure = statistic("accuracy", p_NC, np.ones(len(right_N), int))
        found = block_interval(figure, np.repeat(np.arange(30), 5), draws=200, seed=trial)
        covered.append(found.low <= 0.7 <= found.high)
    assert 0.87 <= np.mean(covered) <= 1.0


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    rng = np.random.default_rng(2)
    block_N = np.repeat(np.arange(40), 10)
    hard_N = np.repeat(rng.random(40), 10)
    label_N = rng.integers(0, 2, 400)

    def scores(noise: float) -> NDArray[np.float64]:
        p_N = np.clip(0.5 + (label_N - 0.5) * (1 - hard_N) + noise * rng.normal(size=400), 0, 1)
        return np.stack([1 - p_N, p_N], axis=1)

    good, bad = (statistic("accuracy", scores(noise), label_N) for noise in (0.20, 0.30))
    apart = block_interval(difference(good, bad), block_N)
    first, second = block_interval(good, block_N), block_interval(bad, block_N)
    assert apart.value == pytest.approx(first.value - second.value)
    assert apart.low > 0
    assert second.high > first.low
    assert block_interval(difference(good, good), block_N).high == 0.0


def test_intervals_are_repeatable_and_unknown_with_one_block() -> None:
    p_NC, label_N = np.array([[0.2, 0.8]] * 30), np.ones(30, int)
    figure = statistic("accuracy", p_NC, label_N)
    one = block_interval(figure, np.zeros(30))
    assert one.value == 1.0
    assert np.isnan(one.low)
    block_N = np.arange(30) // 3
    assert block_interval(figure, block_N, seed=5) == block_interval(figure, block_N, seed=5)


def test_mean_over_seeds_by_the_table() -> None:
    """Two-sided 95 % of Student's t with two degrees of freedom is 4.303."""
    found = seed_interval([0.80, 0.82, 0.84])
    assert found.value == pytest.approx(0.82)
    assert found.high - found.value == pytest.approx(4.303 * 0.02 / np.sqrt(3), rel=1e-3)
    assert np.isnan(seed_interval([0.8]).low)


def test_blocks_are_squares_and_zones_do_not_share_them() -> None:
    x_N, y_N = np.array([0.0, 149.0, 151.0, 0.0, -1.0]), np.array([0.0, 149.0, 0.0, 151.0, 0.0])
    block_N = blocks_of(x_N, y_N, side_m=150)
    assert block_N[0] == block_N[1]
    assert len(set(block_N)) == 4
    two = blocks_of(x_N[:2], y_N[:2], side_m=150, group_N=np.array([32636, 32637]))
    assert two[0] != two[1]


@pytest.mark.parametrize(
    ("p_NC", "label_N", "words"),
    [
        (np.ones((3, 2)), [0, 1], "expected"),
        (np.ones((2, 2)), [0, 2], "got 0 to 2"),
        (np.array([[np.nan, 1.0]]), [0], "no score"),
    ],
)
def test_items_that_do_not_fit_are_refused(
    p_NC: NDArray[np.float64], label_N: list[int], words: str
) -> None:
    with pytest.raises(ShapeError, match=words):
        class_figures(p_NC, label_N)


@given(case=items(), seed=st.integers(0, 999))
def test_a_prior_is_what_its_weights_make_of_the_items(case: Items, seed: int) -> None:
    p_NC, label_N = case
    prior_C = np.random.default_rng(seed).dirichlet(np.ones(p_NC.shape[1])) + 0.01
    prior_C /= prior_C.sum()
    weight_N = prior_weights_of(label_N, prior_C)
    shares = np.bincount(label_N, weights=weight_N, minlength=len(prior_C)) / weight_N.sum()
    present = np.unique(label_N)
    np.testing.assert_allclose(shares[present], prior_C[present] / prior_C[present].sum())
    assert weight_N.mean() == pytest.approx(1.0)
    same = prior_weights_of(label_N, np.bincount(label_N, minlength=len(prior_C)))
    assert classwise_error(p_NC, label_N, weight_N=same) == pytest.approx(
        classwise_error(p_NC, label_N)
    )
