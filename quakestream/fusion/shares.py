"""Share of destroyed buildings per area, from the scores of its buildings.

The scores of an area are a mixture of those of intact and of destroyed buildings. Its share of
destroyed ones is where the mixture fits (label shift, Saerens et al. 2002,
doi:10.1162/089976602753284446). How both are spread differs between runs, so all shapes that fit
the scores of the whole run count, each by its probability (`fusion.score_shapes`). An area is drawn
towards its neighbours and the run, as strongly as areas of this run are alike.

Everything is computed on grids and on binned log-ratios. The result is the same for every order
of the buildings, and a million of them take seconds.

Axes: N buildings, G areas, A pairs of neighbouring areas or of a shape and a share, Z bins of a
log-ratio, U shapes, O shares of a grid.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quakestream.domain.calibration import Calibration
from quakestream.errors import ShapeError
from quakestream.fusion.score_shapes import (
    BINS,
    CENTRE_Z,
    CLUSTERING,
    SHARE_O,
    STEP,
    WeighedShapes,
    histograms,
    log_beta,
    weighed_shapes,
)

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

COVERAGE = 0.9
"""Probability that the truth lies in an interval."""
NORMAL_90 = 1.6449
"""Standard deviations on each side of the mean that hold 90 % of a normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SharePrior:
    """Shares of destroyed buildings that are expected before the scores are known.

    Raises:
        ShapeError: if a share is not between 0 and 1, or the strength is not above 0.
    """

    share_G: F64
    """Expected share of each area, above 0 and below 1."""
    strength: float
    """Number of buildings that the expectation counts as much as."""

    def __post_init__(self) -> None:
        if not ((self.share_G > 0) & (self.share_G < 1)).all() or not self.strength > 0:
            raise ShapeError(
                "prior of shares",
                expected="shares above 0 and below 1, and a strength above 0",
                got=f"{self.share_G.tolist()}, {self.strength}",
            )

    @classmethod
    def weak(cls, areas: int) -> Self:
        """Little is known: few events destroy many of the buildings of a town."""
        return cls(share_G=np.full(areas, WEAK_SHARE), strength=WEAK_STRENGTH)


