"""From the commits of a raster kind to the tiles that are published."""

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quakestream.catalog import view_rank
from quakestream.domain import Grid, Window
from quakestream.outputs.rasters import NODATA, TILE_PX, RasterProduct, RasterTile, TiledRasters
from quakestream.pipeline.result.context import KindProducts, RunContext
from quakestream.pipeline.result.reduce import failure_issues
from quakestream.pipeline.work.ledger import CellRecord, read_commit, read_commits
from quakestream.pipeline.work.read import around
from quakestream.storage import Store

COMMITS_KEPT = 4
"""Commit objects whose values stay in memory while tiles are put together."""


class _Place(NamedTuple):
    """Where the values of one window lie in the ledger."""

    view: int
    """Rank of its view: where several show a pixel, the lowest counts."""
    window: Window
    """Pixels of the grid."""
    commit: str
    row: int
    key: str
    """Key of its unit."""


def raster_products(
    store: Store,
    commits: Iterable[str],
    keys: set[str],
    context: RunContext,
    product: RasterProduct,
) -> KindProducts:
    """Finds the windows of each tile. Their pixels are read when the tile is written.

    Args:
        commits: keys of commit objects whose column `scores` holds a window's core, band by band.
        keys: keys of the job's units.
    """
    core_px = context.job.bundle.spec.core_px
    rank = {v.id: n for n, v in enumerate(sorted(context.plan.views, key=view_rank))}
    tiles: dict[tuple[Grid, int, int], list[_Place]] = defaultdict(list)
    records: list[CellRecord] = []
    grids = {unit.cell.id: unit.cell.grid for unit in context.job.units}
    for name, commit, chosen in read_commits(store, commits, keys, ["cell", "row", "col"]):
        records += [commit.cells[n] for n in chosen]
        wanted = set(chosen)
        columns = (commit.rows.column(c).to_pylist() for c in ("cell", "row", "col"))
        for place, (cell, row, col) in enumerate(zip(*columns, strict=True)):
            if cell in wanted and row >= 0:  # other rows hold no pixels
                record = commit.cells[cell]
                window = _core(row, col, core_px)
                entry = _Place(rank[record.view_id], window, name, place, record.key)
                for square in _squares(window):
                    tiles[grids[record.cell_id], *square].append(entry)
    shape = (len(product.bands), core_px, core_px)
    rasters = TiledRasters(
        product=product,
        tiles=[_tile(key, places) for key, places in sorted(tiles.items(), key=_order)],
        read=_TileReader(store=store, tiles=tiles, shape=shape),
    )
    return KindProducts(
        large={product.name: rasters.large_product()}, issues=tuple(failure_issues(records))
    )


def _core(row: int, col: int, size: int) -> Window:
    return Window(row=row * size, col=col * size, height=size, width=size)


def _squares(window: Window) -> Iterator[tuple[int, int]]:
    """The squares of the grid that a window touches."""
    for row in range(window.row // TILE_PX, (window.row_end - 1) // TILE_PX + 1):
        for col in range(window.col // TILE_PX, (window.col_end - 1) // TILE_PX + 1):
            yield row, col


def _order(item: tuple[tuple[Grid, int, int], list[_Place]]) -> tuple[int, int, int]:
    grid, row, col = item[0]
    return grid.epsg, row, col


def _tile(key: tuple[Grid, int, int], places: list[_Place]) -> RasterTile:
    grid, row, col = key
    square = Window(row=row * TILE_PX, col=col * TILE_PX, height=TILE_PX, width=TILE_PX)
    window = around(place.window.shared(square) for place in places)
    identity = sorted((p.window.row, p.window.col, p.view, p.key) for p in places)
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()
    return RasterTile(grid=grid, row=row, col=col, window=window, identity=digest)


@dataclass(slots=True, kw_only=True)
class _TileReader:
    """Puts the pixels of a tile together from commits."""

    store: Store
    tiles: dict[tuple[Grid, int, int], list[_Place]]
    shape: tuple[int, int, int]
    """Shape of a window's values: (B, Y, X)."""
    kept: OrderedDict[str, list[bytes]] = field(default_factory=OrderedDict)

    def __call__(self, tile: RasterTile) -> NDArray[np.uint8]:
        count_BYX = np.full((self.shape[0], *tile.window.shape), NODATA, np.uint8)
        places = self.tiles[tile.grid, tile.row, tile.col]
        for place in sorted(places, key=lambda p: (p.view, p.commit, p.row)):
            part = place.window.shared(tile.window)
            inside, of = part.slices_in(tile.window), part.slices_in(place.window)
            window_BYX = np.frombuffer(self._windows(place.commit)[place.row], np.uint8)
            new_BYX = window_BYX.reshape(self.shape)[:, *of]
            old_BYX = count_BYX[:, *inside]
            count_BYX[:, *inside] = np.where(old_BYX == NODATA, new_BYX, old_BYX)
        return count_BYX

    def _windows(self, commit: str) -> list[bytes]:
        if commit not in self.kept:
            while len(self.kept) >= COMMITS_KEPT:
                self.kept.popitem(last=False)
            rows = read_commit(self.store, commit, ["scores"]).rows
            self.kept[commit] = rows.column("scores").to_pylist()
        self.kept.move_to_end(commit)
        return self.kept[commit]
