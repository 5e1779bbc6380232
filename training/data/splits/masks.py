"""Masks of training, validation and test rows, by the settings of a split."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.errors import RequestError
from training.data.splits.blocks import block_folds, table_block_folds
from training.data.splits.groups import chosen_groups, table_region_folds
from training.data.splits.shuffled import paper_parts, training_fraction
from training.data.splits.values import Floats, Fold, Mask, RowSplit, SplitMasks


def masks_of_points(
    x_N: Floats, y_N: Floats, label_N: NDArray[np.int64], rows: RowSplit
) -> SplitMasks:
    """Masks of points, by the papers' names or by blocks in the unit of the coordinates.

    Raises:
        RequestError: if the points cannot be split that way.
    """
    if rows.split.startswith("paper-"):
        return _paper(label_N, rows)
    if rows.split != "blocks":
        raise RequestError(
            f"points have no {rows.split}",
            f"rows.split={rows.split}",
            remedy="use rows.split=blocks",
        )
    fold = _chosen(block_folds(x_N, y_N, rows.block, rows.buffer, rows.folds, rows.seed), rows)
    inner = block_folds(
        x_N[fold.train_N], y_N[fold.train_N], rows.block, rows.buffer, rows.folds, rows.seed + 1
    )[0]
    return _known(fold, inner, label_N, rows)


def masks_of_table(table: pd.DataFrame, rows: RowSplit) -> SplitMasks:
    """Masks of a store's table.

    Raises:
        RequestError: if the rows cannot be split that way.
    """
    label_N = table["label"].to_numpy(np.int64)
    if rows.split.startswith("paper-"):
        return _paper(label_N, rows)
    fold = _table_fold(table, rows)
    inner = table_block_folds(
        table[fold.train_N], rows.block, rows.buffer, rows.folds, rows.seed + 1
    )[0]
    return _known(fold, inner, label_N, rows)


def _table_fold(table: pd.DataFrame, rows: RowSplit) -> Fold:
    """The test rows against all others."""
    if rows.split == "blocks":
        folds = table_block_folds(table, rows.block, rows.buffer, rows.folds, rows.seed)
        return _chosen(folds, rows)
    held = rows.held
    if rows.split == "sources":
        known = table["source"].astype(str).unique()
        return chosen_groups(
            table["source"].to_numpy(object), [s for s in known if s not in held], held
        )
    by_name = table_region_folds(table)
    if not held or (unknown := sorted(set(held) - set(by_name))):
        raise RequestError(
            "unknown region" if held else "no region to hold out",
            "rows.held",
            expected=f"regions of {', '.join(by_name)}",
            got=", ".join(unknown) if held else "",
        )
    held_N = np.logical_or.reduce([by_name[name].held_N for name in held])
    return Fold(train_N=~held_N, held_N=held_N)


def _chosen(folds: tuple[Fold, ...], rows: RowSplit) -> Fold:
    if not 0 <= rows.fold < len(folds):
        raise RequestError(
            "no such fold", "rows.fold", expected=f"0 to {len(folds) - 1}", got=str(rows.fold)
        )
    return folds[rows.fold]


def _paper(label_N: NDArray[np.int64], rows: RowSplit) -> SplitMasks:
    parts = paper_parts(rows.split, len(label_N), rows.seed)
    test_N, known_N = parts["test"], label_N >= 0
    validation_N = parts.get("validation", test_N)
    return SplitMasks(
        train_N=_labelled(parts["train"] & known_N, label_N, rows),
        validation_N=validation_N & known_N,
        test_N=test_N & known_N,
    )


def _known(fold: Fold, inner: Fold, label_N: NDArray[np.int64], rows: RowSplit) -> SplitMasks:
    """Splits the fold's training side again and leaves out rows of unknown class."""
    train_N, validation_N = np.zeros_like(fold.train_N), np.zeros_like(fold.train_N)
    train_N[fold.train_N], validation_N[fold.train_N] = inner.train_N, inner.held_N
    known_N = label_N >= 0
    return SplitMasks(
        train_N=_labelled(train_N & known_N, label_N, rows),
        validation_N=validation_N & known_N,
        test_N=fold.held_N & known_N,
    )


def _labelled(train_N: Mask, label_N: NDArray[np.int64], rows: RowSplit) -> Mask:
    if rows.labels == 1:
        return train_N
    return training_fraction(train_N, label_N, rows.labels, rows.seed)
