"""Chips of /predict: what is read, and what is refused before it is unpacked."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the service needs quakestream[serve]")

from quakestream.errors import RequestError
from serving.chips import read_chip
from serving.predictor import chip_statistics
from tests.helpers.services import npy, png

MOST_PX = 64 * 64
PIXELS_YXB = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)


def tiff(pixels_YXB: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels_YXB).save(file, "TIFF", compression="tiff_deflate")
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [png(PIXELS_YXB), tiff(PIXELS_YXB), npy(PIXELS_YXB), npy(np.moveaxis(PIXELS_YXB, 2, 0))],
    ids=["png", "tiff", "npy-yxb", "npy-byx"],
)
def test_the_counts_of_every_format(data: bytes) -> None:
    pixels_BYX = read_chip(data, "post", MOST_PX)
    assert pixels_BYX.dtype == np.uint8
    assert np.array_equal(pixels_BYX, np.moveaxis(PIXELS_YXB, 2, 0))


def png_bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that says it has side × side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1_000_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def tiff_bomb(side: int) -> bytes:
    """A TIFF of a few hundred bytes that says it has side × side pixels, and one of its strips."""
    strip = zlib.compress(b"\0" * 1_000_000)
    tags = [
        *((256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 2)),
        *((273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, side), (279, 4, 1, len(strip))),
    ]
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(strip))
    return head + strip + struct.pack("<H", len(tags)) + body + b"\0" * 4


def npy_of(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"GIF89a", "is not a chip"),
        (b"II*\0\xff\xff\xff\xff", "is not a chip"),
        (png(PIXELS_YXB)[:200], "is not a chip"),
        (png(np.zeros((100, 100, 3), np.uint8)), "too many pixels"),
        (png_bomb(60_000), "too many pixels"),
        (tiff_bomb(60_000), "too many pixels"),
        (png(np.zeros((8, 8), np.uint8)), "other bands"),
        (png(np.zeros((8, 8, 4), np.uint8)), "other bands"),
        (npy(np.array([{"a": 1}], dtype=object), objects=True), "objects"),
        (npy(np.zeros((3, 8, 8), np.float32)), "another type"),
        (npy(np.zeros((4, 8, 8), np.uint8)), "other bands"),
        (npy(np.zeros((8, 8), np.uint8)), "another type"),
        (npy_of("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 99999, 99999)}"), "large"),
        (npy_of("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 8, 8)}"), "is not a chip"),
        (npy_of("{'descr': '|u1', 'shape': (-3, 8, 8)}"), "is not a chip"),
        (npy_of("__import__('os').system('false')"), "is not a chip"),
        (npy_of("(" * 5000), "is not a chip"),
        (b"\x93NUMPY\x03\x00" + b"\0" * 10, "is not a chip"),
    ],
)  # fmt: skip
def test_what_is_refused(data: bytes, says: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RequestError) as caught:
            read_chip(data, "post", MOST_PX)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert says in str(caught.value)
    assert caught.value.where == "post"
    assert peak < 20_000_000


def test_statistics_of_a_chip_are_those_of_its_ground() -> None:
    """Blocks of 4 m count, as in scenes: stripes of single pixels are no contrast."""
    pixels_BYX = np.zeros((3, 64, 70), np.uint8)
    pixels_BYX[:, ::2] = 200
    striped = chip_statistics(pixels_BYX, 0.5)
    assert striped.mean_B == (100.0, 100.0, 100.0)
    assert striped.std_B == (1.0, 1.0, 1.0)
    pixels_BYX[0, :, :32] = 0
    half = chip_statistics(pixels_BYX, 0.5)
    assert half.mean_B == (50.0, 100.0, 100.0)
    assert half.std_B == (50.0, 1.0, 1.0)
    assert chip_statistics(pixels_BYX, 4.0).std_B[1] == pytest.approx(100.0)
