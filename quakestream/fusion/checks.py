"""How many buildings fell, from spot checks of a sample and the map's probabilities of all.

The model is a logistic curve of the map's log-odds l, with an offset of its own for each stratum
g and each district r:

    logit P(yes) = a + b l + v_g + u_r,   v ~ N(0, s_g²), u ~ N(0, s_r²)

The map's ranking is the prior knowledge (b near 1), its level (a) is almost free: a map is
usually right about which buildings are worse, and often wrong about how many. Answers may show
that the score knows nothing (b near 0) or that its order is wrong (b below 0). Offsets let strata
and districts contradict the curve where their answers do. The sample was drawn by stratum, and
strata are in the model, so the design can be ignored (Little 2004); the number of buildings that
nobody checked is drawn for each of them, so a census has no uncertainty left.

The posterior is found by Laplace's method on a grid of (s_g, s_r), then corrected by importance
weights. All of it is deterministic for a seed.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LEVEL_SD = 3.0
"""Prior deviation of a, log-odds: between 1 in 400 and 400 to 1 of what the map says."""
SLOPE_MEAN, SLOPE_SD = 1.0, 0.7
STRATUM_SDS = (0.15, 0.5, 1.0)
DISTRICT_SDS = (0.4, 1.0, 1.8)
"""Deviations of the offsets that are tried, each with the same prior weight. Districts differ a
lot: shares of 2 % and 60 % lie 4.3 apart."""
NO_DISTRICTS = (0.1,)
"""Of the offset of a single district, which is no more than the level."""
LARGEST_LOGIT = 7.0
"""Probabilities beyond 0.001 and 0.999 count as these: nobody knows more from a picture."""
DRAWS = 2000
_NEWTON_STEPS, _TAIL_DF = 30, 6.0


def logit(p_N: Floats) -> Floats:
    """Log-odds of the map's probabilities, bounded."""
    bounded_N = np.clip(p_N, 1e-9, 1 - 1e-9)
    return np.clip(np.log(bounded_N / (1 - bounded_N)), -LARGEST_LOGIT, LARGEST_LOGIT)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Draws of the model's parameters, given the answers."""

    level_U: Floats
    slope_U: Floats
    stratum_UG: Floats
    district_UR: Floats

    def p_UN(self, logit_N: Floats, stratum_N: Integers, district_N: Integers) -> Floats:
        """Probability of yes of each building in each draw."""
        eta_UN = (
            self.level_U[:, None]
            + self.slope_U[:, None] * logit_N
            + self.stratum_UG[:, stratum_N]
            + self.district_UR[:, district_N]
        )
        return 1 / (1 + np.exp(-eta_UN))


def fit_curve(
    logit_N: Floats,
    stratum_N: Integers,
    district_N: Integers,
    yes_N: NDArray[np.bool_],
    sizes: tuple[int, int],
    seed: int = 0,
    draws: int = DRAWS,
) -> Curve:
    """The posterior of the model.

    Args:
        logit_N: the map's log-odds of the buildings with an answer.
        stratum_N: their strata.
        district_N: their districts.
        yes_N: their answers.
        sizes: number of strata and districts, those without an answer included.
    """
    rng = np.random.default_rng(seed)
    strata, stratum_n = np.unique(stratum_N, return_inverse=True)
    districts, district_n = np.unique(district_N, return_inverse=True)
    stratum_NG, district_NR = np.eye(len(strata))[stratum_n], np.eye(len(districts))[district_n]
    design_NM = np.column_stack([np.ones(len(yes_N)), logit_N, stratum_NG, district_NR])
    grid = list(product(STRATUM_SDS, DISTRICT_SDS if sizes[1] > 1 else NO_DISTRICTS))
    fits = [
        _laplace(design_NM, yes_N.astype(np.float64), _prior(len(strata), len(districts), *sds))
        for sds in grid
    ]
    x_UM, grid_U = _posterior(fits, draws, rng)
    sd_U2 = np.array(grid)[grid_U]
    first = 2 + len(strata)
    return Curve(
        level_U=x_UM[:, 0],
        slope_U=x_UM[:, 1],
        stratum_UG=_with_unseen(x_UM[:, 2:first], strata, sizes[0], sd_U2[:, 0], rng),
        district_UR=_with_unseen(x_UM[:, first:], districts, sizes[1], sd_U2[:, 1], rng),
    )


def _posterior(
    fits: "list[_Laplace]", draws: int, rng: np.random.Generator
) -> tuple[Floats, Integers]:
    """Draws of the parameters, and the point of the grid that each belongs to."""
    evidence = np.array([fit.log_evidence for fit in fits])
    weight = np.exp(evidence - evidence.max())
    counts = rng.multinomial(4 * draws, weight / weight.sum())
    parts = [fit.sample(rng, int(count)) for fit, count in zip(fits, counts, strict=True)]
    x_UM = np.concatenate([x for x, _ in parts])
    log_U = np.concatenate([log for _, log in parts])
    chosen = _resampled(log_U, draws, rng)
    return x_UM[chosen], np.repeat(np.arange(len(fits)), counts)[chosen]


