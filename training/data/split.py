"""Which ground is held out. Training never sees a pixel of it; validation sees nothing else.

Pairs are split by ground (here), points and tables of chips by rows (`point_split`).
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from training.data.pairs import Building, LabelledPair
from training.data.point_split import (
    FIELD_BLOCK_DEG,
    FIELD_BUFFER_DEG,
    PAPER_SHARES,
    Fold,
    block_folds,
    chosen_sources,
    label_fraction,
    leave_one_region_out,
    paper_parts,
    random_parts,
    random_split,
    table_block_folds,
    table_region_folds,
)

__all__ = [
    "FIELD_BLOCK_DEG",
    "FIELD_BUFFER_DEG",
    "PAPER_SHARES",
    "BlockSplit",
    "Fold",
    "RegionSplit",
    "Side",
    "Split",
    "blanked",
    "block_folds",
    "buildings_on",
    "chosen_sources",
    "label_fraction",
    "leave_one_region_out",
    "paper_parts",
    "random_parts",
    "random_split",
    "table_block_folds",
    "table_region_folds",
]

Side = Literal["train", "held"]


class Split(Protocol):
    """Names the ground of a pair that is held out."""

    def held_ground(self, pair: LabelledPair) -> BaseGeometry:
        """Held-out ground in the CRS of the pair's grid; may be empty."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSplit:
    """Square blocks of a CRS, dealt into folds; one fold is held out.

    A block's fold is a function of its CRS and position alone, so two scenes that show the same
    ground hold out the same part of it.
    """

    block_m: float = 150.0
    folds: int = 5
    fold: int = 0

    def held_ground(self, pair: LabelledPair) -> BaseGeometry:
        return unary_union(
            [
                self._block(i, j).intersection(pair.outline)
                for i, j in self._blocks_over(pair.outline)
                if self.fold_of(pair.grid.epsg, i, j) == self.fold
            ]
        )

    def fold_of(self, epsg: int, i: int, j: int) -> int:
        """Fold of the block that is i-th eastward and j-th northward of the CRS's origin."""
        digest = hashlib.blake2b(f"{epsg}/{self.block_m:g}/{i}/{j}".encode(), digest_size=8)
        return int.from_bytes(digest.digest(), "big") % self.folds

    def _block(self, i: int, j: int) -> Polygon:
        side = self.block_m
        return box(i * side, j * side, (i + 1) * side, (j + 1) * side)

    def _blocks_over(self, area: BaseGeometry) -> list[tuple[int, int]]:
        west, south, east, north = (v / self.block_m for v in area.bounds)
        return [
            (i, j)
            for i in range(math.floor(west), math.ceil(east))
            for j in range(math.floor(south), math.ceil(north))
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionSplit:
    """Whole regions are held out: does what was learnt hold in another town?"""

    held_regions: frozenset[str]

    def held_ground(self, pair: LabelledPair) -> BaseGeometry:
        return pair.outline if pair.region in self.held_regions else Polygon()


def buildings_on(
    side: Side, pair: LabelledPair, held: BaseGeometry, *, buffer_m: float
) -> tuple[Building, ...]:
    """Buildings of one side. One within `buffer_m` of both sides belongs to neither.

    `held` buildings lie wholly on held ground; `train` buildings keep `buffer_m` away from it,
    since outlines are metres off the pixels.
    """
    shapely.prepare(held)
    if side == "held":
        return tuple(b for b in pair.buildings if held.contains(b.geometry))
    return tuple(b for b in pair.buildings if not held.dwithin(b.geometry, buffer_m))


def blanked(pixels_BYX: NDArray[np.uint8], held_YX: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image with held ground set to 0, the count of ground no sensor saw."""
    return np.where(held_YX, np.uint8(0), pixels_BYX)


_: tuple[type[Split], ...] = (BlockSplit, RegionSplit)
