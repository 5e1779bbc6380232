"""Scores, choices and ambiguity of active learning, against values that are known."""

import numpy as np
import pytest
from scipy.special import expit

from quakestream.errors import ConfigError, ShapeError
from training.active import (
    METHODS,
    Pool,
    acquire,
    bald,
    boundary_ratio,
    class_distance,
    correlate,
    dropout_passes,
    entropy,
    margin,
    neighbour_disagreement,
    rank,
)


def passes(*rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float64)


def drawn(seed: int = 0, items: int = 60, classes: int = 3, count: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(classes), (count, items))


def pool(items: int = 60) -> Pool:
    rng = np.random.default_rng(1)
    names = np.array([f"b{i}" for i in range(items)])
    return Pool(
        id_N=names, probabilities_TNC=drawn(items=items), feature_ND=rng.normal(size=(items, 5))
    )


def test_scores_have_their_known_values() -> None:
    alternating = passes([[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]])
    assert bald(alternating) == pytest.approx([np.log(2), 0.0])
    assert entropy(alternating) == pytest.approx([np.log(2), np.log(2)])
    assert margin(alternating) == pytest.approx([1.0, 1.0])
    sure = passes([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    assert margin(sure) == pytest.approx([0.5, 0.0])
    assert entropy(sure) == pytest.approx([0.801819, 0.0], abs=1e-6)
    assert bald(sure) == pytest.approx([0.0, 0.0])


def test_scores_stay_in_their_ranges_and_take_a_stream_of_passes() -> None:
    p_TNC = drawn(classes=4)
    assert (entropy(p_TNC) <= np.log(4)).all()
    assert (bald(p_TNC) > 0).all()
    assert (bald(p_TNC) < entropy(p_TNC)).all()
    assert np.array_equal(bald(p for p in p_TNC), bald(p_TNC))


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ShapeError, match="no passes"):
        entropy([])
    with pytest.raises(ShapeError, match="not probabilities"):
        entropy(passes([[0.5, 0.6]]))
    with pytest.raises(ShapeError, match="wrong shape"):
        entropy(passes([[1.0], [1.0]]))


@pytest.mark.parametrize("method", METHODS)
def test_a_choice_does_not_depend_on_the_order_of_the_items(method: str) -> None:
    whole = pool()
    turn = np.random.default_rng(5).permutation(60)
    assert whole.probabilities_TNC is not None
    assert whole.feature_ND is not None
    other = Pool(
        id_N=whole.id_N[turn],
        probabilities_TNC=whole.probabilities_TNC[:, turn],
        feature_ND=whole.feature_ND[turn],
    )
    first = whole.id_N[acquire(method, whole, 12, seed=3)]
    assert first.tolist() == other.id_N[acquire(method, other, 12, seed=3)].tolist()
    assert len(set(first)) == 12
    assert len(acquire(method, whole, 500)) == 60


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_ranking_the_best_of_each_worker_gives_the_best_of_all(parts: int) -> None:
    names = np.array([f"t{i}" for i in range(90)])
    score_N = np.random.default_rng(2).integers(0, 5, 90).astype(np.float64)
    best = names[rank(score_N, names, 10, seed=4)]
    shards = np.array_split(np.arange(90), parts)
    kept = np.concatenate([s[rank(score_N[s], names[s], 10, seed=4)] for s in shards])
    assert names[kept[rank(score_N[kept], names[kept], 10, seed=4)]].tolist() == best.tolist()


def test_random_draws_are_even() -> None:
    whole = pool(20)
    times = np.zeros(20)
    for seed in range(400):
        times[acquire("random", whole, 5, seed=seed)] += 1
    assert times.sum() == 2000
    assert ((times > 65) & (times < 135)).all()  # 100 expected, 8.7 the deviation


def test_kmeans_takes_one_item_of_each_cluster_and_spread_avoids_copies() -> None:
    rng = np.random.default_rng(0)
    centre = np.repeat(np.array([[0.0, 0], [9, 0], [0, 9], [9, 9]]), 10, axis=0)
    feature_ND = centre + rng.normal(scale=0.2, size=(40, 2))
    names = np.array([f"b{i}" for i in range(40)])
    chosen = acquire("kmeans", Pool(id_N=names, feature_ND=feature_ND), 4)
    assert sorted(chosen // 10) == [0, 1, 2, 3]
    p_TNC = np.full((1, 40, 2), 0.5)
    p_TNC[0, 12:] = [0.9, 0.1]  # the 12 most uncertain are one cluster and two of the next
    told = Pool(id_N=names, probabilities_TNC=p_TNC, feature_ND=feature_ND)
    plain, spread = acquire("margin", told, 4), acquire("margin", told, 4, spread=True)
    assert set(plain // 10) <= {0, 1}
    assert set(spread) <= set(range(12))
    assert set(spread // 10) == {0, 1}


def test_choices_that_cannot_be_made_are_refused() -> None:
    bare = Pool(id_N=np.array(["a", "b"]))
    with pytest.raises(ConfigError, match="needs probabilities"):
        acquire("bald", bare, 1)
    with pytest.raises(ConfigError, match="needs features"):
        acquire("kmeans", bare, 1)
    with pytest.raises(ConfigError, match="unknown method"):
        acquire("best", bare, 1)
    with pytest.raises(ShapeError, match="items do not match"):
        Pool(id_N=np.array(["a", "a"]))


def test_passes_of_a_head_keep_its_logit_on_average() -> None:
    rng = np.random.default_rng(0)
    feature_ND, weight_DK = rng.normal(size=(30, 50)), rng.normal(size=(50, 1)) / 50
    bias_K = np.array([0.3])
    plain = dropout_passes(feature_ND, weight_DK, bias_K, passes=2, dropped=0.0)
    assert plain[0, :, 1] == pytest.approx(expit(feature_ND @ weight_DK + bias_K)[:, 0])
    assert bald(plain) == pytest.approx(np.zeros(30), abs=1e-12)
    many = dropout_passes(feature_ND, weight_DK, bias_K, passes=4000, seed=1)
    logit = np.log(many[:, :, 1] / many[:, :, 0]).mean(axis=0)
    assert logit == pytest.approx((feature_ND @ weight_DK + bias_K)[:, 0], abs=0.02)
    assert (bald(many) > 0).all()


def test_three_classes_and_a_wrong_head() -> None:
    feature_ND = np.eye(2)
    p_TNC = dropout_passes(feature_ND, np.zeros((2, 3)), np.log([1.0, 1.0, 2.0]), passes=3)
    assert p_TNC[2, 1] == pytest.approx([0.25, 0.25, 0.5])
    with pytest.raises(ShapeError, match="does not fit"):
        dropout_passes(feature_ND, np.zeros((3, 1)), np.zeros(1))


def test_boundary_ratio_of_known_masks() -> None:
    checker = np.indices((6, 6)).sum(axis=0) % 2
    assert boundary_ratio(checker) == 1.0
    assert boundary_ratio(np.zeros((6, 6), np.int64)) == 0.0
    half = np.zeros((4, 10), np.int64)
    half[:, 5:] = 1
    assert boundary_ratio(half) == pytest.approx(0.2)
    valid = np.ones((4, 10), np.bool_)
    valid[:, 5] = False  # nothing valid lies beside the other class
    assert boundary_ratio(half, valid) == 0.0
    assert np.isnan(boundary_ratio(half, np.zeros((4, 10), np.bool_)))


def test_class_distance_of_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    pixels_BYX = rng.normal(size=(3, 100, 100))
    second_YX = np.zeros((100, 100), np.bool_)
    second_YX[:, 50:] = True
    pixels_BYX[0, second_YX] += 2.5
    distance = class_distance(pixels_BYX, second_YX)
    assert distance == pytest.approx(2.5, abs=0.06)
    scaled = pixels_BYX * np.array([2.0, 3.0, 0.5])[:, None, None] + 7.0
    assert class_distance(scaled, second_YX) == pytest.approx(distance, rel=2e-3)
    assert class_distance(pixels_BYX, second_YX, covariance_BB=4 * np.eye(3)) == pytest.approx(
        distance / 2, abs=0.05
    )
    few = np.zeros((100, 100), np.bool_)
    few[0, :4] = True
    assert np.isnan(class_distance(pixels_BYX, few))


def test_neighbours_of_another_class() -> None:
    place_ND = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0], [13.0]])
    class_N = np.array([0, 0, 1, 1, 1, 1, 1])
    share = neighbour_disagreement(place_ND, class_N, neighbours=2)
    assert share.tolist() == [0.5, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0]
    with pytest.raises(ShapeError):
        neighbour_disagreement(place_ND[:2], class_N[:2])


def test_correlation_leaves_out_unknown_values() -> None:
    x = np.array([1.0, 2, 3, 4, np.nan, 6])
    told = correlate(x, x**3)
    assert (told.items, told.left_out) == (5, 1)
    assert told.spearman == pytest.approx(1.0)
    assert told.pearson == pytest.approx(
        np.corrcoef(x[[0, 1, 2, 3, 5]], x[[0, 1, 2, 3, 5]] ** 3)[0, 1]
    )
    assert np.isnan(correlate(x, np.ones(6)).spearman)
