"""Decoded blocks have the axes and memory that a place takes; absent blocks are filled."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from quakestream.raster.cog.block_decoder import BlockDecoder
from quakestream.raster.cog.block_plan import BlockPart, Rect, block_parts
from quakestream.raster.cog.header import make_layout
from quakestream.raster.cog.layout import CogLayout, Colour
from quakestream.raster.cog.places import BlockTask, PlanarPlace, SamplePlace, Target
from quakestream.raster.cog.scratch import Scratch
from tests.helpers.tiles_case import LOCAL, write_cog, write_tiff

SAMPLES = SamplePlace({}, planes_apart=False)
COLOUR = Colour(bands=(0, 1, 2), validity="black")


def planar_place(scratch: Scratch, colour: Colour = COLOUR) -> tuple[PlanarPlace, Target]:
    counts_BYX = np.zeros((3, 256, 256), np.uint8)
    target = Target(counts_BYX=counts_BYX, valid_YX=np.zeros((256, 256), np.bool_))
    return PlanarPlace(colour, target, scratch), target


def first_block(path: Path, image: int = 0) -> tuple[CogLayout, BlockPart, bytes]:
    """The layout, the whole first block, and its bytes."""
    layout = make_layout(str(path), LOCAL)
    level = (*layout.levels, *layout.masks)[image]
    rect = Rect(top=0, left=0, height=level.block_height, width=level.block_width)
    part = next(block_parts(level, image, rect, [0]))
    data = path.read_bytes()[part.offset : part.offset + part.size]
    return layout, part, data


@pytest.mark.parametrize("options", [{}, {"compress": "deflate"}, {"compress": "lzw"}], ids=str)
def test_a_block_comes_as_its_place_takes_it(options: dict[str, Any], tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", **options)
    with rasterio.open(path) as dataset:
        expected_BYX = dataset.read()[:, :256, :256]
    layout, part, data = first_block(path)
    scratch = Scratch()
    decoder = BlockDecoder(layout, scratch)
    header = decoder.header(part)
    assert bool(header) == (options.get("compress") == "lzw")
    for prefix in {b"", header}:
        block_YXS = decoder.decode(
            BlockTask(part, SAMPLES), prefix + data, keep=False, header_bytes=len(prefix)
        )
        assert block_YXS is not None
        np.testing.assert_array_equal(block_YXS.transpose(2, 0, 1), expected_BYX)
    place, target = planar_place(scratch)
    assert decoder.decode(BlockTask(part, place), data, keep=False) is None
    np.testing.assert_array_equal(target.counts_BYX, expected_BYX)
    place, target = planar_place(scratch)
    block_SYX = decoder.decode(BlockTask(part, place), data, keep=True)
    np.testing.assert_array_equal(block_SYX, expected_BYX)
    assert not target.counts_BYX.any()


@pytest.mark.parametrize("planar", [False, True], ids=["interleaved", "planar"])
@pytest.mark.parametrize("options", [{}, {"compress": "deflate"}], ids=str)
def test_a_kept_block_outlives_the_next(
    options: dict[str, Any], planar: bool, tmp_path: Path
) -> None:
    layout, part, data = first_block(write_tiff(tmp_path / "scene.tif", **options))
    scratch = Scratch()
    decoder = BlockDecoder(layout, scratch)
    place = planar_place(scratch)[0] if planar else SAMPLES
    buffer = bytearray(data)
    kept = decoder.decode(BlockTask(part, place), memoryview(buffer), keep=True)
    assert kept is not None
    before = kept.copy()
    if not options:
        buffer[:] = bytes(len(buffer))
    decoder.decode(BlockTask(part, place), bytes(data), keep=False)
    np.testing.assert_array_equal(kept, before)


def test_a_truncated_block_says_how_much_is_missing(tmp_path: Path) -> None:
    layout, part, data = first_block(write_tiff(tmp_path / "scene.tif", compress="deflate"))
    decoder, task = BlockDecoder(layout, Scratch()), BlockTask(part, SAMPLES)
    with pytest.raises(ValueError, match=r"^block truncated: 1,024 bytes missing$"):
        decoder.decode(task, data[:-1024], keep=False)
    with pytest.raises(ValueError, match=r"^block truncated: 1 byte missing$"):
        decoder.decode(task, data[:-1], keep=False)


def test_an_absent_block_is_nodata_and_an_absent_mask_hides(tmp_path: Path) -> None:
    layout, part, _ = first_block(write_tiff(tmp_path / "scene.tif", nodata=7))
    scratch = Scratch()
    decoder = BlockDecoder(layout, scratch)
    assert (decoder.absent(BlockTask(part, SAMPLES)) == 7).all()
    assert decoder.absent(BlockTask(part, planar_place(scratch)[0])).shape == (3, 256, 256)
    masked = write_cog(tmp_path / "masked.tif", masked=True, COMPRESS="DEFLATE")
    layout, part, _ = first_block(masked, image=len(make_layout(str(masked), LOCAL).levels))
    assert not BlockDecoder(layout, Scratch()).absent(BlockTask(part, SAMPLES)).any()
