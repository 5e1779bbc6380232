"""Contract tests for readers of scenes."""

from collections.abc import Callable

import numpy as np

from quakestream.domain import Grid, Scene, Window
from quakestream.raster.source import RasterSource, ReadsAhead
from quakestream.raster.values import ValueReader


class RasterSourceContract:
    """Tests over the protocol RasterSource."""

    def scene_and_grid(self) -> tuple[Scene, Grid]:
        """A probed scene, and the grid it is read on."""
        raise NotImplementedError

    def opens(self) -> Callable[[Scene, Grid], RasterSource]:
        """The function that opens a scene on a grid."""
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


class PrefetchContract(RasterSourceContract):
    """Tests over the protocol ReadsAhead, for a source that is a RasterSource too."""

    def test_a_source_that_reads_ahead_says_so(self) -> None:
        with self.opens()(*self.scene_and_grid()) as source:
            assert isinstance(source, ReadsAhead)

    def test_prefetched_windows_read_as_others_do(self) -> None:
        window = self.inside()
        beside = Window(row=window.row + 7, col=window.col + 5, height=31, width=40)
        with self.opens()(*self.scene_and_grid()) as source:
            expected = source.read(window)
        with self.opens()(*self.scene_and_grid()) as source:
            assert isinstance(source, ReadsAhead)
            source.prefetch(window, beside)
            found = source.read(window)
        assert np.array_equal(found.counts_BYX, expected.counts_BYX)
        assert np.array_equal(found.valid_YX, expected.valid_YX)

    def test_prefetching_nothing_or_other_ground_does_no_harm(self) -> None:
        away = Window(row=self.inside().row - 10**6, col=self.inside().col, height=16, width=16)
        with self.opens()(*self.scene_and_grid()) as source:
            assert isinstance(source, ReadsAhead)
            source.prefetch()
            source.prefetch(away)
            assert source.read(self.inside()).valid_YX.any()

    def test_a_source_may_close_while_bytes_are_on_their_way(self) -> None:
        with self.opens()(*self.scene_and_grid()) as source:
            assert isinstance(source, ReadsAhead)
            source.prefetch(self.inside())


class ValueReaderContract:
    """Tests over the protocol ValueReader."""

    def opens(self) -> Callable[[], ValueReader]:
        """The function that opens a file's bands on a grid."""
        raise NotImplementedError

    def bands(self) -> int:
        """Bands that are read."""
        raise NotImplementedError

    def inside(self) -> Window:
        """A window that lies wholly inside the file, at least 64 px a side."""
        raise NotImplementedError

    def test_a_window_has_its_shape_and_is_valid(self) -> None:
        with self.opens()() as reader:
            values = reader.read(self.inside())
        assert values.value_BYX.shape == (self.bands(), *self.inside().shape)
        assert values.value_BYX.dtype == np.float32
        assert values.valid_BYX.all()

    def test_a_seamless_reader_reads_a_part_as_in_the_whole(self) -> None:
        outer = self.inside()
        part = Window(row=outer.row + 9, col=outer.col + 17, height=31, width=23)
        with self.opens()() as reader:
            whole, alone, seamless = reader.read(outer), reader.read(part), reader.seamless
        rows, cols = part.slices_in(outer)
        if seamless:
            assert np.array_equal(whole.value_BYX[:, rows, cols], alone.value_BYX)
            assert np.array_equal(whole.valid_BYX[:, rows, cols], alone.valid_BYX)

    def test_prefetched_windows_read_as_others_do(self) -> None:
        window = self.inside()
        with self.opens()() as reader:
            expected = reader.read(window)
        with self.opens()() as reader:
            reader.prefetch(window)
            found = reader.read(window)
        assert np.array_equal(found.value_BYX, expected.value_BYX)

    def test_far_outside_nothing_is_valid_and_everything_is_0(self) -> None:
        away = Window(row=self.inside().row - 10**6, col=self.inside().col, height=16, width=16)
        with self.opens()() as reader:
            values = reader.read(away)
        assert not values.valid_BYX.any()
        assert not values.value_BYX.any()