WEAK_SHARE, WEAK_STRENGTH = 0.06, 3.0
"""Expected share, and the buildings that it counts as much as: 90 % of it lie below 0.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareEstimate:
    """Number of destroyed buildings of a whole run, with its 90 % interval."""

    buildings: int
    expected: float
    expected_low: float
    expected_high: float

    @property
    def share_3(self) -> tuple[float, float, float]:
        """The number and the ends of its interval as shares of the buildings."""
        ends = (self.expected, self.expected_low, self.expected_high)
        share, low, high = (value / max(self.buildings, 1) for value in ends)
        return share, low, high


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AreaShares:
    """Share and number of destroyed buildings of G areas, with 90 % intervals."""

    buildings_G: I64
    """Buildings with a score."""
    share_G: F64
    """Share that probabilities assume: of all buildings that might stand there. The number below
    is of those that do, so as a share it is another one."""
    low_G: F64
    high_G: F64
    expected_G: F64
    """Number of destroyed buildings among those with a score."""
    expected_low_G: F64
    expected_high_G: F64
    run: ShareEstimate
    log_ratio_N: F64
    """Log-ratios of the buildings after the run's own scores are taken into account, for
    `at_share`; NaN where missing."""

    @property
    def expected_share_G3(self) -> F64:
        """The number and the ends of its interval as shares of the buildings. Maps publish it."""
        number_G3 = np.stack([self.expected_G, self.expected_low_G, self.expected_high_G], axis=1)
        return np.asarray(number_G3 / np.maximum(self.buildings_G, 1)[:, None])


def at_share(log_ratio_N: NDArray[np.floating], share_N: NDArray[np.floating] | float) -> F64:
    """Probability that a building is destroyed, where `share_N` of the buildings around it are."""
    share = np.asarray(share_N, np.float64)
    logit_N = np.asarray(log_ratio_N, np.float64) + np.log(share) - np.log1p(-share)
    return np.asarray(1.0 / (1.0 + np.exp(-logit_N)))


def adding_up(log_ratio_N: F64, area_N: I64, share_G: F64, number_G: F64) -> F64:
    """Log-ratios with one shift per area, so that probabilities add up to its expected number.

    The expected number counts whole bins of log-ratios and leaves hazard values out, and a
    building lies between bins and has hazard values of its own. Without the shift, they differ.

    Args:
        log_ratio_N: NaN stays NaN.
        area_N: area of each building, from 0 to G - 1.
        share_G: share of each area, at which the probabilities are stated.
        number_G: expected number of each area, above 0 and below the number of its log-ratios.
    """
    known_N = np.isfinite(log_ratio_N)
    ratio_n, area_n = log_ratio_N[known_N], area_N[known_N]
    low_G, high_G = np.full(len(share_G), -FURTHEST), np.full(len(share_G), FURTHEST)
    for _ in range(BISECTIONS):
        shift_G = (low_G + high_G) / 2
        p_n = at_share(ratio_n + shift_G[area_n], share_G[area_n])
        few_G = np.bincount(area_n, p_n, minlength=len(share_G)) < number_G
        low_G, high_G = np.where(few_G, shift_G, low_G), np.where(few_G, high_G, shift_G)
    return np.asarray(log_ratio_N + shift_G[area_N], np.float64)


def estimate_shares(
    log_ratio_N: NDArray[np.floating],
    area_N: I64,
    neighbour_A2: I64,
    prior: SharePrior,
    calibration: Calibration,
) -> AreaShares:
    """Estimates the share of destroyed buildings of each area.

    Args:
        log_ratio_N: of `fusion.calibration.log_ratio`; buildings with NaN are left out.
        area_N: area of each building, from 0 to G - 1.
        neighbour_A2: pairs of neighbouring areas, each pair once in any order; shape (0, 2) for
            none.
        prior: of the G areas.
        calibration: of the bundle that made the scores.

    Raises:
        ShapeError: if a building or a neighbour is of no area of the prior.
    """
    areas = len(prior.share_G)
    _check(log_ratio_N, area_N, neighbour_A2, areas)
    known_N = np.isfinite(log_ratio_N)
    count_GZ = histograms(np.asarray(log_ratio_N)[known_N], area_N[known_N], areas)
    run_GZ = count_GZ.sum(axis=0, keepdims=True)
    buildings_G = count_GZ.sum(axis=1)
    expected = float(np.average(prior.share_G, weights=buildings_G + 1e-9))
    shapes = weighed_shapes(run_GZ[0], calibration.shape, expected, prior.strength)
    start_GO = log_beta(np.array([expected]), prior.strength)
    ((_, run_GUO),) = _by_chunk(run_GZ, shapes, start_GO)
    run_share = float(run_GUO[0].sum(axis=0) @ SHARE_O)
    areas_GO = _start_of_areas(count_GZ, shapes, neighbour_A2, _moved(prior, expected, run_share))
    estimates = _area_estimates(count_GZ, shapes, areas_GO)
    revised_N = _revised(np.asarray(log_ratio_N, np.float64), area_N, estimates.log_ratio_GZ)
    number_G = estimates.number_G3[:, 1]
    run = _whole_run(run_GZ, shapes, start_GO, float(number_G.sum()))
    low_G, high_G = estimates.number_G3[:, 0], estimates.number_G3[:, 2]
    if np.count_nonzero(buildings_G) == 1:  # the same buildings have one interval
        only = int(np.argmax(buildings_G))
        low_G[only], high_G[only] = run.expected_low, run.expected_high
    return AreaShares(
        buildings_G=buildings_G,
        share_G=estimates.share_G,
        low_G=estimates.low_G,
        high_G=estimates.high_G,
        expected_G=number_G,
        expected_low_G=low_G,
        expected_high_G=high_G,
        run=run,
        log_ratio_N=adding_up(revised_N, area_N, estimates.share_G, number_G),
    )


FURTHEST, BISECTIONS = 16.0, 30
"""Furthest shift of log-odds that is looked for, and halvings of it: down to 3e-8. Evidence of
hazard values moves log-odds by less than 14."""
CHUNK = 500
"""Areas whose likelihoods are held at once."""
ALIKE = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Strengths, in buildings, with which an area may be drawn towards its surroundings."""
DRAWN_OUT = 0.5
"""Part of the way from the interval of a number to that of the share which it is drawn out."""
RUN_BUILDINGS = 50.0
"""Buildings of neighbours that count as much as the whole run in an area's surroundings."""


