"""Scene statistics for `per_scene` normalisation, computed alike in training and inference."""

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


def statistics_of(pixels_BYX: NDArray[np.uint8], valid_YX: NDArray[np.bool_]) -> SceneStatistics:
    """Statistics of the valid pixels of an image that was averaged to 4 m."""
    running = RunningStatistics.of_bands(len(pixels_BYX))
    running.add(pixels_BYX, valid_YX)
    return running.result()
