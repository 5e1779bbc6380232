"""Shapes that the scores of a run may have: where intact and destroyed buildings have their peaks.

A run may show a town whose intact buildings score higher than those a calibration was fitted on,
because of the sensor, the view angle or the way of building. Its scores alone tell: intact
buildings are one peak, wherever it lies, and destroyed ones are a second peak above it. Shapes of
many places and widths are therefore weighed by the scores of the whole run, with their spread
between regions as the prior.

Axes: Z bins of a log-ratio, U shapes, G areas, O shares of a grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from quakestream.domain.calibration import ScoreShape

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

WIDEST = 14.0
"""Log-ratios beyond this count as this."""
BINS = 112
STEP = 2 * WIDEST / BINS
CENTRE_Z: F64 = np.asarray((np.arange(BINS) + 0.5) * STEP - WIDEST, np.float64)
SHARE_O: F64 = np.asarray(1.0 / (1.0 + np.exp(-np.linspace(-9.0, 4.5, 55))), np.float64)
"""Shares at which likelihoods are computed, evenly spaced in log-odds."""
INTACT_PLACES: F64 = np.linspace(-2.5, 2.5, 29, dtype=np.float64)
INTACT_WIDTHS: F64 = np.linspace(-2.0, 2.0, 7, dtype=np.float64)
"""In standard deviations between regions."""
LEFT_WIDTHS = (0.4, 1.0, 1.8)
"""Widths below the peak of intact buildings, in widths above it."""
DESTROYED_PLACES: F64 = np.linspace(-1.3, 1.3, 9, dtype=np.float64)
DESTROYED_WIDTHS = (0.7, 1.0, 1.3)
"""In widths of the shape."""
LEAST_GAP = 1.5
"""Peaks of destroyed buildings lie at least this far above that of intact ones, in widths."""
STRAY, STRAY_WIDTH = 0.03, 2.0
"""Share of intact buildings with wider scores: works, trees, wrong outlines."""
CLUSTERING = 2.0
"""Buildings that count as one: neighbours look alike."""
MOST_BUILDINGS = 300.0
"""Independent buildings that a town counts as at most: no shape is exact, and more buildings do not
make it so."""
SHAPES = 64
"""Most shapes that are kept."""
SILENT_SHAPES = 32
"""Most shapes that are kept, where each counts with several silent shares."""
SILENT_PARTS: F64 = np.linspace(0.0, 1.0, 4, dtype=np.float64)
"""Parts of the most that may be silent, equally likely before the scores are known."""
MOST_SILENT = 0.8
"""Largest share of destroyed buildings that may score like intact ones."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeighedShapes:
    """The likeliest shapes of a run's scores."""

    weight_U: F64
    """Probability of each shape; sums to 1."""
    intact_UZ: F64
    """Probability of each bin for an intact building."""
    destroyed_UZ: F64
    """Probability of each bin for a destroyed building."""

    def log_likelihood(self, count_GZ: I64) -> F64:
        """Of the scores of areas, per shape and share, shape (G, U, O)."""
        mixed_UOZ = _mixed(self.intact_UZ, self.destroyed_UZ, SHARE_O)
        flat = np.log(mixed_UOZ).reshape(-1, BINS).T
        log_GUO = (_independent(count_GZ) @ flat).reshape(len(count_GZ), *mixed_UOZ.shape[:2])
        return np.asarray(log_GUO, np.float64)

    def posterior_ZUO(self) -> F64:
        """Probability that a building of a bin is destroyed, per shape and share, (Z, U, O).

        It never falls with the score.
        """
        mixed_UOZ = _mixed(self.intact_UZ, self.destroyed_UZ, SHARE_O)
        p_UOZ = SHARE_O[None, :, None] * self.destroyed_UZ[:, None, :] / mixed_UOZ
        lowest_UO = np.argmin(p_UOZ, axis=2)
        fallen_UOZ = np.arange(p_UOZ.shape[2]) < lowest_UO[:, :, None]
        p_UOZ = np.where(fallen_UOZ, p_UOZ.min(axis=2, keepdims=True), p_UOZ)
        return np.asarray(np.maximum.accumulate(p_UOZ, axis=2).transpose(2, 0, 1))


