"""Uncertainty of figures: resampled blocks of ground, and seeds.

Neighbouring buildings share a scene, its haze and the shaking. Drawing whole blocks keeps that
dependence; drawing single buildings would hide it.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from quakestream.errors import ShapeError
from quakestream.reduce.metrics import Interval

Statistic = Callable[[NDArray[np.float64]], float]
"""A figure of a fixed set of items, as a function of the weights of the items (N,)."""


def block_interval(
    figure: Statistic, block_N: ArrayLike, *, draws: int = 1000, seed: int = 0
) -> Interval:
    """A figure with its 95 % percentile bootstrap interval over blocks.

    A block that is drawn twice has weight 2. A figure takes weights instead of copies, so that it
    sorts its scores only once. Draws in which the figure is NaN are left out. The interval is NaN
    with fewer than half of the draws left, or with fewer than two blocks.
    """
    block = np.asarray(block_N)
    if block.ndim != 1:
        raise ShapeError(
            "wrong shape", "blocks", expected="one block per item", got=str(block.shape)
        )
    names, place_N = np.unique(block, return_inverse=True)
    value = figure(np.ones(len(block)))
    unknown = Interval(value=value, low=float("nan"), high=float("nan"))
    if len(names) < 2 or draws < 1:
        return unknown
    rng = np.random.default_rng(seed)
    times_DB = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    value_D = np.array([figure(times_B[place_N].astype(np.float64)) for times_B in times_DB])
    known = value_D[~np.isnan(value_D)]
    if len(known) < draws / 2:
        return unknown
    low, high = np.percentile(known, (2.5, 97.5))
    return Interval(value=value, low=float(low), high=float(high))


def difference(first: Statistic, second: Statistic) -> Statistic:
    """First minus second on the same items, the paired difference of two models.

    The interval of a difference is narrower than the two intervals suggest, because a block that
    is hard for one model is also hard for the other.
    """
    return lambda weight_N: first(weight_N) - second(weight_N)


def seed_interval(values: Sequence[float]) -> Interval:
    """Mean over seeds with Student's 95 % interval; NaN bounds with fewer than two seeds."""
    known = np.asarray(values, np.float64)
    mean = float(known.mean()) if len(known) else float("nan")
    if len(known) < 2 or np.isnan(mean):
        return Interval(value=mean, low=float("nan"), high=float("nan"))
    reach = float(student_t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))
    return Interval(value=mean, low=mean - reach, high=mean + reach)


def blocks_of(
    x_m_N: ArrayLike, y_m_N: ArrayLike, *, side_m: float, group_N: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Number of the square block of each point; points of two groups share no block.

    Args:
        x_m_N: eastward coordinate.
        y_m_N: northward coordinate.
        side_m: side of a block, in the same unit.
        group_N: group of each point, such as its EPSG code.
    """
    columns = [np.floor(np.asarray(v, np.float64) / side_m) for v in (x_m_N, y_m_N)]
    if group_N is not None:
        columns.append(np.unique(np.asarray(group_N), return_inverse=True)[1].astype(np.float64))
    _, block_N = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return block_N.reshape(-1).astype(np.int64)
