"""Rows of a table by what they are for: to train on, to choose by, to report."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from quakestream.errors import RequestError, ShapeError
from training.config import Rows
from training.data.point_split import (
    Fold,
    block_folds,
    chosen_sources,
    label_fraction,
    paper_parts,
    table_block_folds,
    table_region_folds,
)

Mask = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """Masks over N rows. Rows in none of them lie within a buffer or have no label.

    Raises:
        ShapeError: if a row is trained on and judged.
    """

    train_N: Mask
    validation_N: Mask
    test_N: Mask
    """The same rows as `validation_N` only under the paper's 85/15, which chose by its test."""

    def __post_init__(self) -> None:
        if (self.train_N & (self.validation_N | self.test_N)).any():
            raise ShapeError("a row is on both sides of the split")


def parts_of_points(x_N: Floats, y_N: Floats, label_N: NDArray[np.int64], rows: Rows) -> Parts:
    """Parts of points, by the papers' names or by blocks in the unit of the coordinates.

    Raises:
        RequestError: if the points cannot be split that way.
    """
    if rows.split.startswith("paper-"):
        return _paper(label_N, rows)
    if rows.split != "blocks":
        raise RequestError(f"rows.split={rows.split}: points have no {rows.split}; take blocks")
    fold = _chosen(block_folds(x_N, y_N, rows.block, rows.buffer, rows.folds, rows.seed), rows)
    inner = block_folds(
        x_N[fold.train_N], y_N[fold.train_N], rows.block, rows.buffer, rows.folds, rows.seed + 1
    )[0]
    return _known(fold, inner, label_N, rows)


def parts_of_table(table: pd.DataFrame, rows: Rows) -> Parts:
    """Parts of a store's table.

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


def _table_fold(table: pd.DataFrame, rows: Rows) -> Fold:
    """Test against all the rest."""
    if rows.split == "blocks":
        folds = table_block_folds(table, rows.block, rows.buffer, rows.folds, rows.seed)
        return _chosen(folds, rows)
    held = [name for name in rows.held.split(",") if name]
    if rows.split == "sources":
        known = table["source"].astype(str).unique()
        return chosen_sources(
            table["source"].to_numpy(object), [s for s in known if s not in held], held
        )
    by_name = table_region_folds(table)
    if not held or (unknown := sorted(set(held) - set(by_name))):
        raise RequestError(
            f"rows.held={rows.held}: expected regions of {', '.join(by_name)}"
            + (f"; there is no {', '.join(unknown)}" if held else "")
        )
    held_N = np.logical_or.reduce([by_name[name].held_N for name in held])
    return Fold(train_N=~held_N, held_N=held_N)


def _chosen(folds: tuple[Fold, ...], rows: Rows) -> Fold:
    if not 0 <= rows.fold < len(folds):
        raise RequestError(f"rows.fold={rows.fold}: expected 0 to {len(folds) - 1}")
    return folds[rows.fold]


def _paper(label_N: NDArray[np.int64], rows: Rows) -> Parts:
    parts = paper_parts(rows.split, len(label_N), rows.seed)
    test_N, known_N = parts["test"], label_N >= 0
    validation_N = parts.get("validation", test_N)
    return Parts(
        train_N=_labelled(parts["train"] & known_N, label_N, rows),
        validation_N=validation_N & known_N,
        test_N=test_N & known_N,
    )


def _known(fold: Fold, inner: Fold, label_N: NDArray[np.int64], rows: Rows) -> Parts:
    """The fold's training side parted again, rows of unknown class left out."""
    train_N, validation_N = np.zeros_like(fold.train_N), np.zeros_like(fold.train_N)
    train_N[fold.train_N], validation_N[fold.train_N] = inner.train_N, inner.held_N
    known_N = label_N >= 0
    return Parts(
        train_N=_labelled(train_N & known_N, label_N, rows),
        validation_N=validation_N & known_N,
        test_N=fold.held_N & known_N,
    )


def _labelled(train_N: Mask, label_N: NDArray[np.int64], rows: Rows) -> Mask:
    if rows.labels == 1:
        return train_N
    kept_N = np.zeros_like(train_N)
    kept_N[train_N] = label_fraction(label_N[train_N], rows.labels, rows.seed)
    return kept_N
