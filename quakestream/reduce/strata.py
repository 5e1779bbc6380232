"""Draws a sample of buildings for spot checks: strata, allocation, inclusion probabilities.

A checked building tells most where the map is unsure. Its expected standard deviation is
sqrt(p (1 - p)), with p the map's probability. Strata are ranges of p that hold equal shares of
the sum of these deviations, and get checks in proportion to it (Neyman 1934). Probabilities count
as at least `LEAST_P`, so that buildings of which the map is certain are checked too.

A map is often right about which buildings are worse, and wrong about how many fell. So deviations
are those over a few levels: shifts of the log-odds of all buildings.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LEAST_P = 0.005
"""A map is never trusted to be right more often than in 99.5 % of cases."""
STATED_LEVELS = (-1.0, 1.0)
"""Levels where the map states the share of destroyed that it assumes: that may be off by this."""
FREE_LEVELS = (-3.0, 0.0)
"""Levels where it does not: it was trained on as many destroyed as intact, and few fell."""
LEAST_CHECKS = 2
"""Checks of a stratum, where it has as many buildings: one tells nothing of spread."""
CHECKS_PER_STRATUM = 10
"""Checks of a stratum where there are enough."""
MOST_STRATA = 10

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Buildings of one domain whose probability lies in a range."""

    domain: int
    """Index of the group of districts; 0 where the sample is not drawn by district."""
    low: float
    """Smallest probability, included."""
    high: float
    """Largest probability, excluded; infinite in the last stratum of a domain."""
    buildings: int
    checks: int

    @property
    def inclusion(self) -> float:
        """Probability that a building of this stratum is drawn."""
        return self.checks / self.buildings


def expected_sd(p_N: Floats, levels: tuple[float, ...] = FREE_LEVELS) -> Floats:
    """Expected standard deviation of the answer for each building, whatever the level is.

    Checks in proportion to it have the least variance in the mean over levels, each relative to
    the best that is possible at that level.
    """
    bounded_N = np.clip(p_N, 1e-9, 1 - 1e-9)
    square_N = np.zeros(len(p_N))
    for level in levels:
        shifted_N = bounded_N / (bounded_N + (1 - bounded_N) * np.exp(-level))
        shifted_N = np.clip(shifted_N, LEAST_P, 1 - LEAST_P)
        variance_N = shifted_N * (1 - shifted_N)
        square_N += variance_N / max(float(np.sqrt(variance_N).mean()), LEAST_P) ** 2
    sd_N: Floats = np.sqrt(square_N / len(levels))
    return sd_N


def strata_of(
    p_N: Floats, domain_N: Integers, checks: int, levels: tuple[float, ...] = FREE_LEVELS
) -> tuple[Stratum, ...]:
    """Strata with their checks, which sum to `checks`, or to all buildings where those are fewer.

    Args:
        p_N: the map's probabilities, 0 to 1.
        domain_N: a group of districts of each building, 0, 1, ...
        levels: shifts of the log-odds that the map's level may need.
    """
    checks = min(checks, len(p_N))
    domains = int(domain_N.max(initial=-1)) + 1
    sd_N = expected_sd(p_N, levels)
    size_R = np.bincount(domain_N, minlength=domains)
    weight_R: Floats = np.bincount(domain_N, sd_N, domains).astype(np.float64)
    share_R = allocate(weight_R, size_R, checks)
    bounds = []
    for domain, share in enumerate(share_R):
        inside_N = domain_N == domain
        for low, high in _ranges(p_N[inside_N], sd_N[inside_N], int(share)):
            rows_N = inside_N & (p_N >= low) & (p_N < high)
            bounds.append((domain, low, high, int(rows_N.sum()), float(sd_N[rows_N].sum())))
    checks_G = np.zeros(len(bounds), np.int64)
    domain_G = np.array([b[0] for b in bounds], np.int64)
    for domain, share in enumerate(share_R):
        rows = np.flatnonzero(domain_G == domain)
        weights = np.array([bounds[g][4] for g in rows])
        sizes = np.array([bounds[g][3] for g in rows], np.int64)
        checks_G[rows] = allocate(weights, sizes, int(share))
    return tuple(
        Stratum(domain=d, low=low, high=high, buildings=size, checks=int(n))
        for (d, low, high, size, _), n in zip(bounds, checks_G, strict=True)
    )


def _ranges(p_N: Floats, sd_N: Floats, checks: int) -> list[tuple[float, float]]:
    """Ranges of probability with equal sums of expected deviations; ties stay together."""
    number = int(np.clip(checks // CHECKS_PER_STRATUM, 1, MOST_STRATA))
    if not len(p_N):
        return []
    by_p = np.argsort(p_N, kind="stable")
    order_N, sum_N = p_N[by_p], np.cumsum(sd_N[by_p])
    cuts = np.searchsorted(sum_N, sum_N[-1] * np.arange(1, number) / number)
    inner = sorted({float(v) for v in order_N[cuts]} - {float(order_N[0])})
    edges = [0.0, *inner, np.inf]
    return list(pairwise(edges))


def allocate(weight_G: Floats, size_G: Integers, checks: int) -> Integers:
    """Checks per stratum in proportion to its weight, by largest remainders.

    No stratum gets more checks than it has buildings. Each gets `LEAST_CHECKS` where there are
    enough.
    """
    least_G = np.minimum(size_G, LEAST_CHECKS if checks >= LEAST_CHECKS * len(size_G) else 0)
    given_G = least_G.astype(np.int64)
    while (left := min(checks, int(size_G.sum())) - int(given_G.sum())) > 0:
        open_G = given_G < size_G
        # What a stratum deserves of the whole, less what it has already.
        ideal_G = checks * weight_G / max(float(weight_G.sum()), 1e-12)
        want_G = np.where(open_G, np.maximum(ideal_G - given_G, 1e-9), 0.0)
        part_G = left * want_G / want_G.sum()
        whole_G = np.minimum(np.floor(part_G).astype(np.int64), size_G - given_G)
        if not whole_G.any():
            whole_G[np.argmax(np.where(open_G, part_G, -1.0))] = 1
        given_G += whole_G
    return given_G


def stratum_numbers(strata: tuple[Stratum, ...], p_N: Floats, domain_N: Integers) -> Integers:
    """The stratum of each building; -1 for one of no stratum."""
    stratum_N = np.full(len(p_N), -1, np.int64)
    for g, one in enumerate(strata):
        stratum_N[(domain_N == one.domain) & (p_N >= one.low) & (p_N < one.high)] = g
    return stratum_N


def draw(strata: tuple[Stratum, ...], stratum_N: Integers, seed: int) -> Integers:
    """Rows that are checked, in the order of strata: simple random samples without replacement."""
    rng = np.random.default_rng(seed)
    parts = [
        rng.permutation(np.flatnonzero(stratum_N == g))[: one.checks]
        for g, one in enumerate(strata)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
