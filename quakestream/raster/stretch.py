"""Brings scenes of 16 bits to the 8 bits that models take, by a table measured once per scene.

Models are trained on what vendors call visual: 8 bits in which few pixels are black or white.
The ends of a scene's counts are mapped to the ends of such scenes. Dark counts (haze) are
subtracted band by band. All bands have one gain, which keeps the colours: a gain for each band
would turn fields and sand grey, and masks would take them for cloud.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.windows import Window as DatasetWindow

from quakestream.domain import Stretch
from quakestream.errors import SceneError
from quakestream.raster.statistics import STATISTICS_GSD_M

DARK, BRIGHT = 0.5, 99.5
"""Percentiles of a scene's valid ground, averaged to 4 m, that count as its ends."""
SIDE_PX = 1024
"""Longest side to which a scene is averaged."""
WHOLE_PX = 4096 * 4096
"""Largest overview that is read whole, pixels. Of a larger one, square samples are read."""
SAMPLES, SAMPLE_PX = 8, 512
"""Samples along each side of a scene, and their side."""

Tables = NDArray[np.uint8]
"""The value of each of 65,536 counts, shape (band, count)."""


def measured_stretch(dataset: Any, bands: list[int], gsd_m: float) -> Stretch:
    """Measures the stretch of a 16-bit scene, on its overviews if it has any.

    Args:
        bands: indices (from 1) of red, green and blue.

    Raises:
        RasterioError: if the scene cannot be read.
    """
    valid = [pixels_BYX[:, valid_YX] for pixels_BYX, valid_YX in _coarse(dataset, bands, gsd_m)]
    counts_BN = np.concatenate(valid, axis=1)
    if counts_BN.shape[1] == 0:  # no pixel is valid, so any stretch will do
        counts_BN = np.zeros((len(bands), 1), np.uint16)
    low_B, high_B = np.rint(np.percentile(counts_BN, (DARK, BRIGHT), axis=1)).astype(int)
    return Stretch(low_B=tuple(low_B.tolist()), span=max(int((high_B - low_B).max()), 1))


def _coarse(
    dataset: Any, bands: list[int], gsd_m: float
) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.bool_]]]:
    """Averaged counts and validity of the whole scene, or of samples of it."""
    height, width = dataset.height, dataset.width
    ground = max(STATISTICS_GSD_M / gsd_m, 1.0)
    factor = max(ground, max(height, width) / SIDE_PX)
    nearest = max([by for by in dataset.overviews(bands[0]) if by <= factor], default=1)
    windows = [DatasetWindow(0, 0, width, height)]
    if height * width / nearest**2 > WHOLE_PX:
        factor = ground
        windows = [
            DatasetWindow(left, top, min(SAMPLE_PX, width), min(SAMPLE_PX, height))
            for top in _spread(height)
            for left in _spread(width)
        ]
    for window in windows:
        shape = max(int(window.height / factor), 1), max(int(window.width / factor), 1)
        pixels_BYX = dataset.read(
            bands, window=window, out_shape=(len(bands), *shape), resampling=Resampling.average
        )
        if _declares(dataset, bands):
            valid_YX = dataset.dataset_mask(window=window, out_shape=shape) > 0
        else:
            valid_YX = pixels_BYX.any(axis=0)
        yield pixels_BYX, valid_YX


def _spread(length: int) -> list[int]:
    """First pixels of samples along a side, spread evenly and inside the scene."""
    step = (length - SAMPLE_PX) / (SAMPLES - 1)
    return sorted({max(int(n * step), 0) for n in range(SAMPLES)})


def _declares(dataset: Any, bands: list[int]) -> bool:
    """True if the file declares which pixels are valid; otherwise black pixels are invalid."""
    return bool(dataset.mask_flag_enums[bands[0] - 1] != [MaskFlags.all_valid])


def tables_for(dataset: Any, bands: list[int], stretch: Stretch | None) -> Tables | None:
    """The tables that bring an open scene's counts to 8 bits; None if they have 8 bits.

    Raises:
        SceneError: if the scene's dtype is not the one that its stretch was measured on.
    """
    expected = "uint8" if stretch is None else "uint16"
    dtypes = {dataset.dtypes[band - 1] for band in bands}
    if dtypes != {expected}:
        raise SceneError(
            "image has another dtype than in its plan: it was changed or never probed",
            dataset.name,
            expected,
            ", ".join(sorted(dtypes)),
            "plan again",
        )
    if stretch is None:
        return None
    flags = dataset.mask_flag_enums[bands[0] - 1]
    declared = [dataset.nodatavals[band - 1] for band in bands]
    fill_B = declared if MaskFlags.nodata in flags else [0] * len(bands)
    return stretch.tables([int(f) if _is_count(f) else 0 for f in fill_B])


def _is_count(value: float | None) -> bool:
    return value is not None and 0 <= value <= np.iinfo(np.uint16).max and value == int(value)


def in_eight_bits(counts_BYX: NDArray[Any], tables_BV: Tables | None) -> NDArray[np.uint8]:
    """Brings counts to 8 bits, with one table per band. Without tables they stay as they are."""
    if tables_BV is None:
        return counts_BYX
    bands = zip(tables_BV, counts_BYX, strict=True)
    return np.stack([table_V[band_YX] for table_V, band_YX in bands])
