"""Laws of spot checks: the sample is what it says, and a census leaves no doubt."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quakestream.fusion.check_counts import (
    DAMAGED,
    DESTROYED,
    INTACT,
    UNKNOWN,
    CheckedMap,
    Estimate,
    count_draws,
)
from quakestream.reduce.strata import LEAST_CHECKS, allocate, draw, strata_of, stratum_numbers
from quakestream.reduce.survey import survey_total

seeds = st.integers(0, 2**31 - 1)


def _map(seed: int, buildings: int, districts: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p_N = rng.beta(0.3, 0.7, buildings)
    p_N[rng.random(buildings) < 0.2] = 0.0  # ties
    return p_N, rng.integers(0, districts, buildings)


@given(seed=seeds, buildings=st.integers(1, 300), checks=st.integers(1, 400))
def test_a_sample_has_the_size_it_says_and_inclusion_adds_up(seed, buildings, checks):
    p_N, domain_N = _map(seed, buildings, 3)
    domain_N = np.unique(domain_N, return_inverse=True)[1]
    strata = strata_of(p_N, domain_N, checks)
    stratum_N = stratum_numbers(strata, p_N, domain_N)
    rows = draw(strata, stratum_N, seed)
    assert (stratum_N >= 0).all()
    assert np.bincount(stratum_N).tolist() == [one.buildings for one in strata]
    assert len(rows) == len(set(rows)) == min(checks, buildings)
    inclusion_N = np.array([one.inclusion for one in strata])[stratum_N]
    assert inclusion_N.sum() == pytest.approx(len(rows))
    assert (rows == draw(strata, stratum_N, seed)).all()


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    checks=st.integers(1, 200),
    seed=seeds,
)
def test_checks_are_given_out_whole_and_to_every_stratum(sizes, checks, seed):
    size_G = np.array(sizes)
    given_G = allocate(np.random.default_rng(seed).random(len(sizes)) * size_G, size_G, checks)
    assert given_G.sum() == min(checks, size_G.sum())
    assert (given_G <= size_G).all()
    if checks >= LEAST_CHECKS * len(sizes):
        assert (given_G >= np.minimum(size_G, LEAST_CHECKS)).all()


def _checked(seed: int, buildings: int, answer_N: np.ndarray) -> CheckedMap:
    p_N, district_N = _map(seed, buildings, 4)
    return CheckedMap(
        p_N=p_N,
        p_damaged_N=p_N,
        stratum_N=np.minimum((p_N * 3).astype(int), 2),
        strata=3,
        district_N=district_N,
        districts=4,
        declared_N=p_N > 0.5,
        answer_N=answer_N,
    )


@settings(max_examples=5)
@given(seed=seeds, buildings=st.integers(2, 60))
def test_a_census_is_exact(seed, buildings):
    answer_N = np.random.default_rng(seed + 1).integers(0, 3, buildings)
    checked = _checked(seed, buildings, answer_N)
    drawn = count_draws(checked, draws=50)
    for answer in (DESTROYED, DAMAGED, INTACT):
        true = float((answer_N == answer).sum())
        estimate = Estimate.of(drawn.total_UC()[:, answer])
        assert (estimate.low, estimate.value, estimate.high) == (true, true, true)
    destroyed_N = answer_N == DESTROYED
    found = (destroyed_N & checked.declared_N).sum()
    expected = found / destroyed_N.sum() if destroyed_N.any() else np.nan
    assert drawn.recall_U() == pytest.approx(np.full(50, expected), nan_ok=True)
    plain = survey_total(
        checked.p_N,
        np.unique(checked.stratum_N, return_inverse=True)[1],
        answer_N >= 0,
        answer_N == DESTROYED,
    )
    assert plain is not None
    assert plain.low == pytest.approx(plain.high) == pytest.approx((answer_N == 2).sum())


@settings(max_examples=5)
@given(seed=seeds)
def test_totals_never_contradict_the_answers(seed):
    rng = np.random.default_rng(seed)
    answer_N = np.where(rng.random(200) < 0.3, rng.integers(0, 3, 200), UNKNOWN)
    drawn = count_draws(_checked(seed, 200, answer_N), draws=50)
    total_UC = drawn.total_UC()
    assert (total_UC.sum(axis=1) == 200).all()
    for answer in (DESTROYED, DAMAGED, INTACT):
        assert (total_UC[:, answer] >= (answer_N == answer).sum()).all()


def test_the_survey_total_is_unbiased_over_all_samples_of_a_small_town():
    """An oracle: with the weight of the map at 0, every sample of 2 of 4 in both strata."""
    from itertools import combinations, product

    yes_N = np.array([1, 0, 0, 0, 1, 1, 0, 1], bool)
    stratum_N = np.repeat([0, 1], 4)
    values = []
    for one, other in product(combinations(range(4), 2), combinations(range(4, 8), 2)):
        checked_N = np.isin(np.arange(8), (*one, *other))
        total = survey_total(np.full(8, 0.5), stratum_N, checked_N, yes_N)
        assert total is not None
        values.append(total.value)
    assert np.mean(values) == pytest.approx(yes_N.sum())


def test_a_stratum_without_answers_has_no_survey_total():
    checked_N = np.array([True, True, False, False])
    assert survey_total(np.full(4, 0.5), np.array([0, 0, 1, 1]), checked_N, checked_N) is None


def test_all_intact_leaves_a_few_that_may_have_fallen():
    rng = np.random.default_rng(0)
    p_N = rng.beta(0.3, 3, 2000)
    strata = strata_of(p_N, np.zeros(2000, np.int64), 100)
    stratum_N = stratum_numbers(strata, p_N, np.zeros(2000, np.int64))
    answer_N = np.full(2000, UNKNOWN)
    answer_N[draw(strata, stratum_N, 1)] = INTACT
    checked = CheckedMap(
        p_N=p_N,
        p_damaged_N=p_N,
        stratum_N=stratum_N,
        strata=len(strata),
        district_N=np.zeros(2000, np.int64),
        districts=1,
        declared_N=p_N > 0.5,
        answer_N=answer_N,
    )
    estimate = Estimate.of(count_draws(checked).total_UC()[:, DESTROYED])
    assert estimate.low == 0
    assert 1 < estimate.high < 60  # 3 % of 2,000: the rule of three of a simple random sample


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.3])
def test_intervals_of_90_percent_hold_the_truth_in_90_percent_of_campaigns(share):
    from benchmarks.spot_checks import campaigns, synthetic

    told = campaigns(synthetic(4000, share, seed=3), checks=100, number=200)
    assert 0.84 <= told["coverage"] <= 0.96
    assert told["width_over_simple"] < 0.8
