"""From the bytes of one block to its pixels. imagecodecs releases the interpreter's lock.

LZW, and differences of a predictor, are left to libtiff, which imagecodecs brings along: it
is handed the block as a TIFF of one strip. Measured on a block of 512 × 512 × 3: LZW 2.8 ms
instead of 4.3, zstd with a predictor 0.74 instead of 0.85.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import imagecodecs as _imagecodecs
import numpy as np
from numpy.typing import NDArray

from quakestream.raster.cog.layout import Coding, Level
from quakestream.storage.ranges import Buffer

# its annotations leave out the memoryviews that its codecs take
imagecodecs: Any = _imagecodecs
_END_OF_JPEG = b"\xff\xd9"
_PADDING_BYTES = 64
"""How far before its last byte a JPEG block may end: some writers pad."""
_LIBTIFF = {"lzw": 5, "deflate": 8, "zstd": 50000}
"""TIFF's numbers of what libtiff may decode."""
_HAS_LIBTIFF: bool = imagecodecs.TIFF.available

_UNPACK: dict[str, Callable[..., Any]] = {
    "deflate": imagecodecs.deflate_decode,
    "lzw": imagecodecs.lzw_decode,
    "zstd": imagecodecs.zstd_decode,
    "lzma": imagecodecs.lzma_decode,
    "packbits": imagecodecs.packbits_decode,
}
"""What gives back the bytes as they were. The others give pixels."""


def heading(coding: Coding, shape: tuple[int, int, int], size: int) -> bytes:
    """What `decode` puts before a block of so many bytes; empty for most codecs.

    Who reads a block into memory of his own may put it there first, and save a copy.
    """
    if not _suits_libtiff(coding):
        return b""
    before, order, after = _one_strip(coding, shape)
    return b"".join((before, struct.pack(f"{order}I", size), after))


def decode(
    level: Level, data: Buffer, out_YXS: NDArray[Any], *, headed: bool = False
) -> NDArray[Any]:
    """A block's pixels, shape (y, x, sample); samples of a packed mask are bool.

    Args:
        out_YXS: of the level's `packed_shape` and dtype; its content is lost.
        headed: the data begin with the block's `heading`.

    Returns:
        `out_YXS`, or another array of the same shape that must not be written to.

    Raises:
        ValueError, RuntimeError: whatever a codec raises, and ValueError where a
            block holds fewer pixels than it should.
    """
    coding = level.coding
    if coding.codec in ("jpeg", "webp", "lerc"):
        return _image(coding, data, out_YXS)
    if _suits_libtiff(coding):
        whole = data if headed else b"".join((heading(coding, out_YXS.shape, len(data)), data))
        made: NDArray[Any] = imagecodecs.tiff_decode(whole)
        _check_size(made.nbytes, out_YXS.nbytes)
        return made.reshape(out_YXS.shape)
    made_YXS = _unpacked(coding, data, out_YXS)
    if coding.predictor == 2:
        made_YXS = imagecodecs.delta_decode(made_YXS, axis=-2, out=out_YXS)
    elif coding.predictor == 3:
        made_YXS = imagecodecs.floatpred_decode(made_YXS, axis=-2)
    if coding.bits == 1:
        return _bits(made_YXS, level.block_width)
    return made_YXS


def _unpacked(coding: Coding, data: Buffer, out_YXS: NDArray[Any]) -> NDArray[Any]:
    """Samples, or their differences where there is a predictor."""
    if coding.codec == "none":
        return _plain(data, out_YXS)
    flat_N = out_YXS.reshape(-1).view(np.uint8)
    _check_size(len(_UNPACK[coding.codec](data, out=flat_N)), flat_N.nbytes)
    return out_YXS


def _suits_libtiff(coding: Coding) -> bool:
    counts = np.dtype(coding.dtype)
    plain = counts.kind == "u" and counts.itemsize <= 2 and coding.bits > 1
    differences = coding.predictor == 2 and coding.codec in _LIBTIFF
    return _HAS_LIBTIFF and plain and (coding.codec == "lzw" or differences)


