"""Share of destroyed buildings per area, from the scores of its buildings.

Of an area with the share π, the scores are a mixture of those of destroyed and of intact
buildings. With the log-ratio r of a building, the likelihood of π is the product over buildings of
1 - π + π exp(r) (label shift, Saerens et al. 2002, doi:10.1162/089976602753284446). A run may
show buildings that score higher or lower than those the calibration was fitted on. All its
log-ratios are therefore moved by one unknown amount, whose spread between regions is known.

Everything is computed on grids and on binned log-ratios. The result is the same for every order
of the buildings, and a million of them take seconds.

Axes: N buildings, G areas, A pairs of neighbouring areas, Z bins of a log-ratio or places of a
grid.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quakestream.domain.calibration import Calibration
from quakestream.errors import ShapeError

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

COVERAGE = 0.9
"""Probability that the truth lies in an interval."""


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
        """Next to nothing is known: few events destroy many buildings."""
        return cls(share_G=np.full(areas, WEAK_SHARE), strength=WEAK_STRENGTH)


WEAK_SHARE, WEAK_STRENGTH = 0.1, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareEstimate:
    """Share and number of destroyed buildings of a whole run, with 90 % intervals."""

    buildings: int
    share: float
    low: float
    high: float
    expected: float
    expected_low: float
    expected_high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AreaShares:
    """Share and number of destroyed buildings of G areas, with 90 % intervals."""

    buildings_G: I64
    """Buildings with a score."""
    share_G: F64
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


def at_share(log_ratio_N: NDArray[np.floating], share_N: NDArray[np.floating] | float) -> F64:
    """Probability that a building is destroyed, where `share_N` of the buildings around it are."""
    share = np.asarray(share_N, np.float64)
    logit_N = np.asarray(log_ratio_N, np.float64) + np.log(share) - np.log1p(-share)
    return np.asarray(1.0 / (1.0 + np.exp(-logit_N)))


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
    count_GZ = _histograms(np.asarray(log_ratio_N)[known_N], area_N[known_N], areas)
    shift_Z, weight_Z = _run_shifts(count_GZ, prior, calibration)
    density_GZ = _posteriors(count_GZ, shift_Z, weight_Z, neighbour_A2, prior)
    run_Z = _posteriors(
        count_GZ.sum(axis=0, keepdims=True),
        shift_Z,
        weight_Z,
        np.empty((0, 2), np.int64),
        SharePrior(share_G=np.array([_mean_share(prior, count_GZ)]), strength=prior.strength),
    )
    buildings_G = count_GZ.sum(axis=1)
    share_G, low_G, high_G = _summary(density_GZ)
    run_share, run_low, run_high = (float(value_G[0]) for value_G in _summary(run_Z))
    moved = float(weight_Z @ shift_Z)
    total = int(buildings_G.sum())
    return AreaShares(
        buildings_G=buildings_G,
        share_G=share_G,
        low_G=low_G,
        high_G=high_G,
        expected_G=share_G * buildings_G,
        expected_low_G=low_G * buildings_G,
        expected_high_G=high_G * buildings_G,
        run=ShareEstimate(
            buildings=total,
            share=run_share,
            low=run_low,
            high=run_high,
            expected=run_share * total,
            expected_low=run_low * total,
            expected_high=run_high * total,
        ),
        log_ratio_N=np.asarray(log_ratio_N, np.float64) - moved,
    )


WIDEST = 12.0
"""Log-ratios beyond this count as this."""
BINS = 240
CENTRE_Z: F64 = np.asarray((np.arange(BINS) + 0.5) * (2 * WIDEST / BINS) - WIDEST, np.float64)
SHARE_Z: F64 = np.asarray(1.0 / (1.0 + np.exp(-np.linspace(-9.0, 6.0, 121))), np.float64)
"""Shares at which likelihoods are computed, evenly spaced in log-odds."""
SHIFTS: F64 = np.linspace(-2.5, 2.5, 21, dtype=np.float64)
"""Shifts of a run, in standard deviations between regions."""


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


def _histograms(log_ratio_N: NDArray[np.floating], area_N: I64, areas: int) -> I64:
    """Buildings per area and bin, shape (G, Z)."""
    place_N = np.floor((np.asarray(log_ratio_N, np.float64) + WIDEST) * (BINS / (2 * WIDEST)))
    bin_N = np.clip(place_N, 0, BINS - 1).astype(np.int64)
    count = np.bincount(area_N * BINS + bin_N, minlength=areas * BINS)
    return np.asarray(count.reshape(areas, BINS), np.int64)


def _run_shifts(count_GZ: I64, prior: SharePrior, calibration: Calibration) -> tuple[F64, F64]:
    """Shifts of the run's log-ratios, and the probability of each."""
    weight_Z = np.exp(-0.5 * SHIFTS**2)
    return SHIFTS * calibration.region_sd, weight_Z / weight_Z.sum()


def _posteriors(
    count_GZ: I64, shift_Z: F64, weight_Z: F64, neighbour_A2: I64, prior: SharePrior
) -> F64:
    """Probability of each share of the grid, per area, shape (G, Z)."""
    start_GZ = _beta(prior.share_G, prior.strength)
    total_GZ = np.zeros_like(start_GZ)
    for shift, weight in zip(shift_Z, weight_Z, strict=True):
        ratio_Z = np.exp(CENTRE_Z - shift)
        mixed_ZZ = np.log1p(SHARE_Z[None, :] * (ratio_Z[:, None] - 1.0))
        log_GZ = count_GZ @ mixed_ZZ + start_GZ
        p_GZ = np.exp(log_GZ - log_GZ.max(axis=1, keepdims=True))
        total_GZ += weight * p_GZ / p_GZ.sum(axis=1, keepdims=True)
    return total_GZ


def _beta(share_G: F64, strength: float) -> F64:
    """Logarithm of a beta density of the share, over the evenly spaced log-odds of the grid."""
    a_G, b_G = share_G * strength, (1.0 - share_G) * strength
    return a_G[:, None] * np.log(SHARE_Z) + b_G[:, None] * np.log1p(-SHARE_Z)


def _mean_share(prior: SharePrior, count_GZ: I64) -> float:
    """Expected share of the whole run."""
    weight_G = count_GZ.sum(axis=1) + 1e-9
    return float(weight_G @ prior.share_G / weight_G.sum())


def _summary(p_GZ: F64) -> tuple[F64, F64, F64]:
    """Mean share and the ends of its interval, per area."""
    below_GZ = np.cumsum(p_GZ, axis=1)
    tail = (1.0 - COVERAGE) / 2
    low_G = SHARE_Z[np.argmax(below_GZ >= tail, axis=1)]
    high_G = SHARE_Z[np.argmax(below_GZ >= 1.0 - tail, axis=1)]
    return p_GZ @ SHARE_Z, low_G, high_G
