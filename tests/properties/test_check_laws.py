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
from quakestream.reduce.strata import (
    FREE_LEVELS,
    LEAST_CHECKS,
    LEAST_P,
    STATED_LEVELS,
    allocate,
    draw,
    expected_sd,
    strata_of,
    stratum_numbers,
)
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


@given(
    p=st.lists(st.floats(0, 1), min_size=2, max_size=30),
    levels=st.sampled_from([(0.0,), STATED_LEVELS, FREE_LEVELS]),
    seed=seeds,
)
def test_no_other_allocation_is_closer_to_the_best_of_each_level(p, levels, seed):
    """An oracle: the variance of a sample in proportion to `q`, relative to the best one."""

    def loss(q_N):
        total = 0.0
        for level in levels:
            odds_N = np.exp(np.log(np.clip(p, 1e-9, 1 - 1e-9) / (1 - np.clip(p, 1e-9, 1 - 1e-9))))
            shifted_N = odds_N * np.exp(level) / (1 + odds_N * np.exp(level))
            shifted_N = np.clip(shifted_N, LEAST_P, 1 - LEAST_P)
            variance_N = shifted_N * (1 - shifted_N)
            total += (variance_N / q_N).sum() * q_N.sum() / np.sqrt(variance_N).sum() ** 2
        return total / len(levels)

    sd_N = expected_sd(np.array(p), levels)
    other_N = sd_N * np.exp(0.3 * np.random.default_rng(seed).standard_normal(len(p)))
    assert loss(sd_N) <= loss(other_N) + 1e-9
    if len(levels) == 1:
        assert loss(sd_N) == pytest.approx(1.0)


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


@pytest.mark.parametrize("known", ["nothing", "reversed"])
def test_a_map_that_is_wrong_does_not_move_the_number(known):
    """A thousand buildings, 300 of them destroyed, 60 checks, 30 campaigns."""
    rng = np.random.default_rng(6)
    destroyed_N = rng.permutation(np.arange(1000) < 300)
    side_N = destroyed_N if known == "reversed" else rng.permutation(destroyed_N)
    p_N = 1 / (1 + np.exp(2.0 * np.where(side_N, 1.0, -1.0) + rng.standard_normal(1000)))
    nowhere_N = np.zeros(1000, np.int64)
    strata = strata_of(p_N, nowhere_N, 60)
    stratum_N = stratum_numbers(strata, p_N, nowhere_N)
    told, plain = [], []
    for seed in range(30):
        answer_N = np.full(1000, UNKNOWN)
        rows = draw(strata, stratum_N, seed)
        answer_N[rows] = np.where(destroyed_N[rows], DESTROYED, INTACT)
        checked = CheckedMap(
            p_N=p_N,
            p_damaged_N=p_N,
            stratum_N=stratum_N,
            strata=len(strata),
            district_N=nowhere_N,
            districts=1,
            declared_N=p_N > 0.5,
            answer_N=answer_N,
        )
        told.append(Estimate.of(count_draws(checked, seed, 400).total_UC()[:, DESTROYED]))
        total = survey_total(p_N, stratum_N, answer_N >= 0, answer_N == DESTROYED)
        assert total is not None
        plain.append(total)
    for estimates in (told, plain):
        values = np.array([one.value for one in estimates])
        error = values.std(ddof=1) / 30**0.5
        assert values.mean() == pytest.approx(300, abs=3 * error)
        assert sum(one.low <= 300 <= one.high for one in estimates) >= 23


@pytest.mark.slow
@pytest.mark.parametrize(
    ("share", "unknown", "ratio"), [(0.1, False, 0.7), (0.3, False, 0.7), (0.2, True, 1.08)]
)
def test_intervals_of_90_percent_hold_the_truth_in_90_percent_of_campaigns(share, unknown, ratio):
    from benchmarks.spot_checks import campaigns, synthetic, uninformed

    known = uninformed(4000, share, seed=3) if unknown else synthetic(4000, share, seed=3)
    told = campaigns(known, checks=100, number=200)
    assert 0.84 <= told["coverage"] <= 0.96
    assert told["bound"] * 0.98 <= told["width_over_simple"] < ratio
