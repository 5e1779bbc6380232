"""The field of a pair's shifts: what all nodes say together about the shift at each of them.

The correlation surface of one node has several peaks on real pairs. Which one is the highest may
hang on noise of one count, and taking it makes the shift jump by metres. Here no peak is ever
chosen. A surface becomes evidence for every shift, nodes exchange it along rows and columns of
their lattice (belief propagation, exact on trees that hang rows on a column and columns on a row:
Bleyer and Gelautz 2008), and the shift is the mean of what a node then believes. Every step is
smooth, so a little noise moves the shift by little.
"""

from collections.abc import Iterator
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

SPAN_M = 15
"""Largest shift of a node in rows and in columns, metres."""
SIDE = 2 * SPAN_M + 1
BLUR_M = 1.5
"""Standard deviation of the blur of a surface: relief widens its peak by about as much."""
PEAK = 6.0
"""Height of a true peak, standard deviations of its surface. Higher peaks count for more."""
OUTLIERS = 0.3
"""Share of nodes whose surface says nothing: clouds, fields, rubble."""
INDEPENDENT = 0.25
"""Weight of a node's evidence. Nodes overlap by half, so each pixel speaks in four of them."""
STEP_M = 1.4
"""Standard deviation of the difference between the shifts of neighbouring nodes, metres."""
PRIOR_M = 5.0
"""Standard deviation of shifts before anything is seen, metres."""
FLOOR = 1e-7
"""Least probability in a message, so that no node can rule out a shift for another."""
LEAST_VALID, FULL_VALID = 0.25, 0.75
"""Share of valid pixels at which a node begins to count, and at which it counts fully."""
FINE = 4
"""Steps of a metre in which shifts are averaged."""
NEAR_M = 2.0
"""Distance to which a shift's quality refers, metres."""


def evidence(surface_YX: NDArray[np.float32], valid: float) -> NDArray[np.float16]:
    """Log-likelihood of each shift within SPAN_M, shape (rows, cols).

    Args:
        surface_YX: the correlation of a node, for shifts of whole metres around zero.
        valid: share of the node's pixels that both scenes show.
    """
    smooth_YX = cv2.GaussianBlur(surface_YX, (0, 0), BLUR_M, borderType=cv2.BORDER_REFLECT)
    score_YX = (smooth_YX - smooth_YX.mean()) / (float(smooth_YX.std()) or 1.0)
    middle = len(surface_YX) // 2
    near = slice(middle - SPAN_M, middle + SPAN_M + 1)
    ratio_YX = PEAK * score_YX[near, near] - PEAK**2 / 2  # of a peak there to noise alone
    log_YX = np.logaddexp(np.log(OUTLIERS), np.log1p(-OUTLIERS) + ratio_YX)
    return np.asarray(INDEPENDENT * node_weight(valid) * log_YX, np.float16)


def node_weight(valid: float) -> float:
    """Weight of a node by its share of valid pixels, from 0 to 1."""
    return float(np.clip((valid - LEAST_VALID) / (FULL_VALID - LEAST_VALID), 0.0, 1.0))


def shift_field(evidence_ILYX: NDArray[np.float16]) -> NDArray[np.float32]:
    """(rows, cols, quality) of each node: metres, and the probability to be within 2 m.

    Args:
        evidence_ILYX: evidence of the nodes of a rectangle (node row, node col, shift in rows,
            shift in cols); zeros where a node has none.
    """
    field_IL3 = np.zeros((*evidence_ILYX.shape[:2], 3), np.float32)
    for row, belief_LYX in _beliefs(evidence_ILYX):
        for col, belief_YX in enumerate(belief_LYX):
            field_IL3[row, col] = _mean(belief_YX)
    return field_IL3


