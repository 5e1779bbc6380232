"""The arrays of a tile store, and the arrays that take decoded blocks, held against contracts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quakestream.raster.cog.layout import Colour
from quakestream.raster.cog.places import (
    InterleavedPlace,
    Place,
    PlanarPlace,
    SamplePlace,
    StretchedPlace,
    Target,
    interleaved_target,
)
from quakestream.raster.cog.scratch import Scratch
from quakestream.raster.tiles import write_root
from quakestream.raster.tiles.references import make_references
from quakestream.raster.tiles.source import StoredTiles, TileArrays, VirtualTiles
from quakestream.raster.tiles.stored import write_stored
from quakestream.storage import open_store
from quakestream.testing import PlaceContract, TileArraysContract
from tests.helpers.tiles_case import GRID, LOCAL, scene_of, write_tiff


class TestStoredTiles(TileArraysContract):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate", masked=True))
        self.store = open_store(str(tmp_path / "store"))
        write_root(self.store)
        self.entry = write_stored(scene, (GRID,), self.store)

    def blocks(self) -> TileArrays:
        entry = self.entry
        return StoredTiles(self.store.uri, entry.group, entry.grids[0], self.store.options)


class TestVirtualTiles(TileArraysContract):
    @pytest.fixture(autouse=True)
    def _references(self, tmp_path: Path) -> None:
        scene = scene_of(write_tiff(tmp_path / "scene.tif", compress="deflate", masked=True))
        self.references = make_references(scene, [GRID], LOCAL)

    def blocks(self) -> TileArrays:
        return VirtualTiles(self.references.layout, self.references.content, LOCAL)


BLACK = Colour(bands=(0, 1, 2), validity="black")


def target(height: int, width: int) -> Target:
    return Target(
        counts_BYX=np.zeros((3, height, width), np.uint8),
        valid_YX=np.zeros((height, width), np.bool_),
    )


class TestPlanarPlace(PlaceContract):
    def place(self, height: int, width: int) -> tuple[Place, list[NDArray[Any]]]:
        into = target(height, width)
        return PlanarPlace(BLACK, into, Scratch()), [into.counts_BYX, into.valid_YX]


class TestInterleavedPlace(PlaceContract):
    def place(self, height: int, width: int) -> tuple[Place, list[NDArray[Any]]]:
        counts_YX4 = np.zeros((height, width, 4), np.uint8)
        into = interleaved_target(counts_YX4, np.zeros((height, width), np.bool_))
        return InterleavedPlace(BLACK, into, Scratch(), counts_YX4), [
            into.counts_BYX,
            into.valid_YX,
        ]


class TestSamplePlace(PlaceContract):
    def place(self, height: int, width: int) -> tuple[Place, list[NDArray[Any]]]:
        planes = {band: np.zeros((height, width), np.uint8) for band in (0, 2)}
        return SamplePlace(planes, planes_apart=False), list(planes.values())


class TestStretchedPlace(PlaceContract):
    def place(self, height: int, width: int) -> tuple[Place, list[NDArray[Any]]]:
        into = target(height, width)
        tables_VS = np.repeat((np.arange(2**16) // 256).astype(np.uint8)[:, None], 3, axis=1)
        place = StretchedPlace(BLACK, into, Scratch(), tables_VS)
        return place, [into.counts_BYX, into.valid_YX]

    def block(self, height: int, width: int) -> NDArray[Any]:
        return super().block(height, width).astype(np.uint16) * 256
