"""Whether decoded blocks agree with what GDAL reads, by one measure and one bound."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

JPEG_LUMA_COUNTS, JPEG_BIAS_COUNTS = 0.6, 1.5
"""Largest differences between imagecodecs and GDAL on JPEG: mean absolute difference of brightness,
and difference of a band's means.

The two restore halved chroma in different ways, while brightness differs by rounding alone. In
373 blocks of 16 scenes of half a metre and 7 odd files, brightness differed by 0.21 at most and a
band's mean by 0.08; coloured noise gives 0.44 and 0.04. With red and blue swapped, brightness
differed by 1.17 at least. The mean absolute difference of the bands tells nothing: it was 2.1 at
most in the scenes, but 13 in the noise and 4.2 with red and blue swapped.
"""
LUMA = (0.299, 0.587, 0.114)


def disagreement(ours_SYX: NDArray[Any], theirs_SYX: NDArray[Any], *, exact: bool) -> str:
    """Describes how samples differ; empty where they agree.

    Args:
        exact: samples must be equal; else they may differ as JPEG decoders do.
    """
    if np.array_equal(ours_SYX, theirs_SYX, equal_nan=ours_SYX.dtype.kind == "f"):
        return ""
    apart_SYX = ours_SYX.astype(np.float64) - theirs_SYX
    luma_YX = np.tensordot(LUMA, apart_SYX, axes=1) if len(apart_SYX) == 3 else apart_SYX
    luma = float(np.abs(luma_YX).mean())
    bias = float(np.abs(apart_SYX.mean(axis=(1, 2))).max())
    if not exact and luma <= JPEG_LUMA_COUNTS and bias <= JPEG_BIAS_COUNTS:
        return ""
    most = float(np.abs(apart_SYX).max())
    return f"{luma:.2f} counts in brightness, {bias:.2f} in a band's mean, {most:g} at most"