def weighed_shapes(
    count_Z: I64, shape: ScoreShape, expected_share: float, strength: float
) -> WeighedShapes:
    """Weighs shapes by all scores of a run.

    Args:
        count_Z: buildings per bin.
        shape: of the calibration.
        expected_share: share of destroyed buildings that is expected before.
        strength: number of buildings that the expectation counts as much as.
    """
    prior_O = log_beta(np.array([expected_share]), strength)[0]
    shapes = _likeliest(count_Z, shape, prior_O, SILENT_SHAPES if shape.silent else SHAPES)
    return _with_silent(shapes, count_Z, shape.silent, prior_O) if shape.silent else shapes


def _likeliest(count_Z: I64, shape: ScoreShape, prior_O: F64, most: int) -> WeighedShapes:
    """The likeliest shapes where no destroyed building is silent.

    Args:
        count_Z: buildings per bin.
        shape: of the calibration.
        prior_O: log-density of the share before the scores are known.
        most: number of shapes.
    """
    intact = list(_intact(shape))
    seen = np.flatnonzero(count_Z) if count_Z.any() else np.arange(BINS)
    ends = int(seen[0]), int(seen[-1])
    intact_UZ = _within(np.stack([density_Z for _, _, density_Z in intact]), ends)
    log_prior_U = np.array([log for log, _, _ in intact])
    least_U = np.array([least for _, least, _ in intact])
    found: list[tuple[F64, F64]] = []
    for log_place, place, peak_Z in _destroyed(shape):
        destroyed_Z = _within(peak_Z, ends)
        log_U = _log_evidence(intact_UZ, destroyed_Z[None], count_Z, prior_O, every=2)
        log_U += log_prior_U + log_place
        found.append((np.where(place >= least_U, log_U, -np.inf), destroyed_Z))
    log_GU = np.stack([log_U for log_U, _ in found])
    best = np.argsort(log_GU, axis=None, kind="stable")[::-1][:most]
    row, column = np.unravel_index(best, log_GU.shape)
    weight_U = np.exp(log_GU[row, column] - log_GU.max())
    return WeighedShapes(
        weight_U=weight_U / weight_U.sum(),
        intact_UZ=intact_UZ[column],
        destroyed_UZ=np.stack([found[r][1] for r in row]),
    )


def _with_silent(shapes: WeighedShapes, count_Z: I64, silent: float, prior_O: F64) -> WeighedShapes:
    """Each shape with several shares of destroyed buildings that score like intact ones.

    Args:
        shapes: without any.
        count_Z: buildings per bin.
        silent: of `ScoreShape`.
        prior_O: log-density of the share before the scores are known.
    """
    intact_UZ, seen_UZ = shapes.intact_UZ, shapes.destroyed_UZ
    middle_U = CENTRE_Z[np.argmax(np.cumsum(intact_UZ, axis=1) >= 0.5, axis=1)]
    most_U = np.minimum(silent * np.exp(middle_U), MOST_SILENT)
    destroyed_4UZ = np.stack(
        [seen_UZ + (part * most_U)[:, None] * (intact_UZ - seen_UZ) for part in SILENT_PARTS]
    )
    log_4U = np.stack([_log_evidence(intact_UZ, d_UZ, count_Z, prior_O) for d_UZ in destroyed_4UZ])
    weight_4U = shapes.weight_U * np.exp(log_4U - log_4U[0])
    return WeighedShapes(
        weight_U=weight_4U.reshape(-1) / weight_4U.sum(),
        intact_UZ=np.tile(intact_UZ, (len(SILENT_PARTS), 1)),
        destroyed_UZ=destroyed_4UZ.reshape(-1, BINS),
    )


