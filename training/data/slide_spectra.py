"""Reflectance of ground in the twelve Sentinel-2 bands of Landslide4Sense, chosen by hand.

Rows are rough top-of-atmosphere spectra: red edge and near infrared of plants, rising soils, dark
water, bright clouds, hardly any light in the cirrus band. They are no measurements.
"""

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

_ROWS = {
    # B1    B2    B3    B4    B5    B6    B7    B8    B9    B10    B11   B12
    "forest": (0.115, 0.085, 0.070, 0.045, 0.085, 0.205, 0.255, 0.265, 0.085, 0.0012, 0.135, 0.065),
    "grass": (0.120, 0.095, 0.095, 0.075, 0.135, 0.240, 0.280, 0.300, 0.095, 0.0012, 0.215, 0.125),
    "straw": (0.130, 0.115, 0.125, 0.145, 0.185, 0.215, 0.235, 0.255, 0.090, 0.0013, 0.300, 0.215),
    "granite": (
        0.165,
        0.165,
        0.185,
        0.210,
        0.225,
        0.235,
        0.245,
        0.255,
        0.095,
        0.0016,
        0.310,
        0.270,
    ),
    "sandstone": (
        *(0.150, 0.145, 0.160, 0.200, 0.220, 0.235, 0.250, 0.265),
        *(0.100, 0.0015, 0.340, 0.290),
    ),
    "schist": (0.140, 0.130, 0.135, 0.150, 0.160, 0.170, 0.180, 0.190, 0.075, 0.0014, 0.235, 0.200),
    "ash": (0.135, 0.120, 0.130, 0.165, 0.190, 0.210, 0.230, 0.245, 0.090, 0.0014, 0.325, 0.270),
    "field": (0.140, 0.125, 0.135, 0.165, 0.185, 0.200, 0.215, 0.230, 0.090, 0.0014, 0.300, 0.250),
    "gravel": (0.170, 0.165, 0.175, 0.185, 0.195, 0.200, 0.210, 0.215, 0.080, 0.0016, 0.240, 0.215),
    "quarry": (0.205, 0.215, 0.250, 0.285, 0.300, 0.310, 0.320, 0.330, 0.125, 0.0020, 0.390, 0.350),
    "road": (0.140, 0.125, 0.125, 0.130, 0.140, 0.145, 0.155, 0.160, 0.065, 0.0014, 0.195, 0.170),
    "water": (0.120, 0.090, 0.070, 0.045, 0.042, 0.035, 0.033, 0.030, 0.012, 0.0010, 0.015, 0.010),
    "cloud": (0.480, 0.460, 0.440, 0.450, 0.460, 0.470, 0.480, 0.490, 0.300, 0.0250, 0.370, 0.280),
}
SPECTRA = MappingProxyType({name: np.array(row, np.float32) for name, row in _ROWS.items()})
"""Reflectance 0..1 by kind of ground, shape (12,)."""
SLOPE_REFERENCE_DEG, ELEVATION_REFERENCE_M = 15.0, 150.0
REFERENCE_B: F32 = np.concatenate(
    [SPECTRA["forest"] * 0.75, [SLOPE_REFERENCE_DEG, ELEVATION_REFERENCE_M]]
).astype(np.float32)
"""Stored value 1 of a generated chip, in physical units. As in the real set, stored values are a
few ones."""
EVERY_PX = (6, 1, 1, 1, 2, 2, 2, 1, 6, 6, 2, 2)
"""Pixels of 10 m between the samples of each band: Sentinel-2 has bands of 10, 20 and 60 m."""