def _check(log_ratio_N: NDArray[np.floating], area_N: I64, neighbour_A2: I64, areas: int) -> None:
    if log_ratio_N.shape != area_N.shape:
        raise ShapeError("buildings and areas differ in length")
    for name, index in (("area of a building", area_N), ("neighbour", neighbour_A2)):
        if index.size and not (index.min() >= 0 and index.max() < areas):
            raise ShapeError(
                f"{name} is no area of the prior",
                expected=f"0 to {areas - 1}",
                got=f"{index.min()} to {index.max()}",
            )


def _whole_run(run_GZ: I64, shapes: WeighedShapes, start_GO: F64, expected: float) -> ShareEstimate:
    """The estimate of all areas together.

    Args:
        run_GZ: buildings of the run per bin, one row.
        start_GO: log-density of its share before the scores are known, one row.
        expected: sum of the numbers that are expected of the areas. The interval holds it.
    """
    estimates = _area_estimates(run_GZ, shapes, start_GO)
    (number_3,) = estimates.number_G3
    return ShareEstimate(
        buildings=int(run_GZ.sum()),
        expected=expected,
        expected_low=float(min(number_3[0], np.floor(expected))),
        expected_high=float(max(number_3[2], np.ceil(expected))),
    )


def _moved(prior: SharePrior, expected: float, run_share: float) -> SharePrior:
    """The prior after the scores of the whole run: its areas keep their odds to one another.

    Without this, few buildings in an area would leave it near what was expected of an unknown
    event, though the run shows what happened.
    """
    odds = run_share / (1.0 - run_share) * (1.0 - expected) / expected
    moved_G = prior.share_G * odds / (prior.share_G * odds + 1.0 - prior.share_G)
    return SharePrior(share_G=np.clip(moved_G, SHARE_O[0], SHARE_O[-1]), strength=prior.strength)


def _start_of_areas(
    count_GZ: I64, shapes: WeighedShapes, neighbour_A2: I64, prior: SharePrior
) -> F64:
    """Log-density of each area's share before its own scores, (G, O), drawn to its surroundings.

    Of several strengths with which it is drawn, the one under which all areas are likeliest.
    """
    own_GO = log_beta(prior.share_G, prior.strength)
    if len(count_GZ) == 1:
        return own_GO
    alone = [p_GUO.sum(axis=1) @ SHARE_O for _, p_GUO in _by_chunk(count_GZ, shapes, own_GO)]
    around_G = _surroundings(np.concatenate(alone), count_GZ.sum(axis=1), neighbour_A2)
    starts = [log_beta(around_G, strength) + own_GO for strength in ALIKE]
    return starts[int(np.argmax(_log_evidence(count_GZ, shapes, starts)))]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _AreaEstimates:
    """What scores say of areas."""

    share_G: F64
    low_G: F64
    high_G: F64
    number_G3: F64
    """Number of destroyed buildings: low end, mean and high end."""
    log_ratio_GZ: F64
    """Log-odds that a building of a bin is destroyed, less those of the share of its area."""