def _log_evidence(
    intact_UZ: F64, destroyed_UZ: F64, count_Z: I64, prior_O: F64, every: int = 1
) -> F64:
    """Log-probability of the scores for each shape, over all shares or every second one."""
    seen = np.flatnonzero(count_Z) if count_Z.any() else np.arange(BINS)
    mixed_UOZ = _mixed(intact_UZ[:, seen], destroyed_UZ[:, seen], SHARE_O[::every])
    log_UO = np.log(mixed_UOZ) @ _independent(count_Z[seen]) + prior_O[::every]
    return np.asarray(np.logaddexp.reduce(log_UO, axis=1), np.float64)


def histograms(log_ratio_N: NDArray[np.floating], area_N: I64, areas: int) -> I64:
    """Buildings per area and bin, shape (G, Z)."""
    index_N = area_N * BINS + bins_of(log_ratio_N)
    count = np.bincount(index_N, minlength=areas * BINS)
    return np.asarray(count.reshape(areas, BINS), np.int64)


def bins_of(log_ratio_N: NDArray[np.floating]) -> I64:
    """Bin of each log-ratio."""
    place_N = np.floor((np.asarray(log_ratio_N, np.float64) + WIDEST) / STEP)
    return np.clip(place_N, 0, BINS - 1).astype(np.int64)


def log_beta(share_G: F64, strength: float) -> F64:
    """Logarithm of a beta density of the share, over the log-odds of the grid, shape (G, O)."""
    a_G, b_G = share_G * strength, (1.0 - share_G) * strength
    return np.asarray(a_G[:, None] * np.log(SHARE_O) + b_G[:, None] * np.log1p(-SHARE_O))


def _within(density_Z: F64, ends: tuple[int, int]) -> F64:
    """Probabilities of bins where what lies beyond the ends counts as the ends.

    Scores are bounded, so many buildings may lie at a bound. The last axis is bins.
    """
    low, high = ends
    within_Z = density_Z.copy()
    within_Z[..., low] += density_Z[..., :low].sum(axis=-1)
    within_Z[..., high] += density_Z[..., high + 1 :].sum(axis=-1)
    return within_Z


def _independent(count_Z: I64) -> F64:
    """Counts of independent buildings; the last axis is bins."""
    all_ = count_Z.sum(axis=-1, keepdims=True)
    return np.asarray(count_Z / (CLUSTERING + all_ / MOST_BUILDINGS), np.float64)


def _mixed(intact_UZ: F64, destroyed_UZ: F64, share_O: F64) -> F64:
    """Probability of each bin in a town of each share, shape (U, O, Z)."""
    apart_UZ = destroyed_UZ - intact_UZ
    return np.asarray(intact_UZ[:, None, :] + share_O[None, :, None] * apart_UZ[:, None, :])


def _intact(shape: ScoreShape) -> Iterator[tuple[float, float, F64]]:
    """Log-prior, least place of destroyed buildings, and bins, of each peak of intact ones."""
    for place, width, left in product(INTACT_PLACES, INTACT_WIDTHS, LEFT_WIDTHS):
        at = shape.intact_at + shape.intact_at_sd * place
        above = shape.intact_width * float(np.exp(shape.intact_width_log_sd * width))
        density_Z = (1 - STRAY) * _peak(at, above, left * above)
        density_Z += STRAY * _peak(at, STRAY_WIDTH * above, STRAY_WIDTH * left * above)
        yield float(-(place**2 + width**2) / 2), at + LEAST_GAP * above, density_Z


def _destroyed(shape: ScoreShape) -> Iterator[tuple[float, float, F64]]:
    """Log-prior, place, and bins, of each peak of destroyed buildings."""
    for place, width in product(DESTROYED_PLACES, DESTROYED_WIDTHS):
        at = shape.destroyed_at + shape.destroyed_at_sd * place
        spread = shape.destroyed_width * width
        yield float(-(place**2) / 2), at, _peak(at, spread, spread)


def _peak(at: float, above: float, below: float) -> F64:
    """A normal peak with two widths, as probabilities of bins."""
    width_Z = np.where(at < CENTRE_Z, above, below)
    density_Z = np.exp(-0.5 * ((CENTRE_Z - at) / width_Z) ** 2) + 1e-7
    return np.asarray(density_Z / density_Z.sum(), np.float64)
