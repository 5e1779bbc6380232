"""The codecs of TIFF blocks: their numbers in the file and their names in Zarr references."""

from dataclasses import dataclass
from typing import Literal

Codec = Literal["none", "jpeg", "deflate", "lzw", "zstd", "lerc", "webp", "lzma", "packbits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecTraits:
    """What readers must know of a codec."""

    tiff_numbers: tuple[int, ...]
    """Values of TIFF's compression tag, the usual one first."""
    gives_pixels: bool = False
    """True if the decoder returns an image; False if it returns the bytes that were packed."""
    zarr_id: str | None = None
    """numcodecs' name of the codec; None where Zarr references do not support it."""


TRAITS: dict[Codec, CodecTraits] = {
    "none": CodecTraits(tiff_numbers=(1,), zarr_id=""),
    "jpeg": CodecTraits(tiff_numbers=(7,), gives_pixels=True, zarr_id="imagecodecs_jpeg"),
    "deflate": CodecTraits(tiff_numbers=(8, 32946), zarr_id="zlib"),
    "lzw": CodecTraits(tiff_numbers=(5,), zarr_id="imagecodecs_lzw"),
    "zstd": CodecTraits(tiff_numbers=(50000,), zarr_id="imagecodecs_zstd"),
    "lerc": CodecTraits(tiff_numbers=(34887,), gives_pixels=True),
    "webp": CodecTraits(tiff_numbers=(50001,), gives_pixels=True),
    "lzma": CodecTraits(tiff_numbers=(34925,), zarr_id="lzma"),
    "packbits": CodecTraits(tiff_numbers=(32773,), zarr_id="imagecodecs_packbits"),
}
CODEC_OF_NUMBER: dict[int, Codec] = {
    number: codec for codec, traits in TRAITS.items() for number in traits.tiff_numbers
}
"""Codec by the value of TIFF's compression tag."""
LERC_INNER: dict[int, Codec] = {0: "none", 1: "deflate", 2: "zstd"}
"""Codec that LERC blocks were packed with once more, by the value of TIFF's LERC parameter."""


def jpeg_colour_spaces(samples: int, *, ycbcr: bool) -> tuple[str, str]:
    """libjpeg's names of the colour space inside a block and of the one to decode to.

    Only YCbCr is converted. Other samples come out as they are stored.
    """
    stored = {1: "grayscale", 3: "rgb", 4: "cmyk"}[samples]
    return ("ycbcr" if ycbcr else stored), stored
