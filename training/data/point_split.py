"""Splits of points and of tables of chips: which rows are trained on, which are held out.

Random splits are what the papers did, kept by name for comparison; neighbours then stand on both
sides. Blocks, regions and sources part the ground: a block, a scene's region or a source is
never on both sides, and a row too near to the other side belongs to neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray
from scipy import sparse

from quakestream.errors import RequestError, ShapeError

Floats = NDArray[np.floating[Any]]
Part = Literal["train", "test", "validation"]
PAPER_SHARES: dict[str, dict[Part, float]] = {
    "paper-85-15": {"train": 0.85, "test": 0.15},
    "paper-70-15-15": {"train": 0.70, "test": 0.15, "validation": 0.15},
}
"""QuakeMetaFormer's split, and FC-Siam's of EPFL, in the order their points are dealt."""
FIELD_BLOCK_DEG, FIELD_BUFFER_DEG = 0.02, 0.005
"""About 2 km with 500 m, for the field points."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """One way to part N rows.

    Raises:
        ShapeError: if a row is on both sides.
    """

    train_N: NDArray[np.bool_]
    held_N: NDArray[np.bool_]
    """Rows in neither lie within the buffer, or are of another region or source."""

    def __post_init__(self) -> None:
        if self.train_N.shape != self.held_N.shape or (self.train_N & self.held_N).any():
            raise ShapeError("a fold needs two masks of one length that share no row")

    def with_labels(self, label_N: NDArray[np.integer[Any]], fraction: float, seed: int) -> "Fold":
        """The fold with only a fraction of its training rows, see `label_fraction`."""
        kept_N = np.zeros(len(self.train_N), np.bool_)
        kept_N[self.train_N] = label_fraction(label_N[self.train_N], fraction, seed)
        return Fold(train_N=kept_N, held_N=self.held_N)


def random_split(n: int, train_share: float = 0.85, seed: int = 0) -> Fold:
    """Rows dealt at random, as the papers do; the training side is rounded down.

    Raises:
        RequestError: if a side is empty.
    """
    parts = random_parts(n, {"train": train_share, "test": 1 - train_share}, seed)
    return Fold(train_N=parts["train"], held_N=parts["test"])


def paper_parts(name: str, n: int, seed: int = 0) -> dict[Part, NDArray[np.bool_]]:
    """A paper's random split by its name in `PAPER_SHARES`.

    Raises:
        RequestError: if there is none of that name, or a part is empty.
    """
    if name not in PAPER_SHARES:
        raise RequestError(f"no split {name!r}; known: {', '.join(PAPER_SHARES)}")
    return random_parts(n, PAPER_SHARES[name], seed)


def random_parts(n: int, shares: dict[Part, float], seed: int) -> dict[Part, NDArray[np.bool_]]:
    """A mask per part; parts follow each other in one shuffled order, the last takes the rest.

    Raises:
        RequestError: if the shares are not those of a whole, or a part is empty.
    """
    if not shares or min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise RequestError(f"split shares must be positive and add up to 1, got {shares}")
    ends = np.floor(np.cumsum(list(shares.values())) * n + 1e-9).astype(int)
    ends[-1] = n
    order = np.random.default_rng(seed).permutation(n)
    parts: dict[Part, NDArray[np.bool_]] = {}
    for name, start, end in zip(shares, [0, *ends], ends, strict=False):
        if start == end:
            raise RequestError(f"{n} rows leave none for {name} with shares {shares}")
        parts[name] = np.zeros(n, np.bool_)
        parts[name][order[start:end]] = True
    return parts


def block_folds(
    x_N: Floats,
    y_N: Floats,
    block: float = FIELD_BLOCK_DEG,
    buffer: float = FIELD_BUFFER_DEG,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Fold, ...]:
    """Every row is held out in exactly one fold, together with its whole block.

    Blocks are squares from the coordinates' origin. They are shuffled, then dealt largest first
    to the fold with fewest rows, so that folds hold about as many. The order of rows does not
    matter.

    Args:
        x_N: eastward, degrees or metres.
        y_N: northward, in the same unit.
        block: side of a block, in that unit.
        buffer: rows nearer than this to a held block that holds a row are not trained on. It is
            measured along both axes (Chebyshev), so that crops no wider share no pixel.
        folds: how many.
        seed: of the dealing.

    Raises:
        RequestError: if there are fewer blocks than folds, or a place is not finite.
    """
    x, y = np.asarray(x_N, np.float64), np.asarray(y_N, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ShapeError(f"expected as many x as y in one row, got {x.shape} and {y.shape}")
    if not (block > 0 and buffer >= 0 and folds >= 2):
        raise RequestError(
            f"blocks of {block:g} with buffer {buffer:g} in {folds} folds: expected a positive "
            "side, no negative buffer and two folds or more"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise RequestError("block split: a row has no finite place; leave it out first")
    xy_N2 = np.stack([x, y], axis=1)
    cell_N2 = np.floor(xy_N2 / block).astype(np.int64)
    cell_B2, block_N, size_B = np.unique(cell_N2, axis=0, return_inverse=True, return_counts=True)
    if len(cell_B2) < folds:
        raise RequestError(
            f"{len(x)} rows lie in {len(cell_B2)} blocks of {block:g}, which make no {folds} "
            "folds; take smaller blocks or fewer folds"
        )
    fold_B = _dealt(size_B, folds, seed)
    held_BF = fold_B[:, None] == np.arange(folds)
    near_NB = _near(xy_N2, cell_B2, block, buffer)
    held_NF = held_BF[block_N.reshape(-1)]
    train_NF = ~held_NF & ~((near_NB @ held_BF) > 0)
    return tuple(Fold(train_N=train_NF[:, f], held_N=held_NF[:, f]) for f in range(folds))


def leave_one_region_out(region_N: Sequence[str] | NDArray[np.object_]) -> dict[str, Fold]:
    """A fold per region (LODO), by name: that region is held out, all others are trained on.

    Raises:
        RequestError: if there are fewer than two regions.
    """
    region = np.asarray(region_N, object).astype(str)
    names = sorted(set(region.tolist()))
    if len(names) < 2:
        raise RequestError(f"leaving a region out takes two or more, got {names}")
    return {name: Fold(train_N=region != name, held_N=region == name) for name in names}


def chosen_sources(
    source_N: Sequence[str] | NDArray[np.object_], train: Sequence[str], test: Sequence[str]
) -> Fold:
    """Trained on some sources, held out others (SSDC); the rest belong to neither.

    Raises:
        RequestError: if a source is unknown, on both sides, or a side is empty.
    """
    source = np.asarray(source_N, object).astype(str)
    known = sorted(set(source.tolist()))
    if unknown := sorted({*train, *test} - set(known)):
        raise RequestError(f"no source {', '.join(unknown)}; known: {', '.join(known)}")
    if both := sorted({*train} & {*test}):
        raise RequestError(f"source {', '.join(both)} is on both sides of the split")
    if not train or not test:
        raise RequestError(f"name sources to train on and to hold out, of {', '.join(known)}")
    return Fold(train_N=np.isin(source, list(train)), held_N=np.isin(source, list(test)))


def label_fraction(
    label_N: NDArray[np.integer[Any]], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """A fraction of each class, rounded up; what a smaller fraction keeps a larger keeps too.

    Rows of unknown class (below 0) are never kept.

    Raises:
        RequestError: if the fraction is not within 0 and 1.
    """
    if not 0 < fraction <= 1:
        raise RequestError(f"label fraction {fraction:g}: expected above 0 and at most 1")
    label = np.asarray(label_N)
    order = np.random.default_rng(seed).permutation(len(label))
    kept_N = np.zeros(len(label), np.bool_)
    for value in np.unique(label[label >= 0]):
        of_class = order[label[order] == value]
        kept_N[of_class[: int(np.ceil(len(of_class) * fraction - 1e-9))]] = True
    return kept_N


def table_block_folds(
    table: pd.DataFrame, block_m: float, buffer_m: float, folds: int = 5, seed: int = 0
) -> tuple[Fold, ...]:
    """`block_folds` of a store's table, in metres. Rows of several UTM zones are taken to the
    zone with most rows, so that the buffer holds across their border.
    """
    epsg_N = table["epsg"].to_numpy(np.int64)
    x_N, y_N = table["x_m"].to_numpy(np.float64), table["y_m"].to_numpy(np.float64)
    home = int(np.bincount(epsg_N).argmax())
    for epsg in np.unique(epsg_N[epsg_N != home]):
        here = epsg_N == epsg
        moved = pyproj.Transformer.from_crs(int(epsg), home, always_xy=True)
        x_N, y_N = x_N.copy(), y_N.copy()
        x_N[here], y_N[here] = moved.transform(x_N[here], y_N[here])
    return block_folds(x_N, y_N, block_m, buffer_m, folds, seed)


def table_region_folds(table: pd.DataFrame) -> dict[str, Fold]:
    """`leave_one_region_out` of a store's table.

    Raises:
        RequestError: if a scene shows two regions, and so would be on both sides.
    """
    shown = table[["source", "scene", "region"]].drop_duplicates()
    twice = shown[shown.duplicated(["source", "scene"])]
    if len(twice):
        source, scene = twice.iloc[0][["source", "scene"]]
        raise RequestError(
            f"scene {scene} of {source} shows more than one region and would be on both sides; "
            "make them one region"
        )
    return leave_one_region_out(table["region"].to_numpy(object))


def _dealt(size_B: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each block."""
    shuffled = np.random.default_rng(seed).permutation(len(size_B))
    order = shuffled[np.argsort(-size_B[shuffled], kind="stable")]
    fold_B = np.empty(len(size_B), np.int64)
    held = np.zeros(folds, np.int64)
    for nth, block in enumerate(order):
        # the first ones go round, so that no fold stays empty
        fold = nth if nth < folds else int(held.argmin())
        fold_B[block] = fold
        held[fold] += size_B[block]
    return fold_B


