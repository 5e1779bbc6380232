"""Fusion against the textbook, and damage scales brought to one another."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from quakestream.domain import ScaleClass
from quakestream.errors import BundleError, ShapeError
from quakestream.fusion import HAZARD_FLOOR, Evidence, ScaleMap, combine


def scale(*grades: tuple[int, ...]) -> tuple[ScaleClass, ...]:
    return tuple(
        ScaleClass(index=i, label=f"c{i}", xbd="no", ems98=g, copernicus="No visible damage")
        for i, g in enumerate(grades)
    )


INTACT_DESTROYED = scale((0, 1, 2, 3), (4, 5))
FIELD = scale((0,), (1, 2), (3,), (4,), (5,))


def test_two_classes_are_log_odds_that_add_up() -> None:
    rng = np.random.default_rng(0)
    image_N, hazard_N, share = rng.uniform(0.01, 0.99, 50), rng.uniform(0.01, 0.99, 50), 0.2
    fused_NC = combine(
        np.array([0.5, 0.5]),
        [
            Evidence(p_NC=np.column_stack([1 - image_N, image_N]), prior_C=np.array([0.5, 0.5])),
            Evidence(
                p_NC=np.column_stack([1 - hazard_N, hazard_N]),
                prior_C=np.array([1 - share, share]),
                floor=HAZARD_FLOOR,
            ),
        ],
    )
    expected_N = expit(logit(image_N) + logit(hazard_N) - logit(share))
    assert np.allclose(fused_NC[:, 1], expected_N, rtol=1e-12)


def test_independent_observations_give_the_exact_posterior() -> None:
    """Three classes, three Gaussian observations, each model fitted under shares of its own."""
    rng = np.random.default_rng(1)
    means_KC = np.array([[0.0, 1.0, 2.5], [0.0, 0.4, 0.9], [1.0, 0.2, -0.5]])
    prior_KC = np.array([[1 / 3, 1 / 3, 1 / 3], [0.7, 0.2, 0.1], [0.5, 0.1, 0.4]])
    seen_NK = rng.normal(0.5, 1.0, (40, 3))
    likelihood_KNC = np.array([norm.pdf(seen_NK[:, k, None], means_KC[k]) for k in range(3)])
    parts = []
    for k in range(3):
        p_NC = likelihood_KNC[k] * prior_KC[k]
        parts.append(Evidence(p_NC=p_NC / p_NC.sum(1, keepdims=True), prior_C=prior_KC[k]))
    truth_C = np.array([0.6, 0.3, 0.1])
    exact_NC = likelihood_KNC.prod(axis=0) * truth_C
    exact_NC /= exact_NC.sum(axis=1, keepdims=True)
    assert np.allclose(combine(truth_C, parts), exact_NC, rtol=1e-9)


def test_what_is_missing_is_left_out_and_nothing_is_made_of_nothing() -> None:
    prior_C = np.array([0.5, 0.5])
    image = np.array([[0.3, 0.7], [0.3, 0.7], [np.nan, np.nan], [np.nan, np.nan]])
    hazard = np.array([[0.1, 0.9], [np.nan, np.nan], [0.1, 0.9], [np.nan, 0.9]])
    fused = combine(
        prior_C, [Evidence(p_NC=image, prior_C=prior_C), Evidence(p_NC=hazard, prior_C=prior_C)]
    )
    assert fused[0, 1] == pytest.approx(0.63 / (0.63 + 0.03))
    assert fused[1] == pytest.approx([0.3, 0.7])
    assert fused[2] == pytest.approx([0.1, 0.9])
    assert np.isnan(fused[3]).all()


def test_certain_hazard_values_do_not_overrule_a_clear_picture() -> None:
    image = Evidence(p_NC=np.array([[1e-5, 1 - 1e-5]]), prior_C=np.array([0.5, 0.5]))
    never = Evidence(p_NC=np.array([[1.0, 0.0]]), prior_C=np.array([0.5, 0.5]), floor=HAZARD_FLOOR)
    assert combine(np.array([0.5, 0.5]), [image, never])[0, 1] > 0.98


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (INTACT_DESTROYED, INTACT_DESTROYED, [[1, 0], [0, 1]]),
        (FIELD, INTACT_DESTROYED, [[1, 0], [1, 0], [1, 0], [0, 1], [0, 1]]),
        # one grade here, two there
        (scale((0, 1, 2), (3, 4, 5)), INTACT_DESTROYED, [[1, 0], [0, 1]]),
        # a tie goes to the milder
        (scale((0, 1), (2, 3, 4, 5)), INTACT_DESTROYED, [[1, 0], [0.5, 0.5]]),
        (scale((0, 1), (3, 4), (5,)), INTACT_DESTROYED, [[1, 0], [1, 0], [0, 1]]),
        # grades the target leaves out go to the nearest class
        (scale((0,), (3,), (4,), (5,)), scale((0, 1, 2), (5,)), [[1, 0], [1, 0], [0, 1], [0, 1]]),
        # a coarser scale says of a whole class what it says of its parts
        (
            INTACT_DESTROYED,
            scale((0,), (1, 2), (3,), (4,), (5,)),
            [[0.25, 0.5, 0.25, 0, 0], [0, 0, 0, 0.5, 0.5]],
        ),
    ],
)
def test_classes_go_where_their_grades_are(
    source: tuple[ScaleClass, ...], target: tuple[ScaleClass, ...], expected: list[list[float]]
) -> None:
    assert ScaleMap.between(source, target).share_HC.tolist() == expected


def test_classes_that_share_a_coarser_one_are_told_the_same() -> None:
    to_fine = ScaleMap.between(INTACT_DESTROYED, FIELD)
    p, prior = to_fine([[0.2, 0.8]]), to_fine([0.9, 0.1])
    assert p[0] / prior == pytest.approx([0.2 / 0.9] * 3 + [8.0] * 2)


def test_a_class_without_grades_is_refused_by_name() -> None:
    with pytest.raises(BundleError, match="'c1' has no EMS-98 grade"):
        ScaleMap.between(scale((0,), ()), INTACT_DESTROYED)


@pytest.mark.parametrize(
    ("p", "prior", "words"),
    [
        (np.ones((2, 2)), np.ones(3), r"expected \(N, C\)"),
        (np.ones(2), np.ones(2), r"expected \(N, C\)"),
        (np.ones((2, 2)), np.array([np.nan, 1.0]), "invalid class share"),
        (np.ones((2, 2)), np.array([-0.1, 1.1]), "invalid class share"),
    ],
)
def test_evidence_that_is_none_is_refused(p: np.ndarray, prior: np.ndarray, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        Evidence(p_NC=p, prior_C=prior)


def test_parts_over_other_buildings_or_classes_are_refused() -> None:
    two = Evidence(p_NC=np.full((3, 2), 0.5), prior_C=np.array([0.5, 0.5]))
    more = Evidence(p_NC=np.full((4, 2), 0.5), prior_C=np.array([0.5, 0.5]))
    with pytest.raises(ShapeError, match="cannot combine"):
        combine(np.array([0.5, 0.5]), [two, more])
    with pytest.raises(ShapeError, match="cannot combine"):
        combine(np.array([0.3, 0.3, 0.4]), [two])
