"""Decodes the bytes of one block to pixels. imagecodecs releases the interpreter's lock.

LZW, and blocks with a predictor, are decoded by libtiff, which imagecodecs brings along. It
gets the block as a TIFF of one strip. A block of 512 × 512 × 3 takes 2.8 ms instead of 4.3
with LZW, and 0.74 instead of 0.85 with zstd and a predictor.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import imagecodecs as _imagecodecs
import numpy as np
from numpy.typing import NDArray

from quakestream.raster.cog.codec_table import TRAITS, jpeg_colour_spaces
from quakestream.raster.cog.layout import Coding, Level
from quakestream.storage.limits import encoded_block_bytes
from quakestream.storage.ranges import Buffer

# its annotations leave out memoryviews, which its codecs take
imagecodecs: Any = _imagecodecs
_END_OF_JPEG = b"\xff\xd9"
_PADDING_BYTES = 64
"""Bytes after the end of a block's JPEG data at most: some writers pad."""
_LIBTIFF = {"lzw", "deflate", "zstd"}
"""Codecs that libtiff may decode."""
_HAS_LIBTIFF: bool = imagecodecs.TIFF.available

_UNPACK: dict[str, Callable[..., Any]] = {
    "deflate": imagecodecs.deflate_decode,
    "lzw": imagecodecs.lzw_decode,
    "zstd": imagecodecs.zstd_decode,
    "lzma": imagecodecs.lzma_decode,
    "packbits": imagecodecs.packbits_decode,
}
"""Decoders of the codecs that pack bytes. The others give pixels."""


def tiff_header(coding: Coding, shape: tuple[int, int, int], size: int) -> bytes:
    """The TIFF header that `decode` puts before a block; empty for most codecs.

    A caller that reads the block into a buffer may put the header there first, which saves a
    copy of the block.

    Args:
        size: encoded bytes of the block.
    """
    if not _suits_libtiff(coding):
        return b""
    before, order, after = _one_strip(coding, shape)
    return b"".join((before, struct.pack(f"{order}I", size), after))


def decode(
    level: Level, data: Buffer, out_YXS: NDArray[Any], *, with_header: bool = False
) -> NDArray[Any]:
    """A block's pixels, shape (y, x, sample); samples of a packed mask are bool.

    Args:
        out_YXS: memory of the level's `packed_shape` and dtype; its content is lost.
        with_header: the data begin with the block's `tiff_header`.

    Returns:
        `out_YXS`, or another array of the same shape that must not be written to.

    Raises:
        ValueError, RuntimeError: if a codec raises them; ValueError also if a block holds
            fewer pixels than it should.
    """
    coding = level.coding
    if TRAITS[coding.codec].gives_pixels:
        return _image(coding, data, out_YXS)
    if _suits_libtiff(coding):
        header = b"" if with_header else tiff_header(coding, out_YXS.shape, len(data))
        whole = b"".join((header, data)) if header else data
        block: NDArray[Any] = imagecodecs.tiff_decode(whole)
        _check_size(block.nbytes, out_YXS.nbytes)
        return block.reshape(out_YXS.shape)
    block_YXS = _unpacked(coding, data, out_YXS)
    if coding.predictor == 2:
        block_YXS = imagecodecs.delta_decode(block_YXS, axis=-2, out=out_YXS)
    elif coding.predictor == 3:
        block_YXS = imagecodecs.floatpred_decode(block_YXS, axis=-2)
    if coding.bits == 1:
        return _bits(block_YXS, level.block_width)
    return block_YXS