def _area_estimates(count_GZ: I64, shapes: WeighedShapes, start_GO: F64) -> _AreaEstimates:
    """Shares and numbers with their intervals, and what a score means in each area."""
    p_GO, number_G3 = np.empty_like(start_GO), np.empty((len(count_GZ), 3))
    p_GZ, p_ZUO = np.empty((len(count_GZ), BINS)), shapes.posterior_ZUO()
    for part, p_GUO in _by_chunk(count_GZ, shapes, start_GO):
        p_GO[part] = p_GUO.sum(axis=1)
        number_G3[part] = _numbers(count_GZ[part], p_ZUO, p_GUO)
        p_GZ[part] = np.tensordot(p_GUO, p_ZUO, axes=((1, 2), (1, 2)))
    buildings_G = count_GZ.sum(axis=1)
    share_G, low_G, high_G = _summary(p_GO, buildings_G)
    low_end_G = np.minimum(number_G3[:, 0], np.round(low_G * buildings_G))
    high_end_G = np.maximum(number_G3[:, 2], np.round(high_G * buildings_G))
    number_G3[:, 0] -= np.ceil(DRAWN_OUT * (number_G3[:, 0] - low_end_G))
    number_G3[:, 2] += np.ceil(DRAWN_OUT * (high_end_G - number_G3[:, 2]))
    logit_G = np.log(share_G) - np.log1p(-share_G)
    return _AreaEstimates(
        share_G=share_G,
        low_G=low_G,
        high_G=high_G,
        number_G3=number_G3,
        log_ratio_GZ=np.log(p_GZ) - np.log1p(-p_GZ) - logit_G[:, None],
    )


def _numbers(count_GZ: I64, p_ZUO: F64, p_GUO: F64) -> F64:
    """Number of destroyed buildings: low end, mean and high end per area, shape (G, 3).

    The mean counts the buildings themselves, not a share of all that might stand there: where each
    of ten scores is clear, their number is, too. No shape is exact, so `_area_estimates` draws the
    interval out towards that of the share, which more buildings like these would have.

    Args:
        count_GZ: buildings of each area per bin.
        p_ZUO: probability that a building of a bin is destroyed.
        p_GUO: probability of each shape and share of each area.
    """
    count_GZ, weight_GA = count_GZ.astype(np.float64), p_GUO.reshape(len(p_GUO), -1)
    p_ZA = p_ZUO.reshape(len(p_ZUO), -1)
    mean_GA, spread_GA = count_GZ @ p_ZA, count_GZ @ (p_ZA * (1.0 - p_ZA))
    return _with_chance(
        (weight_GA * mean_GA).sum(axis=1),
        _weighed_ends(mean_GA, weight_GA),
        CLUSTERING * (weight_GA * spread_GA).sum(axis=1),
        count_GZ.sum(axis=1),
    )


def _weighed_ends(value_GA: F64, weight_GA: F64) -> F64:
    """Ends of the interval of values with weights that sum to 1, shape (G, 2)."""
    order_GA = np.argsort(value_GA, axis=1, kind="stable")
    below_GA = np.cumsum(np.take_along_axis(weight_GA, order_GA, axis=1), axis=1)
    tail = (1.0 - COVERAGE) / 2
    columns = [np.argmax(below_GA >= at, axis=1) for at in (tail, 1.0 - tail - 1e-12)]
    places = [np.take_along_axis(order_GA, column[:, None], axis=1) for column in columns]
    return np.concatenate([np.take_along_axis(value_GA, place, axis=1) for place in places], axis=1)


def _with_chance(mean_G: F64, ends_G2: F64, variance_G: F64, count_G: F64) -> F64:
    """Whole numbers around a mean: what is not known of shapes, and chance, together."""
    chance_G = NORMAL_90 * np.sqrt(variance_G)
    low_G = mean_G - np.hypot(mean_G - ends_G2[:, 0], chance_G)
    high_G = mean_G + np.hypot(ends_G2[:, 1] - mean_G, chance_G)
    return np.stack(
        [np.maximum(np.floor(low_G), 0.0), mean_G, np.minimum(np.ceil(high_G), count_G)], axis=1
    )


