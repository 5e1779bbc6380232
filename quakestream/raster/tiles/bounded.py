"""Codecs of referenced blocks that unpack to a chunk's size at most. Needs zarr, imagecodecs.

Zarr does not tell a codec how large its chunk is, and numcodecs unpacks whatever there is: a block
of four megabytes may unpack to gigabytes. The metadata of an array are therefore changed when it is
opened. What is stored stays plain kerchunk references that others can read.
"""

import base64
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import imagecodecs as _imagecodecs
import numcodecs.abc  # type: ignore[import-untyped]
import numcodecs.registry  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from quakestream.errors import ReadError
from quakestream.storage.limits import BLOCK_BYTES
from quakestream.storage.ranges import Buffer

imagecodecs: Any = _imagecodecs
_UNPACK: dict[str, Callable[..., Any]] = {
    "zlib": imagecodecs.zlib_decode,
    "imagecodecs_lzw": imagecodecs.lzw_decode,
    "imagecodecs_zstd": imagecodecs.zstd_decode,
    "lzma": imagecodecs.lzma_decode,
    "imagecodecs_packbits": imagecodecs.packbits_decode,
}
"""Decoders that fill the memory they are given, by numcodecs' name of the codec."""
_JPEG = "imagecodecs_jpeg"
_BITS = "imagecodecs_packints"
_FILTERS = (_BITS, "imagecodecs_delta")
"""What may follow a codec. It makes a block eight times as large at most."""


class BoundedCodec(numcodecs.abc.Codec):  # type: ignore[misc]
    """One of the codecs above, for chunks of a known size.

    Args:
        shape: of what the codec gives: a chunk, or the bytes that its bits are packed in.
        codec: numcodecs' configuration of the codec.
    """

    codec_id = "quakestream_bounded"

    def __init__(self, shape: list[int], codec: dict[str, Any]) -> None:
        self.shape, self.codec = shape, codec

    def encode(self, buf: Buffer) -> Buffer:
        """Raises NotImplementedError: references are read only."""
        raise NotImplementedError

    def decode(self, buf: Buffer, out: Any = None) -> NDArray[np.uint8]:
        """The unpacked block.

        Raises:
            ValueError, RuntimeError: it holds more or less than a chunk, or is damaged.
        """
        block = np.empty(self.shape, np.uint8)
        if self.codec["id"] == _JPEG:
            tables = self.codec.get("tables")
            decoded = imagecodecs.jpeg8_decode(
                buf,
                tables=base64.b64decode(tables) if tables else None,
                colorspace=self.codec["colorspace_jpeg"],
                outcolorspace=self.codec["colorspace_data"],
                out=block,
            )
        else:
            block = block.reshape(-1)
            decoded = _UNPACK[self.codec["id"]](buf, out=block)
        if np.size(decoded) != block.size:
            raise ValueError(f"block is too short: expected {block.nbytes:,} bytes")
        return block


numcodecs.registry.register_codec(BoundedCodec)


def bounded(references: Mapping[str, Any], path: str) -> tuple[dict[str, Any], int]:
    """References whose codecs are bounded, and the bytes of an unpacked chunk.

    Args:
        path: the array within the references.

    Raises:
        ReadError: the array's metadata name another codec, or a chunk larger than a block may be.
    """
    try:
        metadata = json.loads(references[f"{path}/.zarray"])
        axes = json.loads(references[f"{path}/.zattrs"])["_ARRAY_DIMENSIONS"]
        shape = [int(side) for side in metadata["chunks"]]
        filters = [one["id"] for one in metadata["filters"] or ()]
        codec = metadata["compressor"]
        known = codec is None or codec["id"] in (_JPEG, *_UNPACK)
        known &= metadata["dtype"] == "|u1" and set(filters) <= set(_FILTERS)
    except (KeyError, TypeError, ValueError) as error:
        raise ReadError(f"not the metadata of an array: {error!r}", path) from error
    if not known:
        raise ReadError("codec is not one of those that blocks may have", path, got=str(codec))
    size = math.prod(shape)
    if min(shape, default=0) < 1 or size > BLOCK_BYTES:
        limit = f"at most {BLOCK_BYTES / 1e6:.0f} MB"
        raise ReadError("chunks are too large", path, limit, f"{size / 1e6:,.0f} MB")
    if _BITS in filters:
        shape[-1] = math.ceil(shape[-1] / 8)
    if codec is not None:
        if codec["id"] == _JPEG and axes[0] == "S":  # a plane by itself
            shape = shape[1:]
        metadata["compressor"] = BoundedCodec(shape, codec).get_config()
    return {**references, f"{path}/.zarray": json.dumps(metadata)}, size
