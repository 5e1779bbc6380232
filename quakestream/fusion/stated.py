"""Shares of destroyed buildings with hazard evidence beside the scores, estimated or stated.

Evidence of hazard values has two parts. Its level in an area says how many buildings fell there,
and so belongs to the share. The rest says which of them fell, and is added to the log-ratios of
the scores once the share is known. Added whole, the level would count twice: once in the share
that the scores give, and once more in each building.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from quakestream.domain.calibration import Calibration
from quakestream.fusion.score_shapes import CLUSTERING
from quakestream.fusion.shares import (
    NORMAL_90,
    WEAK_SHARE,
    WEAK_STRENGTH,
    AreaShares,
    ShareEstimate,
    SharePrior,
    adding_up,
    at_share,
    estimate_shares,
)

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

HAZARD_STRENGTH = 4.0
"""Buildings that the share expected from hazard values counts as much as."""
LABELS_STRENGTH = 30.0
"""Buildings that the share counts as much as which labels of the event have stated."""
FURTHEST_SD = 20.0
"""Standard deviations within which the log-ratios of a region are looked for."""
BISECTIONS = 40
LEAST_SD = 0.01
"""Least of what a region may move all log-ratios by."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredBuildings:
    """What is known of N buildings in G areas before a share is."""

    log_ratio_N: F64
    """From the scores, of `fusion.calibration.log_ratio`; NaN where there is no score."""
    hazard_N: F64
    """From hazard values: log-odds of destroyed over those of the model's own class shares; NaN
    where they say nothing."""
    area_N: I64
    """Area of each building, from 0 to G - 1."""
    areas: int
    neighbour_A2: I64
    """Pairs of neighbouring areas."""
    calibration: Calibration
    of_event: bool = False
    """True where the calibration was fitted on labels of this very event, whose share of destroyed
    buildings it then states."""


def share_prior(buildings: ScoredBuildings) -> SharePrior:
    """Expected shares before the scores are known, moved by the level of hazard evidence.

    They are weak, unless labels of this event have stated its share.
    """
    _, level_G = within_areas(buildings.hazard_N, buildings.area_N, buildings.areas)
    share, strength = WEAK_SHARE, WEAK_STRENGTH
    if buildings.of_event:
        share, strength = buildings.calibration.share, LABELS_STRENGTH
    elif np.isfinite(buildings.hazard_N).any():
        strength = max(HAZARD_STRENGTH, WEAK_STRENGTH)
    return SharePrior(share_G=at_share(level_G, share), strength=strength)


def shares_from_scores(buildings: ScoredBuildings) -> AreaShares:
    """Shares estimated from the scores; hazard evidence then says which buildings fell.

    It does not say how many: the probabilities still add up to the expected numbers.
    """
    rest_N, _ = within_areas(buildings.hazard_N, buildings.area_N, buildings.areas)
    found = estimate_shares(
        buildings.log_ratio_N,
        buildings.area_N,
        buildings.neighbour_A2,
        share_prior(buildings),
        buildings.calibration,
    )
    if not rest_N.any():
        return found
    moved_N = found.log_ratio_N + rest_N
    fitted_N = adding_up(moved_N, buildings.area_N, found.share_G, found.expected_G)
    return replace(found, log_ratio_N=fitted_N)


def shares_as_stated(buildings: ScoredBuildings, share_N: F64, *, everywhere: bool) -> AreaShares:
    """Expected numbers at shares that are stated.

    Args:
        share_N: stated share around each building, above 0 and below 1.
        everywhere: one share for the whole run, which hazard evidence spreads over the areas;
            else the shares say what areas they are of.
    """
    group_N = np.zeros_like(buildings.area_N) if everywhere else buildings.area_N
    rest_N, _ = within_areas(buildings.hazard_N, group_N, 1 if everywhere else buildings.areas)
    return stated_shares(
        buildings.log_ratio_N + rest_N,
        buildings.area_N,
        share_N,
        buildings.areas,
        buildings.calibration,
    )


def share_by_scores(buildings: ScoredBuildings) -> ShareEstimate:
    """What the scores of a run alone say of it, whatever is stated: as `shares_from_scores`."""
    alone = replace(buildings, hazard_N=np.full_like(buildings.hazard_N, np.nan))
    return shares_from_scores(alone).run


def within_areas(log_ratio_N: F64, area_N: I64, areas: int) -> tuple[F64, F64]:
    """Parts hazard evidence into the level of each area and the rest of each building.

    Args:
        log_ratio_N: NaN where nothing is known.
        area_N: area of each building, from 0 to `areas` - 1.
        areas: number of areas.

    Returns:
        The rest, with mean 0 in each area, 0 where nothing is known; and the levels, 0 where
        nothing is known.
    """
    known_N = np.isfinite(log_ratio_N)
    count_G = np.bincount(area_N[known_N], minlength=areas)
    total_G = np.bincount(area_N[known_N], log_ratio_N[known_N], minlength=areas)
    level_G = np.asarray(total_G / np.maximum(count_G, 1), np.float64)
    return np.where(known_N, log_ratio_N - level_G[area_N], 0.0), level_G