def _by_chunk(count_GZ: I64, shapes: WeighedShapes, start_GO: F64) -> Iterator[tuple[slice, F64]]:
    """Probability of each shape and share for some areas after the others, (G, U, O).

    All shapes count by what the whole run says of them. It sums to 1 over shapes and shares.
    """
    for at in range(0, len(count_GZ), CHUNK):
        part = slice(at, at + CHUNK)
        log_GUO = shapes.log_likelihood(count_GZ[part]) + start_GO[part, None]
        p_GUO = np.exp(log_GUO - np.logaddexp.reduce(log_GUO, axis=2, keepdims=True))
        yield part, shapes.weight_U[:, None] * p_GUO


def _log_evidence(count_GZ: I64, shapes: WeighedShapes, starts: Sequence[F64]) -> F64:
    """Log-probability of the scores of all areas under each prior of `starts`."""
    evidence = np.zeros(len(starts))
    wholes = [start - np.logaddexp.reduce(start, axis=1, keepdims=True) for start in starts]
    for at in range(0, len(count_GZ), CHUNK):
        part = slice(at, at + CHUNK)
        log_GUO = shapes.log_likelihood(count_GZ[part])
        for number, whole_GO in enumerate(wholes):
            log_GU = np.logaddexp.reduce(log_GUO + whole_GO[part, None], axis=2)
            evidence[number] += np.logaddexp.reduce(log_GU + np.log(shapes.weight_U), axis=1).sum()
    return evidence


def _surroundings(share_G: F64, buildings_G: I64, neighbour_A2: I64) -> F64:
    """Share around each area: of its neighbours by their buildings, and of the whole run."""
    total = float(buildings_G.sum())
    run = float(share_G @ buildings_G) / total if total else float(share_G.mean())
    fallen_G = np.full(len(share_G), run * RUN_BUILDINGS)
    all_G = np.full(len(share_G), RUN_BUILDINGS)
    for one, other in (neighbour_A2.T, neighbour_A2.T[::-1]):
        np.add.at(fallen_G, one, share_G[other] * buildings_G[other])
        np.add.at(all_G, one, buildings_G[other])
    return np.asarray(np.clip(fallen_G / all_G, SHARE_O[0], SHARE_O[-1]), np.float64)


def _summary(p_GO: F64, buildings_G: I64) -> tuple[F64, F64, F64]:
    """Mean share per area, and its interval, whose ends are whole buildings where there are any."""
    below_GO = np.cumsum(p_GO, axis=1)
    tail = (1.0 - COVERAGE) / 2
    low_G = SHARE_O[np.argmax(below_GO >= tail, axis=1)]
    high_G = SHARE_O[np.argmax(below_GO >= 1.0 - tail, axis=1)]
    count_G = np.maximum(buildings_G, 1)
    there_G = buildings_G > 0
    low_G = np.where(there_G, np.floor(low_G * count_G) / count_G, low_G)
    high_G = np.where(there_G, np.minimum(np.ceil(high_G * count_G) / count_G, 1.0), high_G)
    return np.asarray(p_GO @ SHARE_O), low_G, high_G


def _revised(log_ratio_N: F64, area_N: I64, log_ratio_GZ: F64) -> F64:
    """Log-ratios by the shapes of this run, between the middles of bins; NaN stays NaN."""
    place_N = (np.nan_to_num(log_ratio_N) - CENTRE_Z[0]) / STEP
    place_N = np.clip(place_N, 0.0, BINS - 1.0)
    below_N = np.minimum(place_N.astype(np.int64), BINS - 2)
    part_N = place_N - below_N
    low_N, high_N = (log_ratio_GZ[area_N, below_N + step] for step in (0, 1))
    revised_N = low_N + part_N * (high_N - low_N)
    return np.asarray(np.where(np.isfinite(log_ratio_N), revised_N, np.nan), np.float64)
