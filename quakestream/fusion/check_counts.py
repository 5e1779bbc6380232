"""Numbers of destroyed, damaged and intact buildings from spot checks, with their uncertainty.

Checked buildings count as they are. The others are drawn from the model of `fusion/checks.py`, so
that the totals of a census are exact. Two curves follow each other: destroyed or not, then damaged
or intact among those that are not destroyed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.fusion.checks import DRAWS, Curve, Floats, Integers, fit_curve, logit

DESTROYED, DAMAGED, INTACT, UNKNOWN = 2, 1, 0, -1
"""Answers. `UNKNOWN`: not checked, not answered, or it could not be told."""
ANSWERS = {"destroyed": DESTROYED, "damaged": DAMAGED, "intact": INTACT}
LEVEL = 0.9
"""Of all intervals."""
BIN_LOGIT = 0.25
"""Buildings of one stratum and district whose log-odds differ by less are counted together."""
CHUNK = 2_000_000
"""Numbers that are drawn at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckedMap:
    """All assessed buildings of a map, with the answers for some of them."""

    p_N: Floats
    """The map's probability of the most severe class."""
    p_damaged_N: Floats
    """The map's probability of damage among buildings that are not destroyed."""
    stratum_N: Integers
    strata: int
    district_N: Integers
    districts: int
    declared_N: NDArray[np.bool_]
    """True where the map declares the most severe class."""
    answer_N: Integers
    """One of the answers above."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountDraws:
    """Draws of the numbers of buildings per district."""

    count_UR2C: Integers
    """Shape (draw, district, not declared and declared, answer)."""
    curve: Curve
    """The curve of destroyed buildings."""

    def total_UC(self) -> Integers:
        total_UC: Integers = self.count_UR2C.sum(axis=(1, 2))
        return total_UC

    @property
    def destroyed(self) -> int:
        """The estimated number of destroyed buildings: the median, as a whole number."""
        return round(Estimate.of(self.total_UC()[:, DESTROYED]).value)

    def recall_U(self) -> Floats:
        """Share of the destroyed that the map declares; NaN in draws where nothing is destroyed."""
        destroyed_U2 = self.count_UR2C[..., DESTROYED].sum(axis=1)
        total_U = destroyed_U2.sum(axis=1)
        return np.where(total_U > 0, destroyed_U2[:, 1] / np.maximum(total_U, 1), np.nan)

    def precision_U(self) -> Floats:
        """Share of the declared that are destroyed; NaN where the map declares none."""
        declared_UC = self.count_UR2C[:, :, 1].sum(axis=1)
        total_U = declared_UC.sum(axis=1)
        return np.where(total_U > 0, declared_UC[:, DESTROYED] / np.maximum(total_U, 1), np.nan)


def count_draws(checked: CheckedMap, seed: int = 0, draws: int = DRAWS) -> CountDraws:
    """Draws of all totals, given the answers."""
    known_N = checked.answer_N != UNKNOWN
    sizes = (checked.strata, checked.districts)
    l1_N, l2_N = logit(checked.p_N), logit(checked.p_damaged_N)
    destroyed_N = checked.answer_N == DESTROYED
    first = fit_curve(
        l1_N[known_N],
        checked.stratum_N[known_N],
        checked.district_N[known_N],
        destroyed_N[known_N],
        sizes,
        seed,
        draws,
    )
    rest_N = known_N & ~destroyed_N
    second = fit_curve(
        l2_N[rest_N],
        checked.stratum_N[rest_N],
        checked.district_N[rest_N],
        checked.answer_N[rest_N] == DAMAGED,
        sizes,
        seed + 1,
        draws,
    )
    count_UR2C = np.zeros((draws, checked.districts, 2, len(ANSWERS)), np.int32)
    known = np.flatnonzero(known_N)
    declared_n = checked.declared_N[known].astype(np.int64)
    place = (checked.district_N[known], declared_n, checked.answer_N[known])
    fixed_R2C = np.zeros(count_UR2C.shape[1:], np.int32)
    np.add.at(fixed_R2C, place, 1)
    count_UR2C += fixed_R2C
    _add_unchecked(count_UR2C, checked, (l1_N, l2_N), (first, second), seed + 2)
    return CountDraws(count_UR2C=count_UR2C.astype(np.int64), curve=first)


def _add_unchecked(
    count_UR2C: NDArray[np.int32],
    checked: CheckedMap,
    logits: tuple[Floats, Floats],
    curves: tuple[Curve, Curve],
    seed: int,
) -> None:
    """Adds draws for the buildings without an answer, in cells of like buildings."""
    open_N = checked.answer_N == UNKNOWN
    if not open_N.any():
        return
    columns = [checked.district_N, checked.declared_N, checked.stratum_N]
    binned = [np.round(l_N / BIN_LOGIT) for l_N in logits]
    keys = np.column_stack([np.asarray(c)[open_N] for c in (*columns, *binned)]).astype(np.int64)
    cells, cell_N, size_G = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    cell_N = cell_N.reshape(-1)
    mean_G = [np.bincount(cell_N, l_N[open_N]) / size_G for l_N in logits]
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // len(count_UR2C))
    for at in range(0, len(cells), step):
        part = slice(at, at + step)
        district_G, stratum_G = cells[part, 0], cells[part, 2]
        p_UG, q_UG = (
            curve.p_UN(l_G[part], stratum_G, district_G)
            for curve, l_G in zip(curves, mean_G, strict=True)
        )
        destroyed_UG = rng.binomial(size_G[part], p_UG)
        damaged_UG = rng.binomial(size_G[part] - destroyed_UG, q_UG)
        drawn_UGC = np.stack(
            [size_G[part] - destroyed_UG - damaged_UG, damaged_UG, destroyed_UG], axis=2
        )
        # Cells are sorted by district and verdict: those of one pair lie together.
        pairs, first = np.unique(cells[part, :2], axis=0, return_index=True)
        count_UR2C[:, pairs[:, 0], pairs[:, 1]] += np.add.reduceat(drawn_UGC, first, axis=1).astype(
            np.int32
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 90 % interval; NaN where the answers cannot give it."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, draws_U: NDArray[np.float64] | Integers) -> "Estimate":
        """Median and equal tails of draws."""
        if np.isnan(draws_U).any():
            return cls(value=np.nan, low=np.nan, high=np.nan)
        tail = (1 - LEVEL) / 2
        low, value, high = np.quantile(draws_U, [tail, 0.5, 1 - tail])
        return cls(value=float(value), low=float(low), high=float(high))