def stated_shares(
    log_ratio_N: F64, area_N: I64, share_N: F64, areas: int, calibration: Calibration
) -> AreaShares:
    """Expected numbers of destroyed buildings where the share of them is stated, not estimated.

    In a region that the calibration does not know, all scores may be higher or lower. The stated
    share says by how much: the more buildings, the nearer comes their expected number to it.
    Intervals hold what is left unknown of that, and chance. The share itself has none.

    Args:
        log_ratio_N: as for `estimate_shares`.
        area_N: area of each building, from 0 to `areas` - 1.
        share_N: stated share around each building, above 0 and below 1.
        areas: number of areas.
        calibration: of the bundle that made the scores.
    """
    known_N = np.isfinite(log_ratio_N)
    ratio_N, share_N, area_N = log_ratio_N[known_N], share_N[known_N], area_N[known_N]
    known = max(np.hypot(calibration.region_sd, calibration.covariance[0][0] ** 0.5), LEAST_SD)
    shift, sd = shift_to_share(ratio_N, share_N, float(known))
    shifts = (shift - NORMAL_90 * sd, shift, shift + NORMAL_90 * sd)
    p_3N = [at_share(ratio_N + moved, share_N) for moved in shifts]
    low_G, expected_G, high_G = (_sums(p_N, area_N, areas) for p_N in p_3N)
    spread_G = _sums(p_3N[1] * (1 - p_3N[1]), area_N, areas)
    count_G = np.bincount(area_N, minlength=areas).astype(np.int64)
    share_G = _sums(share_N, area_N, areas) / np.maximum(count_G, 1)
    bounds_G2 = _interval(expected_G, low_G, high_G, spread_G, count_G)
    total = int(count_G.sum())
    low, whole, high, spread = (
        np.atleast_1d(v.sum()) for v in (low_G, expected_G, high_G, spread_G)
    )
    ends = _interval(whole, low, high, spread, np.array([total]))[0]
    return AreaShares(
        buildings_G=count_G,
        share_G=share_G,
        low_G=share_G,
        high_G=share_G,
        expected_G=expected_G,
        expected_low_G=bounds_G2[:, 0],
        expected_high_G=bounds_G2[:, 1],
        run=ShareEstimate(
            buildings=total,
            expected=float(expected_G.sum()),
            expected_low=float(ends[0]),
            expected_high=float(ends[1]),
        ),
        log_ratio_N=np.where(known_N, log_ratio_N + shift, np.nan),
    )


def shift_to_share(ratio_N: F64, share_N: F64, region_sd: float) -> tuple[float, float]:
    """By how much log-ratios are off where the share of destroyed buildings is known.

    The intercept of a logistic regression on the stated shares, with the differences between
    regions as its prior and neighbours that count as one (`CLUSTERING`).

    Args:
        ratio_N: log-ratios by the calibration.
        share_N: stated share around each building.
        region_sd: standard deviation of what a region moves all log-ratios by, above 0.

    Returns:
        What is to be added to all of them, and its standard deviation.
    """
    low, high = -FURTHEST_SD * region_sd, FURTHEST_SD * region_sd
    for _ in range(BISECTIONS):
        shift = (low + high) / 2
        too_many = float((at_share(ratio_N + shift, share_N) - share_N).sum())
        if shift / region_sd**2 + too_many / CLUSTERING > 0:
            high = shift
        else:
            low = shift
    p_N = at_share(ratio_N + shift, share_N)
    information = 1 / region_sd**2 + float((p_N * (1 - p_N)).sum()) / CLUSTERING
    return shift, information**-0.5


def _sums(value_N: F64, area_N: I64, areas: int) -> F64:
    return np.asarray(np.bincount(area_N, value_N, minlength=areas), np.float64)


def _interval(expected_G: F64, low_G: F64, high_G: F64, spread_G: F64, count_G: I64) -> F64:
    """Ends of the intervals of numbers, whole buildings, shape (G, 2).

    Args:
        low_G: the number where all scores are off by so much that it is more in 5 % of cases.
        high_G: the same to the other side.
        spread_G: variance of the number, if the probabilities are right.
    """
    chance_G = NORMAL_90 * np.sqrt(spread_G)
    down_G = np.hypot(expected_G - low_G, chance_G)
    up_G = np.hypot(high_G - expected_G, chance_G)
    return np.stack(
        [
            np.maximum(np.floor(expected_G - down_G), 0.0),
            np.minimum(np.ceil(expected_G + up_G), count_G),
        ],
        axis=1,
    )
