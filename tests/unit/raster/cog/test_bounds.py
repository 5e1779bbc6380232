"""Sizes that a file states are held against what a block may be, before memory is taken."""

import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from quakestream.errors import ReadError
from quakestream.raster.cog.block_plan import Rect
from quakestream.raster.cog.blocks import BlockReader
from quakestream.raster.cog.decode import decode
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.layout import Coding, Level
from quakestream.raster.cog.workers import Team
from quakestream.storage.local_fetcher import LocalFetcher
from tests.helpers.cog_case import RemoteFetcher, small_level
from tests.helpers.tiles_case import LOCAL, write_tiff

HUGE = 2**32 - 1
SMALL_BYTES = 16 << 20


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("compress", ["deflate", "lzw"])
def test_a_block_that_states_four_gigabytes_costs_none(
    remote: bool, compress: str, tmp_path: Path
) -> None:
    """The block is refused by name, and its neighbours are read."""
    path = write_tiff(tmp_path / "scene.tif", compress=compress)
    layout = make_layout(str(path), LOCAL)
    first = layout.levels[0]
    sizes = first.bytes_N.copy()
    sizes[0] = HUGE
    spoilt = replace(layout, levels=(replace(first, bytes_N=sizes), *layout.levels[1:]))
    fetcher = RemoteFetcher(path) if remote else LocalFetcher(str(path))
    with Team() as team:
        reader = BlockReader(spoilt, fetcher, name="scene s", team=team)
        tracemalloc.start()
        try:
            with pytest.raises(ReadError, match=r"block 0,0\): block states 4,294,967,295 bytes"):
                reader.samples(0, Rect(top=0, left=0, height=9, width=9))
            assert tracemalloc.get_traced_memory()[1] < SMALL_BYTES
        finally:
            tracemalloc.stop()
        assert reader.samples(0, Rect(top=0, left=300, height=9, width=9)).any()


def test_a_local_read_takes_no_more_memory_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    fetcher = LocalFetcher(str(path))
    tracemalloc.start()
    try:
        assert bytes(fetcher.fetch(2, HUGE)) == b"345"
        assert bytes(fetcher.fetch(99, HUGE)) == b""
        assert tracemalloc.get_traced_memory()[1] < SMALL_BYTES
    finally:
        tracemalloc.stop()
    fetcher.close()


@pytest.mark.parametrize("inside", ["deflate", "zstd"])
def test_lerc_inside_another_codec_is_bounded(inside: str) -> None:
    """A sound block is decoded; one that unpacks without end is refused."""
    pixels_YX = np.arange(16 * 24, dtype=np.uint8).reshape(16, 24)
    level: Level = replace(
        small_level(16, 24),
        samples=1,
        coding=Coding(codec="lerc", dtype="|u1", bits=8, lerc_inside=inside),  # type: ignore[arg-type]
    )
    pack = zlib.compress if inside == "deflate" else imagecodecs.zstd_encode
    out_YXS = np.empty((16, 24, 1), np.uint8)
    sound = pack(bytes(imagecodecs.lerc_encode(pixels_YX)))
    np.testing.assert_array_equal(decode(level, sound, out_YXS)[..., 0], pixels_YX)
    bomb = pack(struct.pack("<I", 0) + bytes(50_000_000))
    with pytest.raises((ValueError, RuntimeError)):
        decode(level, bomb, out_YXS)
