"""Reads around blocks that are lost for good: their ground counts as missing.

What a file lacks, or holds damaged, it lacks in every run. So a scene can be prepared without it,
and the same comes out again. What did not arrive from a server may arrive the next time. A scene
that was prepared without that would be another scene in another run.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from rasterio.errors import RasterioError

from quakestream.domain import Scene, Window
from quakestream.errors import ReadError, StorageError
from quakestream.raster.messages import tells_of_damage
from quakestream.storage import StorageOptions, is_remote
from quakestream.storage.fetchers import open_fetcher
from quakestream.storage.range_file import RangeFile

T = TypeVar("T")
MOST_ERRORS = 20_000
"""Errors of a scene after which it is given up: a minute of reading in vain."""
_MOST_IMAGES = 64
"""Images of a file whose blocks are looked up: the full resolution, overviews, masks."""


@dataclass(kw_only=True, eq=False)
class LostBlocks:
    """Tells why a scene could not be read."""

    scene: Scene
    options: StorageOptions
    errors: int = 0
    """Errors that were asked about so far."""
    latest: BaseException | None = None
    """The latest of those that lost blocks are why of."""

    def are_why(self, error: BaseException) -> bool:
        """True if bytes are damaged or not in the file, False if they did not arrive.

        False too after `MOST_ERRORS` errors: of such a scene too much is lost.
        """
        self.errors += 1
        lost = self.errors <= MOST_ERRORS and (tells_of_damage(error) or self._cut)
        self.latest = error if lost else self.latest
        return lost

    @cached_property
    def _cut(self) -> bool:
        remote = [part.href for part in self.scene.parts if is_remote(part.href)]
        return not remote or any(_is_cut(href, self.options) for href in remote)


def _is_cut(href: str, options: StorageOptions) -> bool:
    """True if the index of a TIFF names blocks beyond the object's end."""
    import tifffile  # not at every command's start

    try:
        fetcher = open_fetcher(href, options)
    except (StorageError, OSError):
        return False
    try:
        file: Any = RangeFile(fetcher)
        with tifffile.TiffFile(file, name="scene") as tiff:
            return any(_end_of(page) > fetcher.size() for page in tiff.pages[:_MOST_IMAGES])
    except Exception:  # tifffile raises anything on a bad header, and the store may fail
        return False
    finally:
        fetcher.close()


def _end_of(page: Any) -> int:
    ends = np.add(page.dataoffsets, page.databytecounts, dtype=np.int64)
    return int(ends.max(initial=0))


def readable(
    window: Window,
    read: Callable[[Window], T],
    are_why: Callable[[BaseException], bool],
    least: tuple[int, int],
    step: int = 1,
) -> Iterator[tuple[Window, T]]:
    """The parts of a window that can be read, with what was read there.

    A part that cannot be read is halved, until it is small.

    Args:
        are_why: tells whether lost blocks are why a part cannot be read; other errors are raised.
        least: height and width of a part that is not halved any more.
        step: parts begin and end at multiples of this from the window's first pixel.
    """
    try:
        whole = read(window)
    except (RasterioError, ReadError) as error:
        if not are_why(error):
            raise
    else:
        yield window, whole
        return
    for half in _halves(window, least, step):
        yield from readable(half, read, are_why, least, step)


def _halves(window: Window, least: tuple[int, int], step: int) -> list[Window]:
    """Two halves of a window along its longer side; none of a small one."""
    rows, cols = (side / small for side, small in zip(window.shape, least, strict=True))
    if max(rows, cols) <= 1 or max(window.shape) < 2 * step:
        return []
    row, col, (height, width) = window.row, window.col, window.shape
    if rows >= cols:
        top = max(height // 2 // step, 1) * step
        return [
            Window(row=row, col=col, height=top, width=width),
            Window(row=row + top, col=col, height=height - top, width=width),
        ]
    left = max(width // 2 // step, 1) * step
    return [
        Window(row=row, col=col, height=height, width=left),
        Window(row=row, col=col + left, height=height, width=width - left),
    ]
