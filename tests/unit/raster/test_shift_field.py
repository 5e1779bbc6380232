"""The field of shifts: known shifts are found, no node jumps, and quality means something."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from quakestream.raster.shift_field import NEAR_M, evidence, shift_field

REACH = 64
ROWS, COLS = 4, 6


def surfaces(
    shift_IL2: NDArray[np.float64], height: float, seed: int = 0
) -> list[list[NDArray[np.float32]]]:
    """Correlations of nodes: noise with a blunt peak at each node's shift, 0 for none."""
    rng = np.random.default_rng(seed)
    at_N = np.arange(-REACH, REACH + 1)
    found: list[list[NDArray[np.float32]]] = []
    for line_L2 in shift_IL2:
        found.append([])
        for rows, cols in line_L2:
            away_YX = np.hypot((at_N - rows)[:, None], at_N - cols)
            noise_YX = rng.normal(size=away_YX.shape)
            peak_YX = height * np.exp(-((away_YX / 1.5) ** 2) / 2)
            found[-1].append((noise_YX + peak_YX).astype(np.float32))
    return found


def field(nodes: list[list[NDArray[np.float32]]], valid: float = 1.0) -> NDArray[np.float32]:
    return shift_field(np.array([[evidence(s, valid) for s in line] for line in nodes]))


def ramp() -> NDArray[np.float64]:
    """Shifts that grow by a metre a node, as relief and oblique views make them."""
    row_I, col_L = np.arange(ROWS), np.arange(COLS)
    rows_IL = -3.3 + col_L + 0 * row_I[:, None]
    cols_IL = 2.6 - 0.8 * row_I[:, None] + 0 * col_L
    return np.stack(np.broadcast_arrays(rows_IL, cols_IL), axis=-1)


def test_a_ramp_of_shifts_is_found_to_half_a_metre() -> None:
    field_IL3 = field(surfaces(ramp(), height=5.0))
    assert np.abs(field_IL3[..., :2] - ramp()).max() < 0.6
    assert field_IL3[..., 2].min() > 0.8


def test_shifts_between_whole_metres_are_not_drawn_to_them() -> None:
    true_IL2 = np.broadcast_to([2.4, -3.6], (ROWS, COLS, 2))
    assert np.abs(field(surfaces(true_IL2, height=5.0))[..., :2] - true_IL2).max() < 0.3


def test_quality_falls_as_noise_rises_and_says_how_often_shifts_are_right() -> None:
    qualities, right = [], []
    for height in (5.0, 1.0, 0.6, 0.4, 0.0):  # standard deviations of the noise
        fields = [field(surfaces(ramp(), height, seed)) for seed in range(4)]
        error = [np.hypot(*np.moveaxis(f[..., :2] - ramp(), -1, 0)) for f in fields]
        qualities.append(float(np.mean([f[..., 2] for f in fields])))
        right.append(float(np.mean(np.array(error) <= NEAR_M)))
    assert all(before > after for before, after in pairwise(qualities))
    assert qualities[0] > 0.9
    assert right[0] == 1.0
    assert qualities[-1] < 0.2
    assert all(quality <= share + 0.1 for quality, share in zip(qualities, right, strict=True))


def test_two_peaks_of_one_height_do_not_make_a_shift_jump() -> None:
    """Whatever is a little higher, the highest peak jumps by 8 m; the mean moves by little."""
    at_N = np.arange(-REACH, REACH + 1)
    minus_YX, plus_YX = (
        np.exp(-(np.hypot((at_N - d)[:, None], at_N - d) ** 2) / (2 * 1.5**2)) for d in (-4, 4)
    )
    both_YX = np.random.default_rng(0).normal(size=minus_YX.shape) + 5 * (minus_YX + plus_YX)
    level = cv2.GaussianBlur(both_YX, (0, 0), 1.5)
    behind = level[REACH + 2 : REACH + 7, REACH + 2 : REACH + 7].max()
    behind -= level[REACH - 6 : REACH - 1, REACH - 6 : REACH - 1].max()
    found, peaks = [], []
    for more in (-0.05, 0.05):
        # a blur of the peak's own width halves it
        tipped = np.asarray(both_YX + (2 * behind + more) * minus_YX, np.float32)
        smooth = cv2.GaussianBlur(tipped, (0, 0), 1.5)
        peaks.append(np.array(np.unravel_index(smooth.argmax(), smooth.shape)))
        found.append(field([[tipped]])[0, 0])
    assert np.abs(peaks[0] - peaks[1]).max() >= 7, "the case has two peaks that take turns"
    assert np.abs(found[0] - found[1])[:2].max() < 1
    assert max(f[2] for f in found) < 0.9


def test_noise_on_the_surfaces_moves_shifts_by_less_than_a_tenth_of_a_metre() -> None:
    plain = surfaces(ramp(), height=4.0)
    rng = np.random.default_rng(9)
    noisy = [[s + rng.normal(0, 0.05, s.shape).astype(np.float32) for s in x] for x in plain]
    assert np.abs(field(plain) - field(noisy))[..., :2].max() < 0.1


def test_a_node_that_sees_nothing_takes_the_shift_around_it() -> None:
    true_IL2 = np.broadcast_to([3.0, -2.0], (3, 5, 2))
    nodes = surfaces(true_IL2, height=5.0)
    seen_ILYX = np.array([[evidence(s, 1.0) for s in line] for line in nodes])
    seen = shift_field(seen_ILYX)[1, 2]
    seen_ILYX[1, 2] = 0
    unseen = shift_field(seen_ILYX)[1, 2]
    assert np.abs(unseen[:2] - [3.0, -2.0]).max() < 0.3
    assert 0.3 < unseen[2] < seen[2]


def test_nothing_seen_means_no_shift_and_little_quality() -> None:
    found_IL3 = shift_field(np.zeros((2, 3, 31, 31), np.float16))
    assert np.abs(found_IL3[..., :2]).max() < 0.01
    assert found_IL3[..., 2].max() < 0.15


@pytest.mark.parametrize("valid", [0.26, 0.5, 0.74])
def test_a_pixel_more_or_less_does_not_switch_a_node(valid: float) -> None:
    nodes = surfaces(np.full((1, 2, 2), 4.0), height=3.0)
    pixel = 2 / 256  # a row and a column of a node
    assert np.abs(field(nodes, valid) - field(nodes, valid + pixel)).max() < 0.3
