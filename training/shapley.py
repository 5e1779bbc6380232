"""Shapley values: how much each input contributes (Shapley 1953; Lundberg and Lee 2017).

A player is an input, or a group of inputs, that is present or absent. For few players all
coalitions are evaluated and the values are exact. For many players a sample of coalitions and a
weighted regression (Kernel SHAP) approximate them; the values still add up to the whole.

Axis legend: S coalitions, P players, K outputs.
"""

from math import comb

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import ShapeError

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

MAX_EXACT = 8
"""Most players of which all coalitions, 256, are evaluated."""


def all_coalitions(players: int) -> Bools:
    """Every coalition, shape (2^P, P); row i has player p if bit p of i is set."""
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)


def exact_values(value_SK: F64, players: int) -> F64:
    """Shapley values (P, K) from the value of every coalition, in `all_coalitions` order.

    The value of a player is what it adds to a coalition, averaged over all orders of arrival.

    Raises:
        ShapeError: if there is not one value per coalition.
    """
    if len(value_SK) != 2**players:
        raise ShapeError(
            f"wrong number of coalitions of {players} players",
            expected=str(2**players),
            got=str(len(value_SK)),
        )
    present_SP = all_coalitions(players)
    size_S = present_SP.sum(axis=1)
    values = []
    for p in range(players):
        without = np.flatnonzero(~present_SP[:, p])
        orders = np.array([players * comb(players - 1, int(n)) for n in size_S[without]])
        gain_SK = value_SK[without | 1 << p] - value_SK[without]
        values.append((gain_SK / orders[:, None]).sum(axis=0))
    return np.array(values)


def kernel_weights(size_S: NDArray[np.int64], players: int) -> F64:
    """Weight of a coalition of each size in the regression; sizes 0 and P have no weight."""
    return np.array([(players - 1) / (comb(players, n) * n * (players - n)) for n in size_S])


def kernel_values(present_SP: Bools, value_SK: F64, ends_2K: F64, weight_S: F64) -> F64:
    """Shapley values (P, K) by weighted least squares that add up exactly.

    Args:
        present_SP: coalitions, neither empty nor whole.
        value_SK: values of the coalitions.
        ends_2K: values of the empty and of the whole coalition.
        weight_S: weights of the coalitions.

    Raises:
        ShapeError: if the coalitions do not distinguish the players.
    """
    whole_K = ends_2K[1] - ends_2K[0]
    # The last player gets the rest, so that the values add up whatever the fit is.
    last_S = present_SP[:, -1].astype(np.float64)
    design_SQ = present_SP[:, :-1] - last_S[:, None]
    target_SK = value_SK - ends_2K[0] - last_S[:, None] * whole_K
    root_S = np.sqrt(weight_S)[:, None]
    value_QK, _, rank, _ = np.linalg.lstsq(design_SQ * root_S, target_SK * root_S, rcond=None)
    if rank < design_SQ.shape[1]:
        raise ShapeError(
            f"{len(present_SP)} coalitions do not distinguish {present_SP.shape[1]} players",
            remedy="sample more coalitions",
        )
    return np.concatenate([value_QK, (whole_K - value_QK.sum(axis=0))[None]])


def sampled_coalitions(players: int, count: int, rng: np.random.Generator) -> tuple[Bools, F64]:
    """Draws coalitions by their weight, each with its complement, and counts each.

    Raises:
        ShapeError: if `count` is less than twice the number of players.
    """
    if count < 2 * players:
        raise ShapeError("too few coalitions", expected=f"at least {2 * players}", got=str(count))
    sizes = np.arange(1, players)
    mass = np.array([comb(players, int(n)) for n in sizes]) * kernel_weights(sizes, players)
    drawn = rng.choice(sizes, size=count // 2, p=mass / mass.sum())
    half_SP = np.zeros((len(drawn), players), bool)
    for row, size in zip(half_SP, drawn, strict=True):
        row[rng.permutation(players)[:size]] = True
    both_SP = np.concatenate([half_SP, ~half_SP])
    present_SP, times_S = np.unique(both_SP, axis=0, return_counts=True)
    return present_SP, times_S.astype(np.float64)
