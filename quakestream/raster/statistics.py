"""Scene statistics for `per_scene` normalisation, computed alike in training and inference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

STATISTICS_GSD_M = 4.0
"""GSD to which pixels are averaged before mean and deviation are taken. The figures then describe
the ground and not the sensor's sharpness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneStatistics:
    """Mean and standard deviation per band, in sensor counts."""

    mean_B: tuple[float, ...]
    std_B: tuple[float, ...]


@dataclass(slots=True)
class RunningStatistics:
    """Exact integer sums over the strips of a scene, for scenes of any size."""

    count: int
    sum_B: NDArray[np.int64]
    square_B: NDArray[np.int64]

    @classmethod
    def of_bands(cls, bands: int) -> Self:
        return cls(0, np.zeros(bands, np.int64), np.zeros(bands, np.int64))

    def add(self, pixels_BYX: NDArray[np.uint8], valid_YX: NDArray[np.bool_]) -> None:
        values_BN = pixels_BYX[:, valid_YX].astype(np.int64)
        self.count += values_BN.shape[1]
        self.sum_B += values_BN.sum(axis=1)
        self.square_B += (values_BN**2).sum(axis=1)

    def remove(self, count: int, value: int) -> None:
        """Takes out pixels that were added and have one value in every band."""
        self.count -= count
        self.sum_B -= count * value
        self.square_B -= count * value**2

    def result(self) -> SceneStatistics:
        """The statistics of all strips.

        A scene without valid pixels or contrast gets deviation 1, so that its normalised values
        stay finite.
        """
        mean_B = self.sum_B / max(self.count, 1)
        variance_B = np.maximum(self.square_B / max(self.count, 1) - mean_B**2, 1.0)
        return SceneStatistics(
            mean_B=tuple(float(v) for v in mean_B),
            std_B=tuple(float(v) for v in np.sqrt(variance_B)),
        )


def joint_statistics(parts: Sequence[tuple[SceneStatistics, int]]) -> SceneStatistics:
    """Statistics over parts, each with its number of pixels: ground on two parts counts twice."""
    if len(parts) == 1:
        return parts[0][0]
    weight_P = np.array([max(pixels, 0) for _, pixels in parts], np.float64)
    weight_P /= max(weight_P.sum(), 1.0)
    mean_PB = np.array([statistics.mean_B for statistics, _ in parts])
    square_PB = np.array([statistics.std_B for statistics, _ in parts]) ** 2 + mean_PB**2
    mean_B = weight_P @ mean_PB
    std_B = np.sqrt(np.maximum(weight_P @ square_PB - mean_B**2, 1.0))
    return SceneStatistics(mean_B=tuple(mean_B.tolist()), std_B=tuple(std_B.tolist()))


def statistics_of(pixels_BYX: NDArray[np.uint8], valid_YX: NDArray[np.bool_]) -> SceneStatistics:
    """Statistics of the valid pixels of an image that was averaged to 4 m."""
    running = RunningStatistics.of_bands(len(pixels_BYX))
    running.add(pixels_BYX, valid_YX)
    return running.result()
