"""From the bytes of one block to its pixels. imagecodecs releases the interpreter's lock."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quakestream.raster.cog.extras import fast_extra
from quakestream.raster.cog.fetch import Buffer
from quakestream.raster.cog.layout import Coding, Level

with fast_extra():
    import imagecodecs as _imagecodecs

# its annotations leave out the memoryviews that its codecs take
imagecodecs: Any = _imagecodecs
_END_OF_JPEG = b"\xff\xd9"
_PADDING_BYTES = 64
"""How far before its last byte a JPEG block may end: some writers pad."""

_UNPACK: dict[str, Callable[..., Any]] = {
    "deflate": imagecodecs.deflate_decode,
    "lzw": imagecodecs.lzw_decode,
    "zstd": imagecodecs.zstd_decode,
    "lzma": imagecodecs.lzma_decode,
    "packbits": imagecodecs.packbits_decode,
}
"""What gives back the bytes as they were. The others give pixels."""


def unpack(level: Level, data: Buffer, out_YXS: NDArray[Any]) -> NDArray[Any]:
    """A block as its codec gives it back, differences of a predictor not yet added up.

    Args:
        out_YXS: of the level's `packed_shape` and dtype; its content is lost.

    Returns:
        `out_YXS`, or another array of the same shape that must not be written to.

    Raises:
        ValueError, RuntimeError: whatever a codec raises, and ValueError where a
            block holds fewer pixels than it should.
    """
    coding = level.coding
    if coding.codec == "none":
        return _plain(data, out_YXS)
    if coding.codec in _UNPACK:
        flat_N = out_YXS.reshape(-1).view(np.uint8)
        _check_size(len(_UNPACK[coding.codec](data, out=flat_N)), flat_N.nbytes)
        return out_YXS
    return _image(coding, data, out_YXS)


def add_up(raw_YXS: NDArray[Any], predictor: int, out: NDArray[Any]) -> NDArray[Any]:
    """Counts from a predictor's differences along rows.

    Args:
        raw_YXS: from `unpack`, or the first columns of it.
        out: where they go if they are integers, shape (y, x, sample) or (sample, y, x);
            may be a part of a larger array.
    """
    made: NDArray[Any]
    if predictor == 3:
        made = imagecodecs.floatpred_decode(raw_YXS, axis=-2)
    elif out.shape == raw_YXS.shape:
        made = imagecodecs.delta_decode(raw_YXS, axis=-2, out=out)
    else:  # in one pass with taking the bands apart
        made = imagecodecs.delta_decode(raw_YXS.transpose(2, 0, 1), axis=-1, out=out)
    return made


def decode(level: Level, data: Buffer, out_YXS: NDArray[Any]) -> NDArray[Any]:
    """A block's pixels, shape (y, x, sample); samples of a packed mask are bool.

    Arguments, result and exceptions are those of `unpack`.
    """
    made_YXS = unpack(level, data, out_YXS)
    if level.coding.predictor != 1:
        made_YXS = add_up(made_YXS, level.coding.predictor, out_YXS)
    if level.coding.bits == 1:
        return _bits(made_YXS, level.block_width)
    return made_YXS


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