def _unpacked(coding: Coding, data: Buffer, out_YXS: NDArray[Any]) -> NDArray[Any]:
    """Samples, or their differences if the block has a predictor."""
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
        The bytes before the size, the byte order of the size, and the bytes after it.
    """
    height, width, samples = shape
    counts = np.dtype(coding.dtype)
    order = ">" if counts.str[0] == ">" else "<"
    short, long = 3, 4
    tags = [  # number, type, value; in the order of their numbers
        (256, long, width),
        (257, long, height),
        (258, short, 8 * counts.itemsize),
        (259, short, TRAITS[coding.codec].tiff_numbers[0]),
        (262, short, 1),  # black is zero: it goes with any number of samples
        (273, long, 0),
        (277, short, samples),
        (278, long, height),
        (279, long, 0),
        (284, short, 1),
        (317, short, coding.predictor),
    ]
    bits_at = 8 + 2 + 12 * len(tags) + 4
    start = bits_at + 2 * max(samples, 2)
    parts = [b"II*\0" if order == "<" else b"MM\0*", struct.pack(f"{order}IH", 8, len(tags))]
    for number, kind, value in tags:
        count = samples if number == 258 else 1
        many = number == 258 and samples > 2
        value = start if number == 273 else value
        if kind == long or many:
            field = struct.pack(f"{order}I", bits_at if many else value)
        else:
            field = struct.pack(f"{order}HH", value, value if count == 2 else 0)
        parts.append(struct.pack(f"{order}HHI", number, kind, count) + field)
    parts += [
        bytes(4),
        struct.pack(f"{order}{max(samples, 2)}H", *[8 * counts.itemsize] * max(samples, 2)),
    ]
    header = b"".join(parts)
    size_at = 8 + 2 + 12 * [number for number, *_ in tags].index(279) + 8
    return header[:size_at], order, header[size_at + 4 :]


def _plain(data: Buffer, out_YXS: NDArray[Any]) -> NDArray[Any]:
    _check_size(len(data), out_YXS.nbytes)
    block_N = np.frombuffer(data, out_YXS.dtype, count=out_YXS.size)
    return block_N.reshape(out_YXS.shape)


def _image(coding: Coding, data: Buffer, out_YXS: NDArray[Any]) -> NDArray[Any]:
    """Pixels of the codecs that encode images and know their shape."""
    samples = out_YXS.shape[2]
    out: NDArray[Any] = out_YXS if samples > 1 else out_YXS[..., 0]
    block: NDArray[Any]
    if coding.codec == "jpeg":
        block = _jpeg(coding, data, out)
    elif coding.codec == "webp":
        block = imagecodecs.webp_decode(data, hasalpha=samples == 4, out=out)
    else:
        block = _lerc(coding, data, out)
    if block.size != out_YXS.size:
        raise ValueError(f"block has another shape: expected {out_YXS.shape}, got {block.shape}")
    return block.reshape(out_YXS.shape)


def _jpeg(coding: Coding, data: Buffer, out: NDArray[Any]) -> NDArray[Any]:
    # libjpeg only warns and fills the missing part with grey
    if bytes(data[-2:]) != _END_OF_JPEG and _END_OF_JPEG not in bytes(data[-_PADDING_BYTES:]):
        raise ValueError("JPEG data has no end: it is truncated or belongs to another file")
    samples = 1 if out.ndim == 2 else out.shape[2]
    stored, shown = jpeg_colour_spaces(samples, ycbcr=coding.ycbcr)
    block: NDArray[Any] = imagecodecs.jpeg8_decode(
        data,
        tables=coding.jpeg_tables or None,
        colorspace=stored,
        outcolorspace=shown,
        out=out,
    )
    return block


def _lerc(coding: Coding, data: Buffer, out: NDArray[Any]) -> NDArray[Any]:
    if coding.lerc_inside != "none":
        # a few bytes may unpack to gigabytes, so the memory is bounded beforehand
        deflate = coding.lerc_inside == "deflate"
        unpack = imagecodecs.zlib_decode if deflate else imagecodecs.zstd_decode
        data = unpack(data, out=encoded_block_bytes(out.nbytes))
    block: NDArray[Any] = imagecodecs.lerc_decode(data, out=out)
    return block


def _bits(packed_YXS: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """The pixels of a mask, which packs eight into a byte and starts each row at a new byte."""
    bit_YX = np.unpackbits(packed_YXS[..., 0], axis=1, count=width)
    return bit_YX.view(np.bool_)[..., np.newaxis]


def _check_size(held: int, expected: int) -> None:
    if held < expected:
        raise ValueError(f"block too short: expected {expected:,} bytes of pixels, got {held:,}")
