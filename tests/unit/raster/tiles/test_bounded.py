"""Referenced blocks that unpack to more than their chunk: an error, before the memory is taken."""

import base64
import json
import lzma
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("zarr")
pytest.importorskip("imagecodecs")

import imagecodecs as _imagecodecs
import numcodecs.registry  # type: ignore[import-untyped]

from quakestream.errors import ReadError
from quakestream.raster.tiles.arrays import open_referenced
from quakestream.raster.tiles.bounded import bounded
from tests.helpers.tiles_case import LOCAL

imagecodecs: Any = _imagecodecs
BOMB_BYTES = 16 << 20
MOST_BYTES = 4 << 20
SIDE = 128
PACK: dict[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress,
    "lzma": lambda data: lzma.compress(data, preset=0),
    "imagecodecs_zstd": imagecodecs.zstd_encode,
    "imagecodecs_lzw": imagecodecs.lzw_encode,
    "imagecodecs_packbits": imagecodecs.packbits_encode,
}
REPEATED_128_TIMES = b"\x81\0"
"""A zero in PackBits; its encoder takes minutes for a bomb."""


def references(
    folder: Path, block: bytes, compressor: dict[str, Any] | None, **metadata: Any
) -> dict[str, Any]:
    """References of an array of one chunk, whose bytes lie in a file."""
    path = folder / "blocks.bin"
    path.write_bytes(block)
    array = {
        "zarr_format": 2,
        "shape": [SIDE, SIDE, 3],
        "chunks": [SIDE, SIDE, 3],
        "dtype": "|u1",
        "fill_value": 0,
        "order": "C",
        "compressor": compressor,
        "filters": None,
    }
    axes = {"_ARRAY_DIMENSIONS": ["Y", "X", "S"]}
    refs = {
        "counts/.zarray": json.dumps(array | metadata),
        "counts/.zattrs": json.dumps(axes),
        "counts/0.0.0": ["{{u}}", 0, len(block)],
    }
    return {"version": 1, "templates": {"u": path.as_uri()}, "refs": refs}


def read(content: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(open_referenced(content, "counts", LOCAL)[:])


@pytest.mark.parametrize("codec", PACK)
def test_a_block_of_its_size_is_read(codec: str, tmp_path: Path) -> None:
    count_YXS = np.random.default_rng(3).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    block = PACK[codec](count_YXS.tobytes())
    np.testing.assert_array_equal(read(references(tmp_path, block, {"id": codec})), count_YXS)


@pytest.mark.parametrize("codec", PACK)
def test_a_block_that_unpacks_to_far_more_takes_no_more_memory(codec: str, tmp_path: Path) -> None:
    if codec == "imagecodecs_packbits":  # it packs too little for more in a block
        bomb = REPEATED_128_TIMES * 40_000
    else:
        bomb = PACK[codec](bytes(BOMB_BYTES))
    content = references(tmp_path, bomb, {"id": codec})
    array = open_referenced(content, "counts", LOCAL)

    def pixels() -> None:
        with suppress(ReadError, RuntimeError, ValueError):  # lzw and lzma end where it is full
            assert not np.asarray(array[:]).any()

    assert peak_of(pixels) < MOST_BYTES
    plain = numcodecs.registry.get_codec({"id": codec})
    assert peak_of(lambda: plain.decode(bomb)) > MOST_BYTES, "no bomb"


def peak_of(work: Callable[[], object]) -> int:
    """Most bytes that Python held meanwhile."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", PACK)
def test_a_block_that_is_too_short_is_an_error(codec: str, tmp_path: Path) -> None:
    block = PACK[codec](bytes(SIDE * SIDE))
    with pytest.raises((RuntimeError, ValueError)):
        read(references(tmp_path, block, {"id": codec}))


def test_a_jpeg_of_other_size_is_an_error(tmp_path: Path) -> None:
    jpeg = {"id": "imagecodecs_jpeg", "tables": None, "colorspace_jpeg": "rgb"}
    jpeg |= {"colorspace_data": "rgb"}
    count_YXS = np.full((4 * SIDE, 4 * SIDE, 3), 90, np.uint8)
    block = imagecodecs.jpeg8_encode(count_YXS, colorspace="rgb", outcolorspace="rgb")
    with pytest.raises((RuntimeError, ValueError)):
        read(references(tmp_path, block, jpeg))
    small = imagecodecs.jpeg8_encode(count_YXS[:SIDE, :SIDE], colorspace="rgb", outcolorspace="rgb")
    assert abs(read(references(tmp_path, small, jpeg)).astype(int) - 90).max() <= 1


@pytest.mark.parametrize(
    ("compressor", "metadata", "words"),
    [
        ({"id": "pickle"}, {}, "codec is not one of those"),
        ({"id": "imagecodecs_jpegxl"}, {}, "codec is not one of those"),
        (None, {"filters": [{"id": "pickle"}]}, "codec is not one of those"),
        (None, {"dtype": "|O"}, "codec is not one of those"),
        (None, {"chunks": [50_000, 50_000, 3]}, "chunks are too large"),
        (None, {"chunks": "large"}, "not the metadata of an array"),
    ],
)
def test_metadata_that_no_scene_has_are_refused(
    compressor: dict[str, Any] | None, metadata: dict[str, Any], words: str, tmp_path: Path
) -> None:
    content = references(tmp_path, b"", compressor, **metadata)
    with pytest.raises(ReadError, match=words):
        bounded(content["refs"], "counts")


def test_a_block_that_is_larger_than_its_pixels_is_not_fetched(tmp_path: Path) -> None:
    """Its stated size would be taken before a byte of it is read."""
    content = references(tmp_path, b"short", {"id": "zlib"})
    content["refs"]["counts/0.0.0"][2] = 1 << 32
    with pytest.raises(ReadError, match="chunk is larger than its pixels may take"):
        read(content)
    plain = base64.b64encode(zlib.compress(bytes(SIDE * SIDE * 3))).decode()
    content["refs"]["counts/0.0.0"] = f"base64:{plain}"
    assert not read(content).any()
