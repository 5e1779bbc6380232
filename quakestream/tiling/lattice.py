"""The window lattice of a grid, and cells of whole windows.

Window (r, c) of a grid has its core at pixels r·core .. (r+1)·core, whatever the cell size, the
scene or the run. The input of a network therefore depends on position alone. A cell only groups
windows for work.
"""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Grid, Window
from quakestream.errors import ShapeError


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """A square of windows: the unit of work, of ownership and of commit."""

    epsg: int
    gsd_m: float
    size_px: int
    """Side of the core, pixels."""
    row: int
    col: int

    @property
    def id(self) -> str:
        """Id from grid and position alone: `32637-0.5m-1536px-r13020-c383`."""
        return f"{self.epsg}-{self.gsd_m:g}m-{self.size_px}px-r{self.row}-c{self.col}"

    @property
    def grid(self) -> Grid:
        return Grid(epsg=self.epsg, gsd_m=self.gsd_m)

    @property
    def core(self) -> Window:
        """Pixels that this cell owns. The cores of all cells partition the grid."""
        return Window(
            row=self.row * self.size_px,
            col=self.col * self.size_px,
            height=self.size_px,
            width=self.size_px,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowTouches:
    """Pairs of a bounding box and a lattice window whose core it touches, one per row."""

    item_T: NDArray[np.int64]
    """Index of the box."""
    row_T: NDArray[np.int64]
    col_T: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Windows of one size on one grid, and cells of `cell_windows` × `cell_windows` of them.

    Raises:
        ShapeError: if the halo leaves no core, or a cell has no window.
    """

    grid: Grid
    window_px: int
    halo_px: int
    cell_windows: int

    def __post_init__(self) -> None:
        if self.core_px <= 0 or self.cell_windows < 1:
            raise ShapeError(
                "no core is left",
                got=f"window_px {self.window_px}, halo_px {self.halo_px}, "
                f"cell_windows {self.cell_windows}",
            )

    @property
    def core_px(self) -> int:
        return self.window_px - 2 * self.halo_px

    @property
    def cell_px(self) -> int:
        return self.core_px * self.cell_windows

    def km2(self, windows: int) -> float:
        """Area of a number of window cores."""
        return windows * (self.core_px * self.grid.gsd_m) ** 2 / 1e6

    def core(self, row: int, col: int) -> Window:
        """Pixels of a window whose scores count."""
        size = self.core_px
        return Window(row=row * size, col=col * size, height=size, width=size)

    def window(self, row: int, col: int) -> Window:
        """Pixels of a window that the network reads: core and halo."""
        return self.core(row, col).grown(self.halo_px)

    def cell(self, row: int, col: int) -> Cell:
        """The cell at a row and column of cells."""
        return Cell(
            epsg=self.grid.epsg, gsd_m=self.grid.gsd_m, size_px=self.cell_px, row=row, col=col
        )

    def touches(self, bounds_N4: NDArray[np.float64]) -> WindowTouches:
        """Windows whose core touches a box (west, south, east, north; metres).

        Raises:
            ShapeError: if a box is empty or not finite.
        """
        if not np.isfinite(bounds_N4).all() or (bounds_N4[:, :2] > bounds_N4[:, 2:]).any():
            raise ShapeError("a box is not finite or is empty", "", "west ≤ east, south ≤ north")
        side_m = self.core_px * self.grid.gsd_m
        top_m = self.grid.transform.f
        col0, col1 = (np.floor(bounds_N4[:, i] / side_m).astype(np.int64) for i in (0, 2))
        row0, row1 = (np.floor((top_m - bounds_N4[:, i]) / side_m).astype(np.int64) for i in (3, 1))
        rows, cols = row1 - row0 + 1, col1 - col0 + 1
        item_T = np.repeat(np.arange(len(bounds_N4)), rows * cols)
        nth_T = np.arange(len(item_T)) - np.repeat(
            np.cumsum(rows * cols) - rows * cols, rows * cols
        )
        row_T = row0[item_T] + nth_T // cols[item_T]
        col_T = col0[item_T] + nth_T % cols[item_T]
        return WindowTouches(item_T=item_T, row_T=row_T, col_T=col_T)

    def cells_over(self, area: BaseGeometry) -> list[Cell]:
        """Cells whose core shares ground with an area in the grid's CRS, row by row."""
        return [self.cell(row, col) for row, col in self._over(area, self.cell_px).tolist()]

    def windows_over(self, area: BaseGeometry) -> NDArray[np.int64]:
        """Windows whose core shares ground with an area in the grid's CRS.

        Returns:
            Lattice (row, col), row by row, shape (W, 2).
        """
        return self._over(area, self.core_px)

    def _over(self, area: BaseGeometry, side_px: int) -> NDArray[np.int64]:
        """Rows and columns of the grid's squares of that size that share ground with an area."""
        if area.is_empty:
            return np.empty((0, 2), np.int64)
        west, south, east, north = area.bounds
        side_m, top_m = side_px * self.grid.gsd_m, self.grid.transform.f
        cols = np.arange(int(west // side_m), int(east // side_m) + 1)
        rows = np.arange(int((top_m - north) // side_m), int((top_m - south) // side_m) + 1)
        shapely.prepare(area)
        found: list[NDArray[np.int64]] = []
        for row in rows:  # one row at a time: memory does not grow with the area
            north_m = top_m - row * side_m
            boxes = shapely.box(cols * side_m, north_m - side_m, (cols + 1) * side_m, north_m)
            hits = shapely.intersects(area, boxes) & ~shapely.touches(area, boxes)
            found.append(np.stack([np.full(hits.sum(), row), cols[hits]], axis=1))
        return np.concatenate(found)
