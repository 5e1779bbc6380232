"""Finds the tiles that make the preparation of an acquisition fail."""

from collections.abc import Callable, Iterable, Iterator

from quakestream.domain import Grid, Issue, Scene, Window
from quakestream.errors import QuakestreamError
from quakestream.raster.patchy import PatchySource
from quakestream.raster.source import RasterioSource
from quakestream.raster.tiles.placement import extent_on
from quakestream.storage import StorageOptions

STRIP_PX = (256, 4096)
"""Rows and columns that are read at once."""


def faulty_tiles(scenes: Iterable[Scene], attempt: Callable[[Scene], object]) -> tuple[Issue, ...]:
    """An issue for each tile on which an attempt fails.

    Args:
        scenes: scenes of which those without tiles are left out.
        attempt: what failed on the acquisition, for one of its tiles.
    """
    issues = []
    for tile in (tile for scene in scenes for tile in scene.tiles):
        try:
            attempt(tile)
        except (QuakestreamError, OSError, MemoryError) as error:
            cause = f"{error}; the other tiles of its acquisition are used"
            issues.append(Issue(subject=tile.id, kind="scene", cause=cause, retryable=True))
    return tuple(issues)


def read_through(tile: Scene, grid: Grid, area: Window, options: StorageOptions) -> None:
    """Reads every pixel of a tile in an area, around blocks that are lost for good.

    Raises:
        SceneError: if it cannot be opened.
        ReadError: if a part of it did not arrive.
    """
    with PatchySource(RasterioSource(tile, grid, options), tile, options) as source:
        for window in _strips(area.shared(extent_on(tile, grid))):
            source.read(window)


def _strips(area: Window) -> Iterator[Window]:
    rows, cols = STRIP_PX
    for row in range(area.row, area.row_end, rows):
        for col in range(area.col, area.col_end, cols):
            yield area.shared(Window(row=row, col=col, height=rows, width=cols))
