"""Estimated shares of destroyed buildings against drawn ones."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from quakestream.domain.calibration import Calibration, ScoreShape
from quakestream.errors import ShapeError
from quakestream.fusion.shares import AreaShares, SharePrior, at_share, estimate_shares

DISTANCE = 3.0
"""Log-ratios of intact and destroyed buildings are normal, this far apart in deviations."""
PLAIN = Calibration(
    share=0.5,
    features=("score_logit",),
    weights=(1.0,),
    intercept=0.0,
    covariance=((0.01, 0.0), (0.0, 0.01)),
    region_sd=0.1,
    fitted_on="normal scores",
)
NONE = np.empty((0, 2), np.int64)


def town(rng: np.random.Generator, count: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact log-ratios of two normal distributions, and who is destroyed."""
    destroyed_N = np.arange(count) < round(share * count)
    seen_N = rng.normal(0.0, 1.0, count) + DISTANCE * destroyed_N
    return DISTANCE * seen_N - DISTANCE**2 / 2, destroyed_N


def estimate(ratio_N: np.ndarray, area_N: np.ndarray, areas: int) -> AreaShares:
    return estimate_shares(ratio_N, area_N, NONE, SharePrior.weak(areas), PLAIN)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6])
def test_the_share_of_a_town_is_found(share: float) -> None:
    ratio_N, _ = town(np.random.default_rng(0), 4000, share)
    found = estimate(ratio_N, np.zeros(4000, np.int64), 1)
    assert found.share_G[0] == pytest.approx(share, abs=0.04)
    assert found.low_G[0] <= share <= found.high_G[0]
    assert found.run.expected_low <= 4000 * share <= found.run.expected_high


def test_areas_have_shares_of_their_own() -> None:
    rng = np.random.default_rng(1)
    parts = [town(rng, 800, share)[0] for share in (0.01, 0.5)]
    found = estimate(np.concatenate(parts), np.repeat([0, 1], 800), 3)
    assert found.share_G[:2].tolist() == pytest.approx([0.01, 0.5], abs=0.03)
    assert found.buildings_G.tolist() == [800, 800, 0]
    assert found.expected_G[2] == 0.0
    assert found.high_G[2] - found.low_G[2] > 0.3  # nothing was seen there


def test_the_only_area_with_buildings_has_the_interval_of_the_run() -> None:
    ratio_N, _ = town(np.random.default_rng(9), 200, 0.2)
    found = estimate(ratio_N / 2, np.ones(200, np.int64), 3)
    run = found.run
    only = [run.expected, run.expected_low, run.expected_high]
    assert [found.expected_G[1], found.expected_low_G[1], found.expected_high_G[1]] == only
    assert found.expected_share_G3[1].tolist() == list(run.share_3)
    assert run.expected_low < run.expected < run.expected_high


def test_few_buildings_with_clear_scores_are_counted_and_not_shrunk() -> None:
    """Once 17 buildings at p > 0.99 of 29 were "14.6 expected", 8 of an area's 13 "4 to 6"."""
    clear_N = np.array([-8.0] * 5 + [8.0] * 8 + [-8.0] * 6 + [8.0] * 9)
    area_N = np.repeat([0, 1], [13, 15])
    found = estimate(clear_N, area_N, 2)
    assert found.expected_G.tolist() == pytest.approx([8.0, 9.0], abs=0.2)
    assert found.run.expected == found.expected_G.sum() == pytest.approx(17.0, abs=0.3)
    p_N = at_share(found.log_ratio_N, found.share_G[area_N])
    assert np.bincount(area_N, p_N).tolist() == pytest.approx(found.expected_G.tolist(), rel=1e-6)
    assert (found.expected_low_G <= [8.0, 9.0]).all()
    assert (found.expected_high_G >= [8.0, 9.0]).all()


def test_probabilities_add_up_to_what_is_expected_of_each_area() -> None:
    """By a mean shape and a mean share they once missed it by a fifth, by bins by 0.5 %."""
    rng = np.random.default_rng(8)
    ratio_N = np.concatenate([town(rng, 100, share)[0] / 2 for share in (0.0, 0.1, 0.4)])
    area_N = np.repeat([0, 1, 2], 100)
    found = estimate(ratio_N, area_N, 3)
    p_N = at_share(found.log_ratio_N, found.share_G[area_N])
    assert np.bincount(area_N, p_N).tolist() == pytest.approx(found.expected_G.tolist(), rel=1e-6)


def test_the_order_of_buildings_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    ratio_N, _ = town(rng, 500, 0.2)
    area_N = rng.integers(0, 4, 500)
    order_N = rng.permutation(500)
    a, b = estimate(ratio_N, area_N, 4), estimate(ratio_N[order_N], area_N[order_N], 4)
    assert np.array_equal(a.share_G, b.share_G)
    assert a.run == b.run


