"""What the classes of masks that come with Sentinel-2 and HLS mean for a pixel's quality.

Sources: ESA, Sentinel-2 L2A algorithm description (scene classification, table 3); HLS user guide
v2.0 (table 9, Fmask bits); Sentinel-2 L1C product specification (QA60 as published by Earth
Engine: bits 10 and 11).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from quakestream.domain import Quality

_SCL: Mapping[int, Quality] = {
    0: Quality.NODATA,
    1: Quality.SATURATED,  # or defective
    3: Quality.CLOUD,  # shadow of a cloud
    8: Quality.CLOUD,
    9: Quality.CLOUD,
    10: Quality.CLOUD,  # thin cirrus
    11: Quality.SNOW,
}
"""Shadows of terrain (2), water (6) and what was not classified (7) count as valid ground."""
_FMASK_FILL = 255
_CLOUD, _SHADOW, _SNOW = 1 << 1, 1 << 3, 1 << 4
_QA60_CLOUD = 1 << 10 | 1 << 11


def hidden_by(kind: str, class_YX: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A `Quality` per pixel, shape (y, x).

    Args:
        kind: `scl`, `fmask` or `qa60`.
        class_YX: counts of the mask.
    """
    quality_YX = np.zeros(class_YX.shape, np.uint8)
    if kind == "scl":
        for number, quality in _SCL.items():
            quality_YX[class_YX == number] = quality
    elif kind == "fmask":
        quality_YX[(class_YX & _SNOW) > 0] = Quality.SNOW
        quality_YX[(class_YX & (_CLOUD | _SHADOW)) > 0] = Quality.CLOUD
        quality_YX[class_YX == _FMASK_FILL] = Quality.NODATA
    elif kind == "qa60":
        quality_YX[(class_YX & _QA60_CLOUD) > 0] = Quality.CLOUD
    return quality_YX
