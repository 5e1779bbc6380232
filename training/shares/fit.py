"""Fits the calibration of a bundle on towns that it was not trained on.

The log-ratio is a logistic model of the score with one slope for all towns and an intercept per
town. A town's classes have equal weight, and so have towns, so that neither a large city nor a
share of destroyed buildings decides. What is left between towns is their spread: where intact and
destroyed buildings have their peaks, and how wide these are.

The area of a footprint is no feature: of real cities destroyed buildings are polygons drawn by
people and intact ones boxes of a detector, so the area would tell the two apart where there is
nothing to see.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from quakestream.domain.calibration import SCORE_LOGIT, Calibration, ScoreShape
from quakestream.errors import RequestError
from quakestream.fusion.calibration import score_logit
from training.metrics import blocks_of

F64 = NDArray[np.float64]

SHARE = 0.5
"""Share of destroyed buildings that a fitted calibration assumes: its classes have equal weight."""
RIDGE = 1e-2
BLOCK_M = 150.0
DRAWS = 40
"""Draws of the bootstrap over blocks."""
LEAST_DESTROYED = 8
"""Fewest destroyed buildings of a town that tell where their peak is."""
UPPER = 0.9
"""Quantile of intact scores that tells their width above the peak; more is wrong labels."""
NORMAL_UPPER = 1.2816
LEAST_WIDTH = 0.4
"""Least width of a peak, log-ratios: scores are bounded, so a peak may lie at the bound."""
LEAST_SPREAD = 1.0
"""Least standard deviation between towns, log-ratios: two or three families tell little of it."""


NAMES = {"adiyaman": "Adıyaman", "turkoglu-hatay": "Türkoğlu and Hatay"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TownFigures:
    """Peaks of one town, log-ratios; NaN where it has too few destroyed buildings."""

    family: str
    """City, or `synthetic` for all towns of the generator."""
    intact_at: float
    intact_width: float
    destroyed_at: float
    destroyed_width: float


def features_of(table: pd.DataFrame) -> dict[str, F64]:
    """Features of a table by name."""
    return {
        SCORE_LOGIT: score_logit(table["score"].to_numpy()),
        "log_area_m2": np.log(table["area_m2"].to_numpy()),
        "log_difference": np.log1p(table["pre_post_difference"].to_numpy()),
    }


def fit(tables: pd.DataFrame, *, features: Sequence[str] = (SCORE_LOGIT,)) -> Calibration:
    """Fits a calibration on the buildings of several towns.

    Args:
        tables: rows of `training.shares.tables`, column `family` added.
        features: names, `score_logit` first.

    Raises:
        RequestError: if no town has destroyed and intact buildings.
    """
    values = features_of(tables)
    value_NM = np.stack([values[name] for name in features], axis=1)
    centres = (0.0, *value_NM[:, 1:].mean(axis=0))
    value_NM = value_NM - np.array(centres)
    coefficients = _logistic(tables, value_NM)
    draws = [_logistic(drawn, value_NM[rows]) for drawn, rows in _resampled(tables)]
    covariance = np.atleast_2d(np.cov(np.array(draws).T))
    ratio_N = coefficients[0] + value_NM @ coefficients[1:]
    shape = shape_of(town_figures(tables, ratio_N))
    return Calibration(
        share=SHARE,
        features=tuple(features),
        weights=tuple(float(v) for v in coefficients[1:]),
        intercept=float(coefficients[0]),
        covariance=tuple(tuple(float(v) for v in row) for row in covariance),
        region_sd=shape.intact_at_sd,
        fitted_on=_words(tables),
        centres=tuple(float(v) for v in centres),
        shape=shape,
    )


def can_fit(tables: pd.DataFrame) -> bool:
    """True if a town has destroyed buildings enough, and intact ones."""
    destroyed = tables.groupby("town")["destroyed"]
    return bool(((destroyed.sum() >= LEAST_DESTROYED) & ~destroyed.all()).any())


def _logistic(tables: pd.DataFrame, value_NM: F64) -> F64:
    """Mean intercept of towns, and the common weights."""
    destroyed_N = tables["destroyed"].to_numpy(bool)
    names, town_N = np.unique(tables["town"].to_numpy(str), return_inverse=True)
    weight_N, both = np.zeros(len(tables)), []
    for number in range(len(names)):
        here_N = town_N == number
        if destroyed_N[here_N].sum() < LEAST_DESTROYED or destroyed_N[here_N].all():
            continue
        both.append(number)
        for state in (True, False):
            of_state_N = here_N & (destroyed_N == state)
            weight_N[of_state_N] = 1.0 / of_state_N.sum()
    if not both:
        raise RequestError("no town has destroyed and intact buildings", "calibration")
    weight_N /= weight_N.sum()
    sign_N = np.where(destroyed_N, 1.0, -1.0)

    def loss(x: F64) -> tuple[float, F64]:
        margin_N = sign_N * (x[town_N] + value_NM @ x[len(names) :])
        slope_N = -weight_N * sign_N * expit(-margin_N)
        town = np.bincount(town_N, weights=slope_N, minlength=len(names))
        gradient = np.concatenate([town, slope_N @ value_NM]) + RIDGE * x
        penalty = RIDGE / 2 * float(x @ x)
        return float(weight_N @ np.logaddexp(0.0, -margin_N)) + penalty, gradient

    found = minimize(loss, np.zeros(len(names) + value_NM.shape[1]), jac=True, method="L-BFGS-B").x
    return np.concatenate([[found[both].mean()], found[len(names) :]])


def _resampled(tables: pd.DataFrame) -> list[tuple[pd.DataFrame, NDArray[np.int64]]]:
    """Draws of blocks with replacement, inside each town."""
    rng = np.random.default_rng(0)
    block_N = blocks_of(
        tables["x_m"], tables["y_m"], side_m=BLOCK_M, group_N=tables["pair"].to_numpy(str)
    )
    rows_of = [np.flatnonzero(block_N == block) for block in range(block_N.max() + 1)]
    town_of = tables["town"].to_numpy(str)[[rows[0] for rows in rows_of]]
    found = []
    for _ in range(DRAWS):
        drawn = [
            rows_of[block]
            for town in np.unique(town_of)
            for block in rng.choice(np.flatnonzero(town_of == town), (town_of == town).sum())
        ]
        rows = np.concatenate(drawn)
        found.append((tables.iloc[rows], rows))
    return found


def town_figures(tables: pd.DataFrame, ratio_N: F64) -> list[TownFigures]:
    """Peaks and widths of each town."""
    found = []
    for _, rows in tables.groupby("town").indices.items():
        destroyed_N = tables["destroyed"].to_numpy(bool)[rows]
        intact, fallen = ratio_N[rows][~destroyed_N], ratio_N[rows][destroyed_N]
        enough = len(fallen) >= LEAST_DESTROYED
        middle, upper = np.quantile(intact, [0.5, UPPER])
        found.append(
            TownFigures(
                family=str(tables["family"].iloc[rows[0]]),
                intact_at=float(middle),
                intact_width=max(float((upper - middle) / NORMAL_UPPER), LEAST_WIDTH),
                destroyed_at=float(np.median(fallen)) if enough else float("nan"),
                destroyed_width=float(fallen.std()) if enough else float("nan"),
            )
        )
    return found


def shape_of(towns: Sequence[TownFigures]) -> ScoreShape:
    """The shape of scores and its spread, every family of towns with equal weight."""
    frame = pd.DataFrame(
        [{name: getattr(t, name) for name in TownFigures.__slots__} for t in towns]
    )
    frame["intact_width"] = np.log(frame["intact_width"])
    means = frame.groupby("family").mean()
    within = frame.groupby("family").std().fillna(0.0).mean()
    between = means.std().fillna(0.0)
    spread = np.hypot(between * np.sqrt(1 + 1 / len(means)), within)
    gap = float(means["destroyed_at"].mean() - means["intact_at"].mean())
    # One family tells nothing of another's peak. Of several, the range is taken as it is: a peak
    # that may lie anywhere fits any few high scores of an untouched town.
    spread["destroyed_at"] = means["destroyed_at"].std(ddof=0)
    if means["destroyed_at"].notna().sum() < 2:
        spread["destroyed_at"] = gap / 2
    return ScoreShape(
        intact_at=float(means["intact_at"].mean()),
        intact_at_sd=max(float(spread["intact_at"]), LEAST_SPREAD),
        intact_width=float(np.exp(means["intact_width"].mean())),
        intact_width_log_sd=max(float(spread["intact_width"]), 0.2),
        destroyed_at=float(means["destroyed_at"].mean()),
        destroyed_at_sd=max(float(spread["destroyed_at"]), LEAST_SPREAD),
        destroyed_width=float(means["destroyed_width"].mean()),
    )


def _words(tables: pd.DataFrame) -> str:
    parts = []
    for family, rows in tables.groupby("family"):
        place = NAMES.get(str(family), str(family))
        if family == "synthetic":
            place = f"{rows['town'].nunique()} synthetic towns"
        parts.append(
            f"{place} ({int(rows['destroyed'].sum())} destroyed of {len(rows):,} buildings)"
        )
    return ", ".join(parts)
