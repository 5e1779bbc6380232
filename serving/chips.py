"""Chips of `/predict`: PNG, JPEG, TIFF and NPY, with bounds held before anything is unpacked."""

import io
import math
import warnings
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from quakestream.domain import BundleSpec
from quakestream.errors import RequestError

_NPY = b"\x93NUMPY"
_FORMATS = ("PNG", "JPEG", "TIFF")
_HOW = "PNG, JPEG, TIFF or NPY (version 1 or 2, no objects)"
_BROKEN = (ValueError, KeyError, TypeError, EOFError, SyntaxError, TokenError, MemoryError)
"""What numpy raises for headers that it cannot read."""
HEADER_BYTES = 10_000
"""Longest header of an NPY chip."""


def read_chip(data: bytes, name: str, most_px: int) -> NDArray[np.uint8]:
    """A chip as counts, shape (band, y, x), three bands of 8 bits.

    Args:
        data: the file.
        name: field of the request, for messages.
        most_px: pixels that a chip may have.

    Raises:
        RequestError: it is no such file, too large, or has other bands or another type.
    """
    if not data:
        raise RequestError("is empty", name, expected=_HOW)
    pixels = _npy(data, name, most_px) if data.startswith(_NPY) else _image(data, name, most_px)
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise RequestError(
            "has another type", name, "8 bits, three axes", f"{pixels.dtype}, {pixels.ndim} axes"
        )
    if pixels.shape[0] != 3 and pixels.shape[2] == 3:
        pixels = np.moveaxis(pixels, 2, 0)
    if pixels.shape[0] != 3:
        raise RequestError("has other bands", name, "red, green and blue", str(pixels.shape))
    return np.ascontiguousarray(pixels)


def fit_to(pixels_BYX: NDArray[np.uint8], spec: BundleSpec, name: str) -> None:
    """Checks that a chip has the size that a bundle takes.

    Raises:
        RequestError: it has another size.
    """
    side = spec.window_px
    if pixels_BYX.shape[1:] != (side, side):
        got = f"{pixels_BYX.shape[2]} × {pixels_BYX.shape[1]}"
        raise RequestError(
            "has another size",
            name,
            expected=f"{side} × {side} pixels of {spec.gsd_m:g} m",
            got=got,
            remedy="cut or resample it; no chip is resampled here",
        )


def _npy(data: bytes, name: str, most_px: int) -> NDArray[Any]:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(file, max_header_size=HEADER_BYTES)
        if dtype.hasobject or math.prod(shape) > 3 * most_px:
            raise RequestError(
                "is too large or holds objects", name, f"3 bands of at most {most_px:,} pixels"
            )
        file.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    except RequestError:
        raise
    except _BROKEN as error:
        raise RequestError("is not a chip", name, _HOW, type(error).__name__) from None
    return array


def _image(data: bytes, name: str, most_px: int) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > most_px:
                    raise RequestError(
                        "has too many pixels",
                        name,
                        expected=f"at most {most_px:,}",
                        got=f"{image.width} × {image.height}",
                    )
                if image.mode != "RGB":
                    raise RequestError("has other bands", name, "8-bit RGB", image.mode)
                rgb = image.convert("RGB")  # decodes it
    except RequestError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, MemoryError) as error:
        raise RequestError("is not a chip", name, _HOW, type(error).__name__) from None
    except Image.DecompressionBombError:
        raise RequestError("has too many pixels", name, f"at most {most_px:,}") from None
    return np.moveaxis(np.asarray(rgb, np.uint8), 2, 0)