@lru_cache(maxsize=64)
def _one_strip(coding: Coding, shape: tuple[int, int, int]) -> tuple[bytes, str, bytes]:
    """The header of a TIFF whose only strip follows it, cut where the strip's size belongs.

    Returns:
        What comes before the size, the byte order of the size, and what comes after.
    """
    height, width, samples = shape
    counts = np.dtype(coding.dtype)
    order = ">" if counts.str[0] == ">" else "<"
    short, long = 3, 4
    tags = [  # number, type, value; in the order of their numbers
        (256, long, width),
        (257, long, height),
        (258, short, 8 * counts.itemsize),
        (259, short, _LIBTIFF[coding.codec]),
        (262, short, 1),  # black is zero: any number of samples may stand for anything
        (273, long, 0),
        (277, short, samples),
        (278, long, height),
        (279, long, 0),
        (284, short, 1),
        (317, short, coding.predictor),
    ]
    bits_at = 8 + 2 + 12 * len(tags) + 4
    start = bits_at + 2 * max(samples, 2)
    made = [b"II*\0" if order == "<" else b"MM\0*", struct.pack(f"{order}IH", 8, len(tags))]
    for number, kind, value in tags:
        count = samples if number == 258 else 1
        many = number == 258 and samples > 2
        value = start if number == 273 else value
        if kind == long or many:
            field = struct.pack(f"{order}I", bits_at if many else value)
        else:
            field = struct.pack(f"{order}HH", value, value if count == 2 else 0)
        made.append(struct.pack(f"{order}HHI", number, kind, count) + field)
    made += [
        bytes(4),
        struct.pack(f"{order}{max(samples, 2)}H", *[8 * counts.itemsize] * max(samples, 2)),
    ]
    header = b"".join(made)
    size_at = 8 + 2 + 12 * [number for number, *_ in tags].index(279) + 8
    return header[:size_at], order, header[size_at + 4 :]


def _plain(data: Buffer, out_YXS: NDArray[Any]) -> NDArray[Any]:
    _check_size(len(data), out_YXS.nbytes)
    block_N = np.frombuffer(data, out_YXS.dtype, count=out_YXS.size)
    return block_N.reshape(out_YXS.shape)


def _image(coding: Coding, data: Buffer, out_YXS: NDArray[Any]) -> NDArray[Any]:
    """Codecs of pictures, which know their own shape."""
    samples = out_YXS.shape[2]
    given: NDArray[Any] = out_YXS if samples > 1 else out_YXS[..., 0]
    made: NDArray[Any]
    if coding.codec == "jpeg":
        made = _jpeg(coding, data, given)
    elif coding.codec == "webp":
        made = imagecodecs.webp_decode(data, hasalpha=samples == 4, out=given)
    else:
        made = _lerc(coding, data, given)
    if made.size != out_YXS.size:
        raise ValueError(f"it holds {made.shape} pixels, not {out_YXS.shape}")
    return made.reshape(out_YXS.shape)


def _jpeg(coding: Coding, data: Buffer, out: NDArray[Any]) -> NDArray[Any]:
    # libjpeg fills what is missing with grey and only warns
    if bytes(data[-2:]) != _END_OF_JPEG and _END_OF_JPEG not in bytes(data[-_PADDING_BYTES:]):
        raise ValueError("its JPEG data does not end: it is cut off, or another file's")
    samples = 1 if out.ndim == 2 else out.shape[2]
    space = {1: "grayscale", 3: "rgb", 4: "cmyk"}[samples]  # equal on both sides: as stored
    made: NDArray[Any] = imagecodecs.jpeg8_decode(
        data,
        tables=coding.jpeg_tables or None,
        colorspace="ycbcr" if coding.ycbcr else space,
        outcolorspace=space,
        out=out,
    )
    return made


def _lerc(coding: Coding, data: Buffer, out: NDArray[Any]) -> NDArray[Any]:
    if coding.lerc_inside != "none":
        # its size is not known beforehand
        unpack = imagecodecs.zlib_decode if coding.lerc_inside == "deflate" else None
        data = (unpack or imagecodecs.zstd_decode)(data)
    made: NDArray[Any] = imagecodecs.lerc_decode(data, out=out)
    return made


def _bits(packed_YXS: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Masks hold eight pixels a byte, each row from a byte of its own."""
    bit_YX = np.unpackbits(packed_YXS[..., 0], axis=1, count=width)
    return bit_YX.view(np.bool_)[..., np.newaxis]


def _check_size(held: int, expected: int) -> None:
    if held < expected:
        raise ValueError(f"it holds {held} bytes of pixels, not {expected}")