def _with_unseen(
    seen_UM: Floats, columns: Integers, size: int, sd_U: Floats, rng: np.random.Generator
) -> Floats:
    """Offsets of all strata or districts: those without an answer are drawn from the prior."""
    all_UM = rng.standard_normal((len(seen_UM), size)) * sd_U[:, None]
    all_UM[:, columns] = seen_UM
    return all_UM


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Prior:
    mean_M: Floats
    precision_M: Floats


def _prior(strata: int, districts: int, stratum_sd: float, district_sd: float) -> _Prior:
    sd_M = np.concatenate(
        [[LEVEL_SD, SLOPE_SD], np.full(strata, stratum_sd), np.full(districts, district_sd)]
    )
    mean_M = np.zeros(len(sd_M))
    mean_M[1] = SLOPE_MEAN
    return _Prior(mean_M=mean_M, precision_M=sd_M**-2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Laplace:
    """A normal approximation of a posterior, and what corrects it."""

    design_NM: Floats
    yes_N: Floats
    prior: _Prior
    mode_M: Floats
    root_MM: Floats
    """Cholesky factor of the precision at the mode."""
    log_evidence: float

    def sample(self, rng: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        """Draws from a wider distribution, and their log importance weights."""
        size = len(self.mode_M)
        z_UM = rng.standard_normal((count, size))
        scale_U = np.sqrt(_TAIL_DF / rng.chisquare(_TAIL_DF, count)) if count else np.empty(0)
        step_UM = np.linalg.solve(self.root_MM.T, z_UM.T).T * scale_U[:, None]
        x_UM = self.mode_M + step_UM
        square_U = (z_UM**2).sum(axis=1) * scale_U**2
        proposal_U = -(_TAIL_DF + size) / 2 * np.log1p(square_U / _TAIL_DF)
        at_mode = _log_posterior(self.mode_M[None], self.design_NM, self.yes_N, self.prior)
        log_U = _log_posterior(x_UM, self.design_NM, self.yes_N, self.prior) - at_mode
        return x_UM, log_U - proposal_U


def _log_posterior(x_UM: Floats, design_NM: Floats, yes_N: Floats, prior: _Prior) -> Floats:
    eta_UN = x_UM @ design_NM.T
    fit_U = eta_UN @ yes_N - np.logaddexp(0, eta_UN).sum(axis=1)
    prior_U: Floats = -0.5 * ((x_UM - prior.mean_M) ** 2 @ prior.precision_M)
    value_U: Floats = fit_U + prior_U
    return value_U


def _laplace(design_NM: Floats, yes_N: Floats, prior: _Prior) -> _Laplace:
    """The mode by Newton's method with halved steps, and the curvature there."""
    x_M = prior.mean_M.copy()
    value = float(_log_posterior(x_M[None], design_NM, yes_N, prior)[0])
    for _ in range(_NEWTON_STEPS):
        p_N = 1 / (1 + np.exp(-(design_NM @ x_M)))
        slope_M = design_NM.T @ (yes_N - p_N) - prior.precision_M * (x_M - prior.mean_M)
        bend_MM = (design_NM.T * (p_N * (1 - p_N))) @ design_NM + np.diag(prior.precision_M)
        step_M = np.linalg.solve(bend_MM, slope_M)
        size = 1.0
        while size > 1e-4:
            new = float(_log_posterior((x_M + size * step_M)[None], design_NM, yes_N, prior)[0])
            if new >= value:
                break
            size /= 2
        gain, value = new - value, max(new, value)
        x_M = x_M + size * step_M
        if gain < 1e-9:
            break
    p_N = 1 / (1 + np.exp(-(design_NM @ x_M)))
    bend_MM = (design_NM.T * (p_N * (1 - p_N))) @ design_NM + np.diag(prior.precision_M)
    root_MM: Floats = np.linalg.cholesky(bend_MM).astype(np.float64)
    log_det = 2 * float(np.log(np.diag(root_MM)).sum())
    evidence = value + 0.5 * float(np.log(prior.precision_M).sum()) - 0.5 * log_det
    return _Laplace(
        design_NM=design_NM,
        yes_N=yes_N,
        prior=prior,
        mode_M=x_M,
        root_MM=root_MM,
        log_evidence=evidence,
    )


def _resampled(log_U: Floats, draws: int, rng: np.random.Generator) -> Integers:
    """Indices drawn by importance weights; the largest weights are cut (Ionides 2008)."""
    weight_U = np.exp(log_U - log_U.max())
    weight_U = np.minimum(weight_U, weight_U.mean() * np.sqrt(len(weight_U)))
    edges_U = np.cumsum(weight_U) / weight_U.sum()
    return np.searchsorted(edges_U, (rng.random() + np.arange(draws)) / draws).clip(
        max=len(log_U) - 1
    )
