"""Partial sums per building. Tallies add up in any order and grouping."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Quality
from quakestream.errors import ShapeError

PROBABILITY_ONE = 65535
"""Probability 1 as an integer. Integers have the same sum in any order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """Integer sums for N buildings, building indices ascending and distinct.

    Raises:
        ShapeError: if the arrays disagree or the indices are not ascending.
    """

    building_N: NDArray[np.int64]
    """Index of the building in the run's footprint table."""
    pixels_NQ: NDArray[np.int64]
    """Pixels per `Quality`: column 0 is valid, 1 nodata, 2 cloud, 3 snow, 4 saturated."""
    sum_NC: NDArray[np.int64]
    """Sum over valid pixels of class probability × 65535."""
    change_N: NDArray[np.int64]
    """Sum over valid pixels of |post - pre|, in counts × bands."""

    def __post_init__(self) -> None:
        n = len(self.building_N)
        if (len(self.pixels_NQ), len(self.sum_NC), len(self.change_N)) != (n, n, n):
            raise ShapeError("tally columns differ in length")
        if self.pixels_NQ.shape[1:] != (len(Quality),):
            raise ShapeError(
                "pixel counts have a wrong shape",
                expected=f"(N, {len(Quality)})",
                got=str(self.pixels_NQ.shape),
            )
        if n > 1 and (np.diff(self.building_N) <= 0).any():
            raise ShapeError("building indices are not ascending and distinct")

    @classmethod
    def empty(cls, classes: int) -> "Tally":
        """The identity of `merge`."""
        return cls(
            building_N=np.empty(0, np.int64),
            pixels_NQ=np.empty((0, len(Quality)), np.int64),
            sum_NC=np.empty((0, classes), np.int64),
            change_N=np.empty(0, np.int64),
        )

    def equals(self, other: "Tally") -> bool:
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("building_N", "pixels_NQ", "sum_NC", "change_N")
        )

    def __len__(self) -> int:
        return len(self.building_N)


def merge(tallies: Iterable[Tally], *, classes: int) -> Tally:
    """Adds tallies by building. Associative and commutative; `Tally.empty` is the identity."""
    parts = [Tally.empty(classes), *tallies]
    building_T = np.concatenate([t.building_N for t in parts])
    building_N, place_T = np.unique(building_T, return_inverse=True)

    def added(name: str) -> NDArray[np.int64]:
        part_T = np.concatenate([getattr(t, name) for t in parts])
        total_N = np.zeros((len(building_N), *part_T.shape[1:]), np.int64)
        np.add.at(total_N, place_T, part_T)
        return total_N

    return Tally(
        building_N=building_N,
        pixels_NQ=added("pixels_NQ"),
        sum_NC=added("sum_NC"),
        change_N=added("change_N"),
    )
