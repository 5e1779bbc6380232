"""Splits: what a model is trained on, what it is chosen by, and what it is tested on.

One vocabulary for image pairs, stores and points:

- a **group** is a region or a source; it is never divided between the sides;
- a **block** is a square of ground; it is never divided either;
- a **buffer** is the distance that training examples keep from held-out ground;
- a **fold** is one of several ways to divide the same examples;
- the random splits of the papers divide neighbours; they are kept for comparison, by name.

Image pairs are split by ground, `BlockSplit` and `RegionSplit`. Stores and points are split by
row, into `Fold` (two sides) and `SplitMasks` (three parts).
"""

from training.data.splits.blocks import BlockSplit, block_folds, table_block_folds
from training.data.splits.ground import GroundSplit, Side, blanked, buildings_on
from training.data.splits.groups import (
    RegionSplit,
    chosen_groups,
    group_folds,
    nearest_groups,
    table_region_folds,
)
from training.data.splits.masks import masks_of_points, masks_of_table
from training.data.splits.shuffled import (
    PAPER_SHARES,
    label_fraction,
    paper_parts,
    random_parts,
    random_split,
    training_fraction,
)
from training.data.splits.values import (
    FIELD_BLOCK_DEG,
    FIELD_BUFFER_DEG,
    Fold,
    PairSplit,
    RowSplit,
    SplitMasks,
    SplitPart,
)

__all__ = [
    "FIELD_BLOCK_DEG",
    "FIELD_BUFFER_DEG",
    "PAPER_SHARES",
    "BlockSplit",
    "Fold",
    "GroundSplit",
    "PairSplit",
    "RegionSplit",
    "RowSplit",
    "Side",
    "SplitMasks",
    "SplitPart",
    "blanked",
    "block_folds",
    "buildings_on",
    "chosen_groups",
    "group_folds",
    "label_fraction",
    "masks_of_points",
    "masks_of_table",
    "nearest_groups",
    "paper_parts",
    "random_parts",
    "random_split",
    "table_block_folds",
    "table_region_folds",
    "training_fraction",
]
