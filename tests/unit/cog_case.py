"""What the tests of the hot path share."""

from quakestream.domain import Grid, Scene
from quakestream.raster.cog import CogOpener
from quakestream.raster.cog.fetch import Buffer, OpenFetcher
from quakestream.raster.cog.source import CogSource


class Noting:
    """A fetcher that counts what is asked of another."""

    def __init__(self, fetcher: OpenFetcher) -> None:
        self._fetcher, self.policy = fetcher, fetcher.policy
        self.asked: list[tuple[int, int]] = []

    @property
    def requests(self) -> int:
        return len(self.asked)

    @property
    def bytes(self) -> int:
        return sum(length for _, length in self.asked)

    def fetch(self, start: int, length: int) -> Buffer:
        self.asked.append((start, length))
        return self._fetcher.fetch(start, length)

    def size(self) -> int:
        return self._fetcher.size()

    def close(self) -> None:
        self._fetcher.close()


def hot(scene: Scene, opener: CogOpener, grid: Grid) -> CogSource:
    """A source that is the hot path's, not the fallback."""
    source = opener(scene, grid)
    assert isinstance(source, CogSource), opener.refusals
    return source
