"""Opens scenes: with the hot path where it can read them, else through GDAL.

`RasterioSource` reads the rest: files other than TIFF, odd codecs, a mask beside the file, one
band, or any file if an optional package is missing. `refusals` gives the reasons. The choice
depends on the file and the installed packages alone. A store that does not answer is an error:
the two readers differ in the last bits of JPEG, and a run must not depend on the network.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from quakestream.domain import Grid, Scene, SceneLayer
from quakestream.errors import MissingExtraError, QuakestreamError, SceneError, StorageError
from quakestream.raster.cog.layout import CogLayout, NotCoveredError
from quakestream.raster.cog.layouts import COPIED, REFUSED, LayoutCache
from quakestream.raster.cog.workers import PREFETCH_BYTES, Team
from quakestream.raster.messages import reason_of
from quakestream.raster.source import RasterioSource, RasterSource
from quakestream.raster.values import GdalValues, ValueReader
from quakestream.storage import StorageOptions
from quakestream.storage.web_fetcher import copied_whole

CACHE_BYTES = 64 << 20
"""Decoded blocks kept for neighbouring windows: 85 blocks of 512 × 512."""
HELD_BYTES = CACHE_BYTES + PREFETCH_BYTES + (40 << 20)
"""Most bytes that an opener holds: decoded blocks, prefetched bytes, block indices of the largest
scenes and the threads' scratch memory. Windows come on top: counts, validity, and their encoded
bytes while they are read."""


class CogOpener:
    """Opens sources that share threads, decoded blocks and block indices. One per process.

    The opener and its sources are safe to use from several threads.

    Args:
        threads: threads that decode, the calling one included.
        cache_bytes: bound on the decoded blocks held for neighbouring windows of all scenes.
        layouts: the cache of block indices.
    """

    def __init__(
        self,
        options: StorageOptions | None = None,
        *,
        threads: int = 1,
        cache_bytes: int = CACHE_BYTES,
        layouts: LayoutCache | None = None,
    ) -> None:
        self._options = options or StorageOptions()
        self._layouts = layouts or LayoutCache()
        self._team = Team(threads, cache_bytes=cache_bytes)
        self.refusals: dict[str, str] = {}
        """Reasons why scenes are read through GDAL, by href."""
        self._copied: set[str] = set()

    @property
    def held_bytes(self) -> int:
        """Bytes of cached blocks and of prefetches."""
        return self._team.blocks.held_bytes + self._team.prefetches.held_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._team.close()

    def __call__(self, scene: Scene, grid: Grid) -> RasterSource:
        """A source, to be entered in a `with`.

        Raises:
            SceneError: if the scene cannot be opened, or its store does not answer.
        """
        try:
            layout = self._layout(scene)
            from quakestream.raster.cog.source import CogSource

            return CogSource(scene, grid, layout, self._options, team=self._team)
        except (NotCoveredError, MissingExtraError) as error:
            self._refused(scene, error)
        except StorageError as error:
            raise SceneError.of(replace(error.problem, where=scene.href)) from error
        return RasterioSource(scene, grid, self._options)

    def values(
        self, scene: Scene, layers: Sequence[SceneLayer], grid: Grid, *, nearest: bool = False
    ) -> ValueReader:
        """A reader of bands of one file of a scene with layers, to be entered in a `with`.

        Raises:
            SceneError: if the file cannot be opened, or its store does not answer.
        """
        file = layers[0].file
        part = replace(
            scene, href=file.href, etag=file.etag, bands=None, layers=(), mask=None, tiles=()
        )
        try:
            layout = self._layout(part)
            from quakestream.raster.cog.values import CogValues

            return CogValues(layers, grid, layout, self._options, nearest=nearest, team=self._team)
        except (NotCoveredError, MissingExtraError) as error:
            self._refused(part, error)
        except StorageError as error:
            raise SceneError.of(replace(error.problem, where=file.href)) from error
        return GdalValues(layers, grid, self._options, nearest=nearest)

    def _layout(self, scene: Scene) -> CogLayout:
        try:
            return self._layouts.layout(scene, self._options)
        finally:
            if scene.href not in self._copied and copied_whole(scene.href):
                self._copied.add(scene.href)
                self._layouts.note(scene, COPIED, "the server ignores byte ranges")

    def _refused(self, scene: Scene, error: QuakestreamError) -> None:
        if scene.href not in self.refusals:
            self.refusals[scene.href] = reason_of(error)
            self._layouts.note(scene, REFUSED, reason_of(error))


def open_source(scene: Scene, grid: Grid, options: StorageOptions | None = None) -> RasterSource:
    """A scene on a grid, read by the hot path where it can, else through GDAL.

    Raises:
        SceneError: if the scene cannot be opened, or its store does not answer.
    """
    return CogOpener(options)(scene, grid)