def _near(
    xy_N2: Floats, cell_B2: NDArray[np.int64], block: float, buffer: float
) -> sparse.csr_array:
    """Which blocks each row lies within the buffer of, along both axes; sparse (N, B)."""
    number = {tuple(cell): b for b, cell in enumerate(cell_B2.tolist())}
    own_N2 = np.floor(xy_N2 / block).astype(np.int64)
    cell_C2, cell_N = np.unique(own_N2, axis=0, return_inverse=True)
    reach = int(np.ceil(buffer / block))
    rows, blocks = [], []
    for step in np.ndindex(2 * reach + 1, 2 * reach + 1):
        offset = np.array(step) - reach
        block_C = np.array([number.get(tuple(c), -1) for c in (cell_C2 + offset).tolist()])
        low_N2 = (own_N2 + offset) * block
        gap_N2 = np.maximum(low_N2 - xy_N2, xy_N2 - (low_N2 + block))
        block_N = block_C[cell_N.reshape(-1)]
        hit = np.flatnonzero((block_N >= 0) & (gap_N2.max(axis=1) < buffer))
        rows.append(hit)
        blocks.append(block_N[hit])
    row_P, block_P = np.concatenate(rows), np.concatenate(blocks)
    shape = len(xy_N2), len(cell_B2)
    return sparse.csr_array((np.ones(len(row_P), np.int32), (row_P, block_P)), shape=shape)
