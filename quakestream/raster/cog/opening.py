"""Who opens scenes: by the hot path where it covers them, else through GDAL.

What is not covered (other files than TIFF, odd codecs, a mask beside the file, one band, an
optional package that is missing) is read by `RasterioSource`; `refusals` says why.
"""

from typing import Self

from quakestream.domain import Grid, Scene
from quakestream.errors import MissingExtraError, SceneError, StorageError
from quakestream.raster.cog.layouts import LayoutCache
from quakestream.raster.cog.workers import Team
from quakestream.raster.source import RasterioSource, RasterSource
from quakestream.storage import StorageOptions

CACHE_BYTES = 64 << 20
"""Decoded blocks kept for neighbouring windows: 85 of 512 × 512, a row of a 20 km scene."""


class CogOpener:
    """Opens sources that share threads, decoded blocks and block indices. One per worker.

    Args:
        threads: that decode, the asking one included.
        cache_bytes: bound of the decoded blocks held for neighbours, over all scenes.
        layouts: where block indices are looked up and kept.
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
        """By href: why a scene is read through GDAL."""

    @property
    def held_bytes(self) -> int:
        """Decoded blocks held for neighbours."""
        return self._team.blocks.held_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._team.close()

    def __call__(self, scene: Scene, grid: Grid) -> RasterSource:
        """A source to be entered. A scene nobody can open is told when it is entered."""
        try:
            layout = self._layouts.layout(scene, self._options)
            from quakestream.raster.cog.source import CogSource

            return CogSource(scene, grid, layout, self._options, team=self._team)
        except (SceneError, StorageError, MissingExtraError) as error:
            self.refusals[scene.href] = str(error)
        return RasterioSource(scene, grid, self._options)


def open_source(scene: Scene, grid: Grid, options: StorageOptions | None = None) -> RasterSource:
    """A scene on a grid, read by the hot path where it covers it, else through GDAL."""
    return CogOpener(options)(scene, grid)
