"""What the tests of the hot path share."""

import threading
from pathlib import Path

from quakestream.domain import Grid, Scene
from quakestream.errors import StorageError
from quakestream.raster.cog import CogOpener
from quakestream.raster.cog.fetch import Buffer, FetchPolicy, LocalFetcher, OpenFetcher
from quakestream.raster.cog.source import CogSource
from quakestream.raster.cog.workers import Team


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


class Distant(Noting):
    """A file that is asked as a store is; what it is asked may be held back, or fail."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(LocalFetcher(str(path)))
        self.policy = FetchPolicy()
        self.open = threading.Event()
        self.open.set()
        self.failing = False

    def fetch(self, start: int, length: int) -> Buffer:
        data = super().fetch(start, length)
        assert self.open.wait(20)
        if self.failing:
            raise StorageError("503 Slow Down")
        return data


def in_order(team: Team) -> None:
    """Waits until a team of one request at a time has made those it was given."""
    team.later(lambda: None).result()


def hot(scene: Scene, opener: CogOpener, grid: Grid) -> CogSource:
    """A source that is the hot path's, not the fallback."""
    source = opener(scene, grid)
    assert isinstance(source, CogSource), opener.refusals
    return source
