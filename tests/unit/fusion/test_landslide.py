"""Image and prior of a landslide together: the textbook, and laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import norm

from quakestream.errors import ShapeError
from quakestream.fusion import Evidence, combine
from quakestream.fusion.landslide import combined
from quakestream.fusion.nowicki_jessee import LEAST_COVERAGE

chances = st.floats(0.001, 0.999)
coverages = st.floats(0.001, 0.25)
NAN = float("nan")


def one(p_image: float, p_prior: float, share: float) -> float:
    return float(combined(np.array([p_image]), np.array([p_prior]), share).p_N[0])


def test_log_odds_add_up_as_for_damage() -> None:
    random = np.random.default_rng(0)
    image_N, prior_N = random.uniform(0.001, 0.999, 60), random.uniform(0.001, 0.25, 60)
    share_C = np.array([0.98, 0.02])
    fused_NC = combine(
        share_C,
        [
            Evidence(p_NC=np.column_stack([1 - image_N, image_N]), prior_C=share_C),
            Evidence(p_NC=np.column_stack([1 - prior_N, prior_N]), prior_C=share_C),
        ],
    )
    found = combined(image_N, prior_N, 0.02)
    np.testing.assert_allclose(found.p_N, fused_NC[:, 1], rtol=1e-9)
    np.testing.assert_allclose(found.p_N, expit(logit(image_N) + logit(prior_N) - logit(0.02)))


def test_a_calibrated_model_under_another_prior_gives_the_exact_posterior() -> None:
    """A model fitted where 2 % slid, used where the prior says 15 %: Bayes' rule."""
    seen_N = np.random.default_rng(1).normal(1.0, 1.5, 50)
    slid_N, other_N = norm.pdf(seen_N, 2.0), norm.pdf(seen_N, 0.0)
    p_image_N = 0.02 * slid_N / (0.02 * slid_N + 0.98 * other_N)
    exact_N = 0.15 * slid_N / (0.15 * slid_N + 0.85 * other_N)
    found = combined(p_image_N, np.full(50, 0.15), 0.02)
    np.testing.assert_allclose(found.p_N, exact_N, rtol=1e-6)


@given(a=chances, b=chances, prior=coverages, share=st.floats(0.005, 0.5))
def test_the_order_of_images_does_not_matter(
    a: float, b: float, prior: float, share: float
) -> None:
    first = logit(one(b, one(a, prior, share), share))
    second = logit(one(a, one(b, prior, share), share))
    if min(one(a, prior, share), one(b, prior, share)) > LEAST_COVERAGE:
        assert first == pytest.approx(second, rel=1e-6, abs=1e-6)


@given(p=chances, prior=coverages, share=st.floats(0.005, 0.5), other=st.floats(0.005, 0.5))
def test_the_share_that_the_model_assumes_cancels_out(
    p: float, prior: float, share: float, other: float
) -> None:
    """The same evidence, from a model that was fitted where another share slid."""
    shifted = float(expit(logit(p) - logit(share) + logit(other)))
    assert logit(one(p, prior, share)) == pytest.approx(
        logit(one(shifted, prior, other)), rel=1e-6, abs=1e-6
    )


@given(p=chances, prior=coverages, share=st.floats(0.005, 0.5), more=st.floats(1.01, 3.0))
def test_more_evidence_never_means_less_probability(
    p: float, prior: float, share: float, more: float
) -> None:
    base = one(p, prior, share)
    assert one(min(p * more, 0.9999), prior, share) > base
    assert one(p, min(prior * more, 0.9), share) > base


def test_what_is_missing_is_left_out_and_named() -> None:
    image_N, prior_N = np.array([0.3, 0.3, NAN, NAN]), np.array([0.1, NAN, 0.1, NAN])
    found = combined(image_N, prior_N, 0.02)
    assert found.evidence_N.tolist() == ["image+prior", "image", "prior", None]
    np.testing.assert_allclose(found.p_N[1:], [0.3, 0.1, NAN])
    np.testing.assert_allclose(found.image_share_N[1:], [1.0, 0.0, NAN])
    np.testing.assert_allclose(found.prior_share_N[1:], [0.0, 1.0, NAN])


def test_a_prior_equal_to_the_models_own_share_changes_nothing() -> None:
    found = combined(np.array([0.7, 0.02]), np.array([0.02, 0.02]), 0.02)
    np.testing.assert_allclose(found.p_N, [0.7, 0.02], rtol=1e-9)
    np.testing.assert_allclose(found.image_share_N, [1.0, 0.5], atol=1e-9)


def test_shares_are_those_of_the_log_odds_that_each_moved() -> None:
    found = combined(np.array([0.5]), np.array([0.2]), 0.1)
    image, prior = logit(0.5) - logit(0.1), logit(0.2) - logit(0.1)
    assert found.image_share_N[0] == pytest.approx(image / (image + prior))
    assert found.image_share_N[0] + found.prior_share_N[0] == pytest.approx(1.0)
    assert found.p_N[0] == pytest.approx(expit(logit(0.1) + image + prior))


def test_level_ground_is_no_veto() -> None:
    assert one(0.9, 0.0, 0.02) == pytest.approx(one(0.9, LEAST_COVERAGE, 0.02))
    assert 0.15 < one(0.9, 0.0, 0.02) < 0.25
    assert one(1.0, 0.0, 0.02) > 0.99


@pytest.mark.parametrize("share", [0.0, 1.0, NAN])
def test_what_makes_no_sense_is_refused(share: float) -> None:
    with pytest.raises(ShapeError):
        combined(np.zeros(2), np.zeros(2), share)
    with pytest.raises(ShapeError):
        combined(np.zeros(2), np.zeros(3), 0.5)
