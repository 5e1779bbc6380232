"""What every reader of scenes must do."""

from collections.abc import Callable

import numpy as np

from quakestream.domain import Grid, Scene, Window
from quakestream.raster.source import RasterSource


class RasterSourceContract:
    """Tests over the RasterSource protocol. Give `scene_and_grid()` and `opens()`."""

    def scene_and_grid(self) -> tuple[Scene, Grid]:
        raise NotImplementedError

    def opens(self) -> Callable[[Scene, Grid], RasterSource]:
        raise NotImplementedError

    def inside(self) -> Window:
        """A window that lies wholly inside the scene, at least 64 px a side."""
        raise NotImplementedError

    def test_a_window_has_its_shape_and_is_valid(self) -> None:
        with self.opens()(*self.scene_and_grid()) as source:
            pixels = source.read(self.inside())
        assert pixels.counts_BYX.shape == (3, *self.inside().shape)
        assert pixels.counts_BYX.dtype == np.uint8
        assert pixels.valid_YX.shape == self.inside().shape

    def test_reading_twice_gives_the_same(self) -> None:
        with self.opens()(*self.scene_and_grid()) as source:
            first, second = source.read(self.inside()), source.read(self.inside())
        assert np.array_equal(first.counts_BYX, second.counts_BYX)
        assert np.array_equal(first.valid_YX, second.valid_YX)

    def test_a_seamless_source_reads_a_part_as_in_the_whole(self) -> None:
        outer = self.inside()
        part = Window(row=outer.row + 9, col=outer.col + 17, height=31, width=23)
        with self.opens()(*self.scene_and_grid()) as source:
            whole, alone = source.read(outer), source.read(part)
            seamless = source.seamless
        rows, cols = part.slices_in(outer)
        if seamless:
            assert np.array_equal(whole.counts_BYX[:, rows, cols], alone.counts_BYX)
            assert np.array_equal(whole.valid_YX[rows, cols], alone.valid_YX)

    def test_far_outside_nothing_is_valid(self) -> None:
        away = Window(row=self.inside().row - 10**6, col=self.inside().col, height=16, width=16)
        with self.opens()(*self.scene_and_grid()) as source:
            assert not source.read(away).valid_YX.any()
