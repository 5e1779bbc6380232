"""Brings scenes of 16 bits to the 8 bits that models take, by a table measured once per scene.

Models are trained on what vendors call visual: 8 bits in which few pixels are black or white.
The ends of a scene's counts are mapped to the ends of such scenes. Dark counts (haze) are
subtracted band by band. All bands have one gain, which keeps the colours: a gain for each band
would turn fields and sand grey, and masks would take them for cloud.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags

from quakestream.domain import Bands, Stretch
from quakestream.errors import SceneError
from quakestream.raster.bands import BandReader
from quakestream.raster.samples import averaged_samples

DARK, BRIGHT = 0.5, 99.5
"""Percentiles of a scene's valid ground, averaged to 4 m, that count as its ends."""
Tables = NDArray[np.uint8]
"""The value of each of 65,536 counts, shape (band, count)."""


def measured_stretch(reader: BandReader, gsd_m: float) -> Stretch:
    """Measures the stretch of a 16-bit scene on its full resolution: on samples of a large one.

    Raises:
        RasterioError: if the scene cannot be read.
    """
    valid = [means_BYX[:, valid_YX] for means_BYX, valid_YX in averaged_samples(reader, gsd_m)]
    counts_BN = np.concatenate(valid, axis=1)
    if counts_BN.shape[1] == 0:  # no pixel is valid, so any stretch will do
        counts_BN = np.zeros((len(counts_BN), 1), np.uint16)
    low_B, high_B = np.rint(np.percentile(counts_BN, (DARK, BRIGHT), axis=1)).astype(int)
    return Stretch(low_B=tuple(low_B.tolist()), span=max(int((high_B - low_B).max()), 1))


def tables_for(dataset: Any, bands: Bands, stretch: Stretch | None) -> Tables | None:
    """The tables that bring an open scene's counts to 8 bits; None if they have 8 bits.

    Raises:
        SceneError: if the scene's dtype is not the one that its stretch was measured on.
    """
    expected = "uint8" if stretch is None else "uint16"
    dtypes = {dataset.dtypes[band - 1] for band in bands.rgb}
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
    return stretch.tables(fill_counts(dataset, bands))


def fill_counts(dataset: Any, bands: Bands) -> tuple[int, ...]:
    """The counts of red, green and blue that mark missing ground: 0 where nothing is declared."""
    if MaskFlags.nodata in dataset.mask_flag_enums[bands.rgb[0] - 1]:
        declared = [dataset.nodatavals[band - 1] for band in bands.rgb]
        return tuple(int(f) if _is_count(f) else 0 for f in declared)
    return bands.fills[0] if bands.fills else (0, 0, 0)


def _is_count(value: float | None) -> bool:
    return value is not None and 0 <= value <= np.iinfo(np.uint16).max and value == int(value)


def in_eight_bits(counts_BYX: NDArray[Any], tables_BV: Tables | None) -> NDArray[np.uint8]:
    """Brings counts to 8 bits, with one table per band. Without tables they stay as they are."""
    if tables_BV is None:
        return counts_BYX
    bands = zip(tables_BV, counts_BYX, strict=True)
    return np.stack([table_V[band_YX] for table_V, band_YX in bands])
