"""Judges calibrations and estimated shares on towns whose state is known."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.domain.calibration import Calibration
from quakestream.fusion.calibration import log_ratio
from quakestream.fusion.shares import AreaShares, SharePrior, at_share, estimate_shares
from training.metrics import blocks_of
from training.shares.fit import can_fit, features_of, fit

F64 = NDArray[np.float64]

DECLARED = 0.5
"""Probability from which a building is declared destroyed."""
BINS = 10
SILENTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)
"""Values of `ScoreShape.silent` that are tried."""
COUNTS = "left_out_counts"
"""Key of a bundle's `metrics`: verdicts on towns that neither model nor calibration has seen."""
DISTRICT_BLOCK_M = 100.0
DISTRICT_BUILDINGS = 250
NO_NEIGHBOURS: NDArray[np.int64] = np.empty((0, 2), np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class TownVerdict:
    """One town, as the model declares it and as it is."""

    town: str
    buildings: int
    destroyed: int
    declared: int
    declared_right: int
    expected: float
    low: float
    high: float
    calibration_error: float

    @property
    def covered(self) -> bool:
        """True where the interval holds the truth."""
        return self.low <= self.destroyed <= self.high

    def __str__(self) -> str:
        return (
            f"{self.town}: {self.destroyed} of {self.buildings} destroyed, "
            f"{self.declared} declared ({self.declared_right} right), expected "
            f"{self.expected:.1f} ({self.low:g} to {self.high:g}), "
            f"calibration error {self.calibration_error:.3f}"
        )


def verdict_of(calibration: Calibration, table: pd.DataFrame, name: str) -> TownVerdict:
    """Judges one town as one area of a run, with a weak prior."""
    found = _estimate(calibration, table, np.zeros(len(table), np.int64), 1)
    p_N = at_share(found.log_ratio_N, found.share_G[0])
    destroyed_N = table["destroyed"].to_numpy(bool)
    declared_N = p_N >= DECLARED
    return TownVerdict(
        town=name,
        buildings=len(table),
        destroyed=int(destroyed_N.sum()),
        declared=int(declared_N.sum()),
        declared_right=int((declared_N & destroyed_N).sum()),
        expected=found.run.expected,
        low=found.run.expected_low,
        high=found.run.expected_high,
        calibration_error=calibration_error(p_N, destroyed_N),
    )


def calibration_error(p_N: F64, destroyed_N: NDArray[np.bool_]) -> float:
    """Expected calibration error over bins of equally many buildings."""
    order_N = np.argsort(p_N, kind="stable")
    parts = np.array_split(order_N, min(BINS, len(p_N)))
    gaps = [len(n) * abs(p_N[n].mean() - destroyed_N[n].mean()) for n in parts if len(n)]
    return float(sum(gaps) / max(len(p_N), 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutTown:
    """A town, and a calibration that was fitted without it."""

    calibration: Calibration
    table: pd.DataFrame
    name: str

    def verdict(self, silent: float = 0.0) -> TownVerdict:
        """Judges it where so many destroyed buildings may score like intact ones."""
        return verdict_of(with_silent(self.calibration, silent), self.table, self.name)


def left_out(tables: pd.DataFrame) -> Iterator[LeftOutTown]:
    """Each pair with a calibration that was fitted without its family of towns.

    A family is left in peace where the others have no destroyed buildings to fit with.
    """
    for family in tables["family"].unique():
        others = tables[tables["family"] != family]
        if not can_fit(others):
            continue
        calibration = fit(others)
        for pair, rows in tables[tables["family"] == family].groupby("pair"):
            yield LeftOutTown(calibration=calibration, table=rows, name=str(pair))


def with_silent(calibration: Calibration, silent: float) -> Calibration:
    """The calibration where destroyed buildings may score like intact ones."""
    return replace(calibration, shape=replace(calibration.shape, silent=silent))


def least_silent(trials: Sequence[LeftOutTown], *, silents: Sequence[float] = SILENTS) -> float:
    """The least `ScoreShape.silent` with which as many intervals hold the truth as with any.

    The shape of the scores never tells how many destroyed buildings look intact. Towns whose state
    is known do. Without such towns it is the least of all.
    """
    held = {silent: sum(t.verdict(silent).covered for t in trials) for silent in silents}
    return min(silent for silent, count in held.items() if count == max(held.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How often intervals of districts hold the truth."""

    districts: int
    covered: int
    by_share: dict[str, float]
    """Share of covered districts, by the share of destroyed buildings of their town."""
    calibration_error: float
    """Mean of districts."""
    declared_where_none: float
    """Share of buildings declared destroyed in towns where none is."""


def districts(calibration: Calibration, tables: pd.DataFrame, *, count: int = 200) -> Coverage:
    """Judges districts that are drawn from towns block by block, so that neighbours stay together.

    Args:
        calibration: fitted on other towns.
        tables: of towns whose `pair` ends with their share of destroyed buildings.
        count: number of districts, spread evenly over the towns.
    """
    rng = np.random.default_rng(0)
    towns = [(str(name), rows) for name, rows in tables.groupby("pair")]
    verdicts: list[tuple[str, TownVerdict]] = []
    for number in range(count):
        name, rows = towns[number % len(towns)]
        drawn = _drawn(rows, rng)
        verdicts.append((name.rpartition("-")[2], verdict_of(calibration, drawn, name)))
    shares = sorted({share for share, _ in verdicts}, key=float)
    untouched = [v for share, v in verdicts if float(share) == 0]
    return Coverage(
        districts=count,
        covered=sum(v.covered for _, v in verdicts),
        by_share={
            share: float(np.mean([v.covered for of, v in verdicts if of == share]))
            for share in shares
        },
        calibration_error=float(np.mean([v.calibration_error for _, v in verdicts])),
        declared_where_none=sum(v.declared for v in untouched)
        / max(sum(v.buildings for v in untouched), 1),
    )


def _drawn(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Blocks of a town, drawn with replacement until there are enough buildings."""
    block_N = blocks_of(table["x_m"], table["y_m"], side_m=DISTRICT_BLOCK_M)
    rows_of = [np.flatnonzero(block_N == block) for block in range(block_N.max() + 1)]
    chosen: list[NDArray[np.intp]] = []
    while sum(map(len, chosen)) < DISTRICT_BUILDINGS:
        chosen.append(rows_of[rng.integers(len(rows_of))])
    return table.iloc[np.concatenate(chosen)]


def _estimate(
    calibration: Calibration, table: pd.DataFrame, area_N: NDArray[np.int64], areas: int
) -> AreaShares:
    ratio_N = log_ratio(calibration, features_of(table))
    return estimate_shares(ratio_N, area_N, NO_NEIGHBOURS, SharePrior.weak(areas), calibration)
