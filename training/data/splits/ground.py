"""Splits of image pairs by ground. Training sees no pixel of held-out ground."""

from typing import Literal, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from training.data.pairs import Building, LabelledPair

Side = Literal["train", "held"]


class GroundSplit(Protocol):
    """Names the held-out ground of a pair."""

    def held_ground(self, pair: LabelledPair) -> BaseGeometry:
        """Held-out ground in the CRS of the pair's grid; may be empty."""
        ...


def buildings_on(
    side: Side, pair: LabelledPair, held: BaseGeometry, *, buffer_m: float
) -> tuple[Building, ...]:
    """Buildings of one side. A building within `buffer_m` of both sides belongs to neither.

    `held` buildings lie wholly on held-out ground, and their state is known. `train` buildings
    keep `buffer_m` away from it, because outlines are metres off the pixels.
    """
    shapely.prepare(held)
    if side == "held":
        return tuple(b for b in pair.buildings if b.judged and held.contains(b.geometry))
    return tuple(b for b in pair.buildings if not held.dwithin(b.geometry, buffer_m))


def blanked(pixels_BYX: NDArray[np.uint8], held_YX: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image with held-out ground set to 0, the count of ground that no sensor saw."""
    return np.where(held_YX, np.uint8(0), pixels_BYX)
