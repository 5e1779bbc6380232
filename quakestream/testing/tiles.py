"""Contract tests for the arrays of a tile store, and for the arrays that take decoded blocks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.raster.cog.places import Place
from quakestream.raster.tiles.source import TileArrays


class TileArraysContract:
    """Tests over the protocol TileArrays."""

    def blocks(self) -> TileArrays:
        """Arrays of at least 64 × 64 pixels that are not open yet."""
        raise NotImplementedError

    def opened(self) -> TileArrays:
        blocks = self.blocks()
        blocks.open()
        return blocks

    def test_counts_have_three_bands_and_validity_none(self) -> None:
        counts_BYX, valid_YX = self.opened().read(slice(3, 40), slice(10, 60))
        assert counts_BYX.shape == (3, 37, 50)
        assert counts_BYX.dtype == np.uint8
        assert valid_YX.shape == (37, 50)
        assert valid_YX.dtype == np.bool_

    def test_a_part_reads_as_in_the_whole(self) -> None:
        blocks = self.opened()
        counts_BYX, valid_YX = blocks.read(slice(0, 64), slice(0, 64))
        part_BYX, part_YX = blocks.read(slice(17, 33), slice(5, 64))
        assert np.array_equal(part_BYX, counts_BYX[:, 17:33, 5:64])
        assert np.array_equal(part_YX, valid_YX[17:33, 5:64])

    def test_opening_again_changes_nothing(self) -> None:
        blocks = self.opened()
        counts_BYX, _ = blocks.read(slice(0, 20), slice(0, 20))
        blocks.open()
        assert np.array_equal(blocks.read(slice(0, 20), slice(0, 20))[0], counts_BYX)


class PlaceContract:
    """Tests over the protocol Place."""

    def place(self, height: int, width: int) -> tuple[Place, list[NDArray[Any]]]:
        """An empty place, and the arrays that it fills, their last two axes (y, x)."""
        raise NotImplementedError

    def block(self, height: int, width: int) -> NDArray[Any]:
        """A block of noise, with a black corner; by default of three samples of 8 bits."""
        block = np.random.default_rng(3).integers(1, 256, (height, width, 3)).astype(np.uint8)
        block[:5, :7] = 0
        place, _ = self.place(height, width)
        return block.transpose(2, 0, 1).copy() if place.planar else block

    def test_a_block_put_in_parts_is_the_block_put_whole(self) -> None:
        block = self.block(40, 48)
        whole, expected = self.place(40, 48)
        whole.put(block, 0, (slice(0, 40), slice(0, 48)), (slice(0, 40), slice(0, 48)))
        place, found = self.place(40, 48)
        for rows in (slice(0, 11), slice(11, 40)):
            for cols in (slice(0, 30), slice(30, 48)):
                place.put(block, 0, (rows, cols), (rows, cols))
        assert any(array.any() for array in expected)
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one, other)

    def test_only_the_target_is_filled(self) -> None:
        place, arrays = self.place(64, 64)
        before = [array.copy() for array in arrays]
        target = (slice(8, 48), slice(16, 64))
        place.put(self.block(40, 48), 0, (slice(0, 40), slice(0, 48)), target)
        for array, untouched in zip(arrays, before, strict=True):
            outside_YX = np.ones((64, 64), np.bool_)
            outside_YX[target] = False
            assert np.array_equal(array[..., outside_YX], untouched[..., outside_YX])
        assert any(array[..., slice(8, 48), slice(16, 64)].any() for array in arrays)