def _beliefs(evidence_ILYX: NDArray[np.float16]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Log beliefs of the nodes of a row, from the last row to the first.

    Two trees end at each node: its column with all rows hung on, and its row with all columns.
    Their log beliefs are averaged. Messages are kept in 16 bits: a node holds 6 kB in all.
    """
    of_rows_ILYX, of_nodes_ILYX = np.empty_like(evidence_ILYX), np.empty_like(evidence_ILYX)
    rows_LYX = nodes_LYX = np.zeros(evidence_ILYX.shape[1:], np.float32)
    for row, own in enumerate(evidence_ILYX):
        of_rows_ILYX[row], of_nodes_ILYX[row] = rows_LYX, nodes_LYX
        own_LYX = own.astype(np.float32)
        rows_LYX = _message(_along(own_LYX) + rows_LYX)
        nodes_LYX = _message(own_LYX + nodes_LYX)
    rows_LYX = nodes_LYX = np.zeros(evidence_ILYX.shape[1:], np.float32)
    for row in reversed(range(len(evidence_ILYX))):
        own_LYX = evidence_ILYX[row].astype(np.float32)
        along_LYX = _along(own_LYX)
        column_tree_LYX = along_LYX + of_rows_ILYX[row] + rows_LYX
        row_tree_LYX = _along(own_LYX + of_nodes_ILYX[row] + nodes_LYX)
        yield row, (column_tree_LYX + row_tree_LYX) / 2
        rows_LYX = _message(along_LYX + rows_LYX)
        nodes_LYX = _message(own_LYX + nodes_LYX)


def _along(own_LYX: NDArray[np.float32]) -> NDArray[np.float32]:
    """What each node of a row believes after it heard the row on both sides."""
    heard_LYX = own_LYX.copy()
    for order in (range(len(own_LYX)), reversed(range(len(own_LYX)))):
        message_YX = np.zeros(own_LYX.shape[1:], np.float32)
        for col in order:
            heard_LYX[col] += message_YX
            message_YX = _message(own_LYX[col] + message_YX)
    return heard_LYX


def _message(belief_YX: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a node's belief says of its neighbour: nearly the same shift. Works on stacks too."""
    share_YX = np.exp(belief_YX - belief_YX.max(axis=(-2, -1), keepdims=True))
    blurred_YX = _steps() @ share_YX @ _steps()
    blurred_YX /= blurred_YX.sum(axis=(-2, -1), keepdims=True)
    return np.asarray(np.log(blurred_YX + np.float32(FLOOR)), np.float32)


def _mean(belief_YX: NDArray[np.float32]) -> tuple[float, float, float]:
    """The mean shift of a belief, and how much of it lies near."""
    fine_YX = _finer() @ (belief_YX + _prior()) @ _finer().T
    share_YX = np.exp(fine_YX - fine_YX.max())
    share_YX /= share_YX.sum()
    at_N = _fine_shifts()
    rows, cols = float(share_YX.sum(axis=1) @ at_N), float(share_YX.sum(axis=0) @ at_N)
    away_YX = np.hypot((at_N - rows)[:, None], at_N - cols)
    return rows, cols, float(share_YX[away_YX <= NEAR_M].sum())


@cache
def _steps() -> NDArray[np.float32]:
    """Blur by the difference between neighbours, as a symmetric matrix."""
    shift_N = np.arange(SIDE)
    away_NN = (shift_N[:, None] - shift_N) / STEP_M
    return np.asarray(np.exp(-(away_NN**2) / 2), np.float32)


@cache
def _prior() -> NDArray[np.float32]:
    shift_N = np.arange(-SPAN_M, SPAN_M + 1)
    away_YX = np.hypot(shift_N[:, None], shift_N) / PRIOR_M
    return np.asarray(-(away_YX**2) / 2, np.float32)


@cache
def _finer() -> NDArray[np.float32]:
    """Interpolates whole metres by cubic splines, as a matrix. Means of whole metres would be
    drawn to the nearest metre."""
    from scipy.interpolate import CubicSpline  # imported late, as that takes a while

    whole_N = np.arange(-SPAN_M, SPAN_M + 1)
    return np.asarray(CubicSpline(whole_N, np.eye(SIDE))(_fine_shifts()), np.float32)


@cache
def _fine_shifts() -> NDArray[np.float32]:
    return np.linspace(-SPAN_M, SPAN_M, 2 * SPAN_M * FINE + 1, dtype=np.float32)
