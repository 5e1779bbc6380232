"""Scene statistics for `per_scene` normalisation, the same in training and inference."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STATISTICS_GSD_M = 4.0
"""Pixels are averaged to this before mean and deviation are taken: the figures then
describe the ground, not the sensor's sharpness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneStatistics:
    """Mean and standard deviation per band, in sensor counts."""

    mean_B: tuple[float, ...]
    std_B: tuple[float, ...]


def statistics_of(pixels_BYX: NDArray[np.uint8], valid_YX: NDArray[np.bool_]) -> SceneStatistics:
    """Statistics over the valid pixels of an image already averaged to 4 m.

    A scene without valid pixels, or without contrast, gets deviation 1 so that
    normalising it stays finite.
    """
    values_BN = pixels_BYX[:, valid_YX].astype(np.float64)
    if values_BN.shape[1] == 0:
        bands = pixels_BYX.shape[0]
        return SceneStatistics(mean_B=(0.0,) * bands, std_B=(1.0,) * bands)
    std_B = np.maximum(values_BN.std(axis=1), 1.0)
    return SceneStatistics(
        mean_B=tuple(float(v) for v in values_BN.mean(axis=1)),
        std_B=tuple(float(v) for v in std_B),
    )
