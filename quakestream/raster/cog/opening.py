"""Who opens scenes: by the hot path where it covers them, else through GDAL.

What is not covered (other files than TIFF, odd codecs, a mask beside the file, one band, an
optional package that is missing) is read by `RasterioSource`; `refusals` says why. That is a
function of the file and of what is installed: a store that does not answer is an error, since
the two readers differ in JPEG's last bits and a run must not hang on the weather.
"""

from typing import Self

from quakestream.domain import Grid, Scene
from quakestream.errors import MissingExtraError, SceneError, StorageError
from quakestream.raster.cog.layout import NotCoveredError
from quakestream.raster.cog.layouts import LayoutCache
from quakestream.raster.cog.workers import AHEAD_BYTES, Team
from quakestream.raster.source import RasterioSource, RasterSource
from quakestream.storage import StorageOptions

CACHE_BYTES = 64 << 20
"""Decoded blocks kept for neighbouring windows: 85 of 512 × 512."""
HELD_BYTES = CACHE_BYTES + AHEAD_BYTES + (40 << 20)
"""What an opener may hold at most, whatever is read: decoded blocks, bytes asked for ahead, and
block indices of the largest scenes with what their threads keep to decode in. Windows come on
top: counts, validity, and their encoded bytes while they are read."""


class CogOpener:
    """Opens sources that share threads, decoded blocks and block indices. One per process.

    Safe to use from several threads; each source it opens is, too.

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
        """Decoded blocks held for neighbours, and bytes on their way to windows."""
        return self._team.blocks.held_bytes + self._team.ahead.held_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._team.close()

    def __call__(self, scene: Scene, grid: Grid) -> RasterSource:
        """A source to be entered.

        Raises:
            SceneError: if the scene cannot be opened, or its store does not answer.
        """
        try:
            layout = self._layouts.layout(scene, self._options)
            from quakestream.raster.cog.source import CogSource

            return CogSource(scene, grid, layout, self._options, team=self._team)
        except (NotCoveredError, MissingExtraError) as error:
            if scene.href not in self.refusals:
                self.refusals[scene.href] = str(error)
                self._layouts.note(scene, str(error))
        except StorageError as error:
            raise SceneError(f"cannot open {scene.href}: {error}") from error
        return RasterioSource(scene, grid, self._options)


def open_source(scene: Scene, grid: Grid, options: StorageOptions | None = None) -> RasterSource:
    """A scene on a grid, read by the hot path where it covers it, else through GDAL.

    Raises:
        SceneError: if the scene cannot be opened, or its store does not answer.
    """
    return CogOpener(options)(scene, grid)
