"""Shares that are stated, and hazard evidence beside a share, with numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from quakestream.fusion.shares import WEAK_SHARE, estimate_shares
from quakestream.fusion.stated import (
    ScoredBuildings,
    share_prior,
    shares_as_stated,
    shares_from_scores,
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
    assert found.log_ratio_N[:3] - alone.log_ratio_N[:3] == pytest.approx([-1.0, 1.0, 0.0])


def test_labels_of_the_event_state_its_share_before_the_scores_do() -> None:
    prior = share_prior(scored(of_event=True))
    assert prior.share_G == pytest.approx([PLAIN.share] * 2)
    assert prior.strength > share_prior(scored()).strength


def test_hazard_evidence_that_is_the_same_in_an_area_says_nothing_of_its_buildings() -> None:
    strong = scored(hazard_N=np.array([2.0, 2.0, -1.0, -1.0]))
    alone = estimate_shares(RATIO, AREA, np.empty((0, 2), np.int64), share_prior(strong), PLAIN)
    assert shares_from_scores(strong).log_ratio_N[:3] == pytest.approx(alone.log_ratio_N[:3])


def test_expected_numbers_at_a_stated_share_are_sums_of_probabilities() -> None:
    found = shares_as_stated(scored(), np.array([0.2, 0.2, 0.5, 0.5]), everywhere=False)
    first = expit(np.array([2.0, -1.0]) + logit(0.2))
    assert found.buildings_G.tolist() == [2, 1]
    assert found.expected_G == pytest.approx([first.sum(), expit(0.5)])
    assert found.share_G == pytest.approx([0.2, 0.5])
    assert (found.low_G == found.share_G).all()
    assert found.run.expected == pytest.approx(first.sum() + expit(0.5))
    assert found.run.share == pytest.approx(0.3)
    assert np.isnan(found.log_ratio_N[3])


def test_the_interval_holds_the_calibration_and_chance() -> None:
    found = shares_as_stated(scored(), np.full(4, 0.5), everywhere=True)
    moved = 1.6449 * np.hypot(PLAIN.region_sd, 0.2)
    p = expit(RATIO[:2])
    chance = 1.6449 * np.sqrt((p * (1 - p)).sum())
    up = expit(RATIO[:2] + moved).sum() - p.sum()
    assert found.expected_high_G[0] == pytest.approx(min(p.sum() + np.hypot(up, chance), 2.0))
    assert found.expected_low_G[0] >= 0
    assert found.run.expected_low < found.run.expected < found.run.expected_high


def test_one_share_for_the_run_is_spread_by_hazard_evidence_and_shares_of_areas_are_not() -> None:
    hazard = np.array([2.0, 2.0, -2.0, -2.0])
    half = np.full(4, 0.5)
    spread = shares_as_stated(scored(hazard_N=hazard), half, everywhere=True)
    assert spread.log_ratio_N[:3] - RATIO[:3] == pytest.approx([2.0, 2.0, -2.0])
    fixed = shares_as_stated(scored(hazard_N=hazard), half, everywhere=False)
    assert fixed.log_ratio_N[:3] == pytest.approx(RATIO[:3])


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
    assert (many.expected_G >= few.expected_G - 1e-12).all()
