"""Splits by block: squares of ground, each wholly on one side.

Pairs and rows deal blocks to folds in different ways, for different reasons. `BlockSplit` hashes
a block's position, so that scenes read one by one agree. `block_folds` sees all rows at once and
deals blocks so that folds hold about as many rows.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray
from scipy import sparse
from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from quakestream.errors import RequestError, ShapeError
from training.data.pairs import LabelledPair
from training.data.splits.ground import GroundSplit
from training.data.splits.values import FIELD_BLOCK_DEG, FIELD_BUFFER_DEG, Floats, Fold


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSplit:
    """Holds out one fold of the square blocks of a CRS.

    A block's fold is a function of its CRS and position alone. Two scenes of the same ground
    therefore hold out the same part of it.
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
        """Fold of a block, `i` blocks east and `j` blocks north of the origin of the CRS."""
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


def block_folds(
    x_N: Floats,
    y_N: Floats,
    block: float = FIELD_BLOCK_DEG,
    buffer: float = FIELD_BUFFER_DEG,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Fold, ...]:
    """Folds in which every row is held out exactly once, together with its whole block.

    Blocks are squares counted from the origin of the coordinates. They are shuffled, then dealt
    largest first to the fold with the fewest rows, so that folds are of about equal size. The
    order of the rows does not matter.

    Args:
        x_N: eastward coordinate, degrees or metres.
        y_N: northward coordinate, in the same unit.
        block: side of a block, in that unit.
        buffer: rows nearer than this to an occupied held-out block are not trained on. It is
            the larger of the distances along both axes (Chebyshev), so that crops of that
            width share no pixel.
        folds: number of folds.
        seed: seed for dealing blocks to folds.

    Raises:
        RequestError: if there are fewer blocks than folds, or a coordinate is not finite.
    """
    x, y = np.asarray(x_N, np.float64), np.asarray(y_N, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ShapeError(
            "coordinates of different shapes",
            expected="one x and one y per row",
            got=f"{x.shape} and {y.shape}",
        )
    if not (block > 0 and buffer >= 0 and folds >= 2):
        raise RequestError(
            "block split is impossible",
            expected="a positive side, a buffer of 0 or more, and two folds or more",
            got=f"side {block:g}, buffer {buffer:g}, {folds} folds",
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise RequestError(
            "a row has no finite coordinates", "block split", remedy="leave the row out"
        )
    xy_N2 = np.stack([x, y], axis=1)
    cell_N2 = np.floor(xy_N2 / block).astype(np.int64)
    cell_B2, block_N, size_B = np.unique(cell_N2, axis=0, return_inverse=True, return_counts=True)
    if len(cell_B2) < folds:
        raise RequestError(
            "fewer blocks than folds",
            "block split",
            expected=f"{folds} blocks or more for {folds} folds",
            got=f"{len(cell_B2)} of side {block:g} for {len(x)} rows",
            remedy="use smaller blocks or fewer folds",
        )
    fold_B = _deal(size_B, folds, seed)
    held_BF = fold_B[:, None] == np.arange(folds)
    near_NB = _near(xy_N2, cell_B2, block, buffer)
    held_NF = held_BF[block_N.reshape(-1)]
    train_NF = ~held_NF & ~((near_NB @ held_BF) > 0)
    return tuple(Fold(train_N=train_NF[:, f], held_N=held_NF[:, f]) for f in range(folds))


def table_block_folds(
    table: pd.DataFrame, block_m: float, buffer_m: float, folds: int = 5, seed: int = 0
) -> tuple[Fold, ...]:
    """`block_folds` of a store's table, in metres.

    Rows of several UTM zones are projected to the zone with most rows, so that the buffer holds
    across the border of two zones.
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


def _deal(size_B: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Deals blocks to folds: the fold of each block."""
    shuffled = np.random.default_rng(seed).permutation(len(size_B))
    order = shuffled[np.argsort(-size_B[shuffled], kind="stable")]
    fold_B = np.empty(len(size_B), np.int64)
    held = np.zeros(folds, np.int64)
    for nth, block in enumerate(order):
        # The first blocks go to one fold each, so that no fold stays empty.
        fold = nth if nth < folds else int(held.argmin())
        fold_B[block] = fold
        held[fold] += size_B[block]
    return fold_B


def _near(
    xy_N2: Floats, cell_B2: NDArray[np.int64], block: float, buffer: float
) -> sparse.csr_array:
    """True where row N lies within the buffer of block B, along both axes; sparse (N, B)."""
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


_: type[GroundSplit] = BlockSplit
