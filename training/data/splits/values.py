"""Values of a split: its settings, its folds and its masks."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quakestream.errors import ShapeError

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
SplitPart = Literal["train", "validation", "test"]
FIELD_BLOCK_DEG, FIELD_BUFFER_DEG = 0.02, 0.005
"""Block and buffer of the field points, degrees: about 2 km and 500 m."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairSplit:
    """Settings of a split of image pairs by ground."""

    block_m: float = 150.0
    """Side of a block, metres."""
    folds: int = 5
    fold: int = 0
    """The fold that is held out."""
    held_regions: tuple[str, ...] = ()
    """Regions that are held out whole, instead of a fold of blocks."""
    buffer_m: float = 10.0
    """Distance that training buildings keep from held-out ground, metres."""

    def __str__(self) -> str:
        if self.held_regions:
            return f"held-out regions {','.join(self.held_regions)}"
        return f"fold {self.fold} of {self.folds}, {self.block_m:g} m blocks"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSplit:
    """Settings of a split of a store's rows, or of points, into training, validation and test.

    Validation rows are blocks of the rows that are not in the test. The papers' splits are
    exceptions: there validation rows are drawn at random.
    """

    split: Literal["blocks", "regions", "sources", "paper-85-15", "paper-70-15-15"] = "blocks"
    """`paper-85-15` validates on the 15 % that are also its test, as the paper did."""
    block: float = 1000.0
    """Side of a block: metres in a store, degrees for points."""
    buffer: float = 200.0
    """Rows nearer than this to a held-out block are not trained on. Unit as for `block`."""
    folds: int = 5
    fold: int = 0
    """The fold that is the test, for `blocks`."""
    held: tuple[str, ...] = ()
    """Regions or sources that are the test, for `regions` and `sources`."""
    labels: float = 1.0
    """Share of the training labels that is used."""
    seed: int = 0
    """Seed of the split alone, so that runs with other seeds are tested on the same rows."""

    def __str__(self) -> str:
        if self.split == "blocks":
            return f"blocks of {self.block:g}, fold {self.fold} of {self.folds}"
        return f"{self.split} {','.join(self.held)}".strip()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """One way to divide N rows into a training side and a held-out side.

    Raises:
        ShapeError: if a row is on both sides.
    """

    train_N: Mask
    held_N: Mask
    """Rows on neither side lie within the buffer, or belong to another group."""

    def __post_init__(self) -> None:
        if self.train_N.shape != self.held_N.shape or (self.train_N & self.held_N).any():
            raise ShapeError("fold needs two masks of one length that share no row")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplitMasks:
    """Three masks over N rows. Rows in none of them lie within a buffer or have no label.

    Raises:
        ShapeError: if a training row is also a validation or test row.
    """

    train_N: Mask
    validation_N: Mask
    test_N: Mask
    """Equal to `validation_N` under `paper-85-15` alone, which validated on its test."""

    def __post_init__(self) -> None:
        if (self.train_N & (self.validation_N | self.test_N)).any():
            raise ShapeError("split has rows that are trained on and tested on")

    def of(self, part: SplitPart) -> Mask:
        """The mask of one part."""
        return {"train": self.train_N, "validation": self.validation_N, "test": self.test_N}[part]
