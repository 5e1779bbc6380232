"""Whether decoded blocks agree with what GDAL reads, by one measure and one bound."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

JPEG_LUMA_COUNTS, JPEG_MEAN_COUNTS = 0.5, 4.0
"""Largest mean absolute difference between imagecodecs and GDAL on JPEG: brightness, all bands.

The two restore halved chroma in different ways; brightness differs by rounding alone. In 373
blocks of the 16 scenes of half a metre and of 7 odd files, brightness differed by 0.21 at most
and bands by 2.1 (single pixels by 79). The mildest mistake tried, red and blue swapped, made
1.17 and 4.2.
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
    luma, mean = float(np.abs(luma_YX).mean()), float(np.abs(apart_SYX).mean())
    if not exact and luma <= JPEG_LUMA_COUNTS and mean <= JPEG_MEAN_COUNTS:
        return ""
    most = float(np.abs(apart_SYX).max())
    return f"{luma:.2f} counts in brightness, {mean:.2f} on average, {most:g} at most"
