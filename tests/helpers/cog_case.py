"""Helpers for the tests of the hot path."""

import threading
from pathlib import Path

import numpy as np

from quakestream.domain import Grid, Scene
from quakestream.errors import StorageError
from quakestream.raster.cog import CogOpener
from quakestream.raster.cog.layout import Coding, Level
from quakestream.raster.cog.source import CogSource
from quakestream.raster.cog.workers import Team
from quakestream.raster.source import Pixels
from quakestream.storage.local_fetcher import LocalFetcher
from quakestream.storage.ranges import Buffer, Fetcher, FetchPolicy

OTHER_PLACES = {
    "finer": Grid(epsg=32637, gsd_m=0.7),
    "much finer": Grid(epsg=32637, gsd_m=1.4),
    "coarser": Grid(epsg=32637, gsd_m=0.3),
    "other zone": Grid(epsg=32636, gsd_m=0.5),
    "other zone, finer": Grid(epsg=32638, gsd_m=1.1),
}


class RecordingFetcher:
    """A fetcher that records the requests to another fetcher."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher, self.policy = fetcher, fetcher.policy
        self.ranges: list[tuple[int, int]] = []

    @property
    def requests(self) -> int:
        return len(self.ranges)

    @property
    def bytes(self) -> int:
        return sum(length for _, length in self.ranges)

    def fetch(self, start: int, length: int) -> Buffer:
        self.ranges.append((start, length))
        return self._fetcher.fetch(start, length)

    def size(self) -> int:
        return self._fetcher.size()

    def close(self) -> None:
        self._fetcher.close()


class RemoteFetcher(RecordingFetcher):
    """A file that behaves like a remote store. Its answers can be held back, or fail."""

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


def small_level(height: int, width: int, *, planar: bool = False) -> Level:
    """An image of three bands in consecutive blocks of 16 × 24 px and 100 bytes."""
    blocks = -(-height // 16) * -(-width // 24) * (3 if planar else 1)
    return Level(
        height=height,
        width=width,
        block_height=16,
        block_width=24,
        samples=3,
        planar=planar,
        strips=False,
        coding=Coding(codec="none", dtype="|u1", bits=8),
        offset_N=np.arange(blocks, dtype=np.int64) * 100,
        bytes_N=np.full(blocks, 100, np.int64),
    )


def finish_requests(team: Team) -> None:
    """Waits until a team with one request at a time has finished its requests."""
    team.submit(lambda: None).result()


def hot(scene: Scene, opener: CogOpener, grid: Grid) -> CogSource:
    """A source of the hot path; a fallback to GDAL fails the test."""
    source = opener(scene, grid)
    assert isinstance(source, CogSource), opener.refusals
    return source


def assert_near(found: Pixels, expected: Pixels) -> None:
    """Asserts counts within 2 on average, without bias, and validity that differs at edges only."""
    both_YX = found.valid_YX & expected.valid_YX
    apart_BN = (found.counts_BYX.astype(float) - expected.counts_BYX)[:, both_YX]
    assert np.abs(apart_BN).mean() < 2.0
    assert np.abs(apart_BN.mean(axis=1)).max() < 0.2
    edge = 2 * sum(expected.valid_YX.shape) + _edge_px(expected)
    assert (found.valid_YX != expected.valid_YX).sum() < edge
    assert found.valid_YX.mean() > 0.4


def _edge_px(pixels: Pixels) -> int:
    """The number of pixels at which validity changes."""
    valid_YX = pixels.valid_YX
    return int((valid_YX[1:] != valid_YX[:-1]).sum() + (valid_YX[:, 1:] != valid_YX[:, :-1]).sum())
