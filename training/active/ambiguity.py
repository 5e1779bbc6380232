"""How hard a tile is without asking the model: boundaries, and how alike its classes look.

The paper names a boundary pixel ratio (BPR) and a Mahalanobis distance (MDF). Its formulas could
not be read; the definitions here are ours. A high ratio or a low distance says ambiguous.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.spatial import cKDTree
from scipy.stats import pearsonr, spearmanr

from quakestream.errors import ShapeError

RIDGE = 1e-4
"""Share of the mean variance that is added to every variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """How an index of ambiguity goes with an uncertainty, over tiles where both are known."""

    items: int
    left_out: int
    """Tiles without a value, such as those where one class has too few pixels."""
    spearman: float
    spearman_p: float
    pearson: float
    pearson_p: float


def boundary_ratio(
    class_YX: NDArray[np.integer], valid_YX: NDArray[np.bool_] | None = None
) -> float:
    """Share of valid pixels with a valid 4-neighbour of another class (BPR).

    NaN without a valid pixel.
    """
    valid = np.ones(class_YX.shape, np.bool_) if valid_YX is None else valid_YX
    _check(class_YX, valid)
    edge_YX = np.zeros(class_YX.shape, np.bool_)
    for axis in (0, 1):
        here, there = [slice(None)] * 2, [slice(None)] * 2
        here[axis], there[axis] = slice(None, -1), slice(1, None)
        a, b = tuple(here), tuple(there)
        differs = (class_YX[a] != class_YX[b]) & valid[a] & valid[b]
        edge_YX[a] |= differs
        edge_YX[b] |= differs
    count = int(valid.sum())
    return float(edge_YX.sum() / count) if count else float("nan")


def class_distance(
    pixels_BYX: NDArray[np.number],
    second_YX: NDArray[np.bool_],
    valid_YX: NDArray[np.bool_] | None = None,
    *,
    covariance_BB: NDArray[np.floating] | None = None,
) -> float:
    """Mahalanobis distance between the mean spectra of two classes in a tile (MDF).

    NaN if one class has fewer than B + 2 valid pixels.

    Args:
        pixels_BYX: values of any scale; the distance does not change with gain and offset, but
            for the ridge.
        second_YX: True where a pixel is of the second class.
        valid_YX: pixels that count; None for all.
        covariance_BB: pooled covariance of a reference, such as the training set; None takes that
            of the tile.
    """
    valid = np.ones(second_YX.shape, np.bool_) if valid_YX is None else valid_YX
    _check(second_YX, valid)
    groups = [
        pixels_BYX[:, valid & is_class].astype(np.float64) for is_class in (~second_YX, second_YX)
    ]
    bands = len(pixels_BYX)
    if min(g.shape[1] for g in groups) < bands + 2:
        return float("nan")
    gap_B = groups[1].mean(axis=1) - groups[0].mean(axis=1)
    pooled_BB = pooled_covariance(groups) if covariance_BB is None else covariance_BB
    ridge = RIDGE * np.trace(pooled_BB) / bands
    try:
        factor = cho_factor(pooled_BB + ridge * np.eye(bands))
    except LinAlgError:  # both classes are of one constant colour each
        return float("nan")
    return float(np.sqrt(gap_B @ cho_solve(factor, gap_B)))


def pooled_covariance(groups: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Covariance (B, B) inside the groups, each (B, pixels)."""
    centred = [g - g.mean(axis=1, keepdims=True) for g in groups]
    scatter = sum(g @ g.T for g in centred)
    pooled: NDArray[np.float64] = scatter / (sum(g.shape[1] for g in groups) - len(groups))
    return pooled


def neighbour_disagreement(
    place_ND: NDArray[np.floating], class_N: NDArray[np.integer], *, neighbours: int = 3
) -> NDArray[np.float64]:
    """Share of each item's nearest neighbours that are of another class, (N,).

    It is to buildings what the boundary ratio is to pixels. Places may be coordinates or features.
    """
    if len(place_ND) != len(class_N) or len(place_ND) <= neighbours:
        raise ShapeError(
            "too few items, or not one class per item",
            "places",
            expected=f"more than {neighbours} items",
            got=f"{len(place_ND)} places, {len(class_N)} classes",
        )
    _, near_NC = cKDTree(place_ND).query(place_ND, k=neighbours + 1)
    own_N = np.arange(len(place_ND))
    share = []
    for i, near in zip(own_N, near_NC, strict=True):
        # An item need not be its own first neighbour where several share a place.
        others = near[near != i][:neighbours]
        share.append(float((class_N[others] != class_N[i]).mean()))
    return np.array(share)


def correlate(index_N: NDArray[np.floating], uncertainty_N: NDArray[np.floating]) -> Correlation:
    """Spearman's and Pearson's correlation with their p-values; NaN with under three tiles."""
    known_N = np.isfinite(index_N) & np.isfinite(uncertainty_N)
    a, b = np.asarray(index_N)[known_N], np.asarray(uncertainty_N)[known_N]
    varies = len(a) >= 3 and np.ptp(a) > 0 and np.ptp(b) > 0
    by_rank = spearmanr(a, b) if varies else (np.nan, np.nan)
    linear = pearsonr(a, b) if varies else (np.nan, np.nan)
    return Correlation(
        items=len(a),
        left_out=int((~known_N).sum()),
        spearman=float(by_rank[0]),
        spearman_p=float(by_rank[1]),
        pearson=float(linear[0]),
        pearson_p=float(linear[1]),
    )


def _check(class_YX: NDArray[np.generic], valid_YX: NDArray[np.bool_]) -> None:
    if class_YX.ndim != 2 or class_YX.shape != valid_YX.shape:
        raise ShapeError(
            "wrong shape of a tile",
            "classes",
            expected="(rows, columns), the same for the valid pixels",
            got=f"{class_YX.shape} and {valid_YX.shape}",
        )