def test_buildings_without_a_score_do_not_count() -> None:
    ratio_N, _ = town(np.random.default_rng(3), 300, 0.2)
    holes_N = np.concatenate([ratio_N, np.full(50, np.nan)])
    a = estimate(ratio_N, np.zeros(300, np.int64), 1)
    b = estimate(holes_N, np.zeros(350, np.int64), 1)
    assert a.run == b.run
    assert np.isnan(b.log_ratio_N[300:]).all()


def test_a_single_building_and_none_at_all_say_little() -> None:
    one = estimate(np.array([5.0]), np.zeros(1, np.int64), 1)
    assert one.low_G[0] < one.share_G[0] < one.high_G[0]
    none = estimate(np.empty(0), np.empty(0, np.int64), 1)
    assert none.run.buildings == 0
    assert none.run.expected == 0.0


def test_probabilities_at_a_share_are_bayes_rule() -> None:
    got = at_share(np.array([0.0, 2.0]), np.array([0.1, 0.1]))
    assert got.tolist() == pytest.approx([0.1, float(expit(2.0 + np.log(0.1 / 0.9)))])


@pytest.mark.parametrize("moved", [-3.0, 2.0, 3.0])
def test_a_town_whose_scores_are_all_higher_is_still_untouched(moved: float) -> None:
    """The old trap: every score a little higher read as destroyed buildings."""
    ratio_N = town(np.random.default_rng(5), 600, 0.0)[0] / 1.5 + moved
    found = estimate(ratio_N, np.zeros(600, np.int64), 1)
    assert found.share_G[0] < 0.02
    assert found.low_G[0] == 0.0
    assert (at_share(found.log_ratio_N, found.share_G[0]) > 0.5).mean() <= 0.01


def test_the_order_of_scores_stays_in_the_run() -> None:
    ratio_N, _ = town(np.random.default_rng(6), 400, 0.3)
    order_N = np.argsort(ratio_N)
    revised_N = estimate(ratio_N, np.zeros(400, np.int64), 1).log_ratio_N
    assert (np.diff(revised_N[order_N]) >= 0).all()


def test_towns_that_differ_more_widen_the_interval() -> None:
    ratio_N, _ = town(np.random.default_rng(4), 400, 0.3)
    widths = []
    for spread in (0.3, 3.0):
        shape = ScoreShape(intact_at_sd=spread, destroyed_at_sd=spread)
        calibration = replace(PLAIN, shape=shape)
        found = estimate_shares(
            ratio_N, np.zeros(400, np.int64), NONE, SharePrior.weak(1), calibration
        )
        widths.append(found.high_G[0] - found.low_G[0])
    assert widths[1] > widths[0]


def test_destroyed_buildings_that_score_like_intact_ones_are_counted_and_not_declared() -> None:
    """Of 120 that fell among 1000, 60 score like those that stand; who they are no score says."""
    rng = np.random.default_rng(7)
    ratio_N = np.concatenate([rng.normal(-1.0, 0.8, 940), rng.normal(6.0, 1.0, 60)])
    at = {"intact_at": -1.0, "intact_width": 0.8, "destroyed_at": 6.0, "destroyed_width": 1.0}
    found = {}
    for silent in (0.0, 3.0):
        calibration = replace(PLAIN, shape=ScoreShape(**at, silent=silent))
        area_N = np.zeros(1000, np.int64)
        found[silent] = estimate_shares(ratio_N, area_N, NONE, SharePrior.weak(1), calibration)
        p_N = at_share(found[silent].log_ratio_N, found[silent].share_G[0])
        assert np.count_nonzero(p_N >= 0.5) == 60
        assert p_N.sum() == pytest.approx(found[silent].run.expected, rel=0.02)
    seen, told = found[0.0].run, found[3.0].run
    assert seen.expected == pytest.approx(60, abs=2)
    assert seen.expected_high < 120
    assert told.expected == pytest.approx(130, abs=10)
    assert told.expected_high > 120
    assert seen.expected_low <= told.expected_low <= 60


def test_where_intact_scores_are_sure_nothing_is_silent() -> None:
    ratio_N = np.concatenate([np.full(900, -7.0), np.full(100, 7.0)])
    calibration = replace(PLAIN, shape=ScoreShape(silent=3.0))
    area_N = np.zeros(1000, np.int64)
    found = estimate_shares(ratio_N, area_N, NONE, SharePrior.weak(1), calibration)
    assert found.run.expected == pytest.approx(100, abs=1)


def test_a_building_of_no_area_is_refused() -> None:
    with pytest.raises(ShapeError, match="no area"):
        estimate(np.zeros(1), np.ones(1, np.int64), 1)


def test_a_certain_prior_is_refused() -> None:
    with pytest.raises(ShapeError, match="prior"):
        SharePrior(share_G=np.array([0.0]), strength=1.0)
