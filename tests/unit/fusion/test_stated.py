"""Shares that are stated, and hazard evidence beside a share, with numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from quakestream.fusion.shares import WEAK_SHARE, at_share, estimate_shares
from quakestream.fusion.stated import (
    ScoredBuildings,
    share_by_scores,
    share_prior,
    shares_as_stated,
    shares_from_scores,
    shift_to_share,
    within_areas,
)
from tests.helpers.calibrating import PLAIN

NOTHING = np.full(4, np.nan)
AREA = np.array([0, 0, 1, 1])
RATIO = np.array([2.0, -1.0, 0.5, np.nan])


def scored(**changes: object) -> ScoredBuildings:
    given: dict[str, object] = {
        "log_ratio_N": RATIO,
        "hazard_N": NOTHING,
        "area_N": AREA,
        "areas": 2,
        "neighbour_A2": np.empty((0, 2), np.int64),
        "calibration": PLAIN,
    }
    return ScoredBuildings(**(given | changes))  # type: ignore[arg-type]


def test_hazard_evidence_has_a_level_per_area_and_a_rest_that_says_which_building() -> None:
    hazard = np.array([1.0, 3.0, np.nan, np.nan, -1.0])
    rest_N, level_G = within_areas(hazard, np.array([0, 0, 0, 1, 2]), 3)
    assert rest_N.tolist() == [-1.0, 1.0, 0.0, 0.0, 0.0]
    assert level_G.tolist() == [2.0, 0.0, -1.0]


def test_the_level_of_hazard_evidence_moves_the_prior_and_the_rest_the_buildings() -> None:
    plain, strong = scored(), scored(hazard_N=np.array([1.0, 3.0, 0.0, 0.0]))
    assert share_prior(plain).share_G == pytest.approx([WEAK_SHARE] * 2)
    prior = share_prior(strong)
    assert prior.share_G == pytest.approx([expit(logit(WEAK_SHARE) + 2.0), WEAK_SHARE])
    assert prior.strength > share_prior(plain).strength
    found, alone = (
        shares_from_scores(strong),
        estimate_shares(RATIO, AREA, np.empty((0, 2), np.int64), prior, PLAIN),
    )
    assert found.share_G == pytest.approx(alone.share_G)
    moved_n = found.log_ratio_N[:3] - alone.log_ratio_N[:3]
    assert moved_n[1] - moved_n[0] == pytest.approx(2.0)
    assert moved_n[2] == pytest.approx(0.0, abs=1e-6)
    p_n = at_share(found.log_ratio_N[:3], found.share_G[AREA[:3]])
    assert np.bincount(AREA[:3], p_n) == pytest.approx(alone.expected_G, rel=1e-5)


def test_labels_of_the_event_state_its_share_before_the_scores_do() -> None:
    prior = share_prior(scored(of_event=True))
    assert prior.share_G == pytest.approx([PLAIN.share] * 2)
    assert prior.strength > share_prior(scored()).strength


def test_hazard_evidence_that_is_the_same_in_an_area_says_nothing_of_its_buildings() -> None:
    strong = scored(hazard_N=np.array([2.0, 2.0, -1.0, -1.0]))
    alone = estimate_shares(RATIO, AREA, np.empty((0, 2), np.int64), share_prior(strong), PLAIN)
    assert shares_from_scores(strong).log_ratio_N[:3] == pytest.approx(alone.log_ratio_N[:3])


def test_expected_numbers_at_a_stated_share_are_sums_of_probabilities() -> None:
    share_N = np.array([0.2, 0.2, 0.5, 0.5])
    found = shares_as_stated(scored(), share_N, everywhere=False)
    shift, _ = shift_to_share(RATIO[:3], share_N[:3], float(np.hypot(PLAIN.region_sd, 0.2)))
    assert found.log_ratio_N[:3] == pytest.approx(RATIO[:3] + shift)
    first = expit(np.array([2.0, -1.0]) + shift + logit(0.2))
    assert found.buildings_G.tolist() == [2, 1]
    assert found.expected_G == pytest.approx([first.sum(), expit(0.5 + shift)])
    assert found.share_G == pytest.approx([0.2, 0.5])
    assert (found.low_G == found.share_G).all()
    assert found.run.expected == pytest.approx(first.sum() + expit(0.5 + shift))
    part = found.expected_G / [2, 1]
    assert found.expected_share_G3[:, 0] == pytest.approx(part)
    assert found.run.share_3[0] == pytest.approx(found.expected_G.sum() / 3)
    assert np.isnan(found.log_ratio_N[3])


def test_scores_of_an_unknown_region_are_moved_to_the_stated_share() -> None:
    rng = np.random.default_rng(0)
    ratio_N = np.concatenate([rng.normal(0.0, 1.0, 1400), rng.normal(5.0, 1.0, 600)])  # all +2
    share_N = np.full(2000, 0.3)
    assert expit(ratio_N + logit(0.3)).sum() > 700
    shift, sd = shift_to_share(ratio_N, share_N, 2.0)
    assert expit(ratio_N + shift + logit(0.3)).sum() == pytest.approx(600, abs=2)
    assert shift < -0.5
    assert sd < 0.2
    few, unsure = shift_to_share(ratio_N[:2], share_N[:2], 2.0)
    assert abs(few) < abs(shift_to_share(ratio_N[:200], share_N[:200], 2.0)[0])
    assert 1.0 < unsure < 2.0


def test_a_true_share_narrows_the_interval_and_the_scores_keep_their_say() -> None:
    """Once 0.24 stated for 447 buildings gave an interval of 12 to 330."""
    rng = np.random.default_rng(1)
    ratio_N = np.concatenate([rng.normal(-1.0, 1.0, 700), rng.normal(4.0, 1.5, 300)])
    town = scored(
        log_ratio_N=ratio_N,
        hazard_N=np.full(1000, np.nan),
        area_N=np.zeros(1000, np.int64),
        areas=1,
        calibration=replace(PLAIN, region_sd=2.0),
    )
    told = shares_as_stated(town, np.full(1000, 0.3), everywhere=True).run
    assert told.expected_low <= 300 <= told.expected_high
    assert told.expected_high - told.expected_low < 80
    _, low, high = share_by_scores(town).share_3
    assert 0.02 < low <= 0.3 <= high < 0.6


def test_the_interval_holds_the_calibration_and_chance() -> None:
    found = shares_as_stated(scored(), np.full(4, 0.5), everywhere=True)
    shift, sd = shift_to_share(RATIO[:3], np.full(3, 0.5), float(np.hypot(PLAIN.region_sd, 0.2)))
    p = expit(RATIO[:2] + shift)
    chance = 1.6449 * np.sqrt((p * (1 - p)).sum())
    up = expit(RATIO[:2] + shift + 1.6449 * sd).sum() - p.sum()
    assert found.expected_high_G[0] == pytest.approx(min(p.sum() + np.hypot(up, chance), 2.0))
    assert found.expected_low_G[0] >= 0
    assert found.run.expected_low < found.run.expected < found.run.expected_high


def test_one_share_for_the_run_is_spread_by_hazard_evidence_and_shares_of_areas_are_not() -> None:
    hazard = np.array([2.0, 2.0, -2.0, -2.0])
    half = np.full(4, 0.5)
    spread = shares_as_stated(scored(hazard_N=hazard), half, everywhere=True)
    apart = spread.log_ratio_N[:3] - RATIO[:3]
    assert apart - apart[2] == pytest.approx([4.0, 4.0, 0.0])
    fixed = shares_as_stated(scored(hazard_N=hazard), half, everywhere=False)
    apart = fixed.log_ratio_N[:3] - RATIO[:3]
    assert apart == pytest.approx([apart[0]] * 3)


def test_no_building_at_all_is_no_error() -> None:
    empty = scored(
        log_ratio_N=np.empty(0),
        hazard_N=np.empty(0),
        area_N=np.empty(0, np.int64),
        areas=0,
    )
    found = shares_as_stated(empty, np.empty(0), everywhere=True)
    assert (found.run.buildings, found.run.expected) == (0, 0.0)
    assert len(found.expected_G) == 0


@given(share=st.floats(0.001, 0.999), other=st.floats(0.001, 0.999))
def test_a_larger_share_never_lowers_an_expected_number(share: float, other: float) -> None:
    low, high = sorted((share, other))
    few, many = (shares_as_stated(scored(), np.full(4, s), everywhere=True) for s in (low, high))
    assert (many.expected_G >= few.expected_G - 1e-9).all()
