"""Scenes of 16 bits, as an analytic product relates to the visual one of the same ground."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling

GAIN, OFFSET = 7, 200


def widened(
    visual: Path, path: Path, *, fill: int = 0, overviews: tuple[int, ...] = (), **creation: Any
) -> Path:
    """An 8-bit file in 16 bits, counts `GAIN * count + OFFSET`, with its mask, alpha or nodata.

    Args:
        fill: count of pixels without data: nodata, or black where the file declares none.
    """
    with rasterio.open(visual) as source:
        flags, nodata = source.mask_flag_enums[0], source.nodata
        counts_BYX = source.read()
        wide_BYX = _wide(counts_BYX, nodata, fill)
        if ColorInterp.alpha in source.colorinterp:
            alpha = source.colorinterp.index(ColorInterp.alpha)
            wide_BYX[alpha] = counts_BYX[alpha].astype(np.uint16) * 257
        profile = source.profile | {"dtype": "uint16", "photometric": "RGB"} | creation
        profile["nodata"] = None if nodata is None else fill
        if ColorInterp.alpha in source.colorinterp:
            profile["alpha"] = "yes"
        if not profile["tiled"]:
            profile.pop("blockxsize", None)
        names = source.descriptions
        tags, mask_YX = source.tags(), source.dataset_mask()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", **profile) as made:
            made.write(wide_BYX)
            made.descriptions = names
            made.update_tags(**{k: v for k, v in tags.items() if k.startswith("TIFFTAG")})
            if flags == [MaskFlags.per_dataset]:
                made.write_mask(mask_YX)
        if overviews:
            with rasterio.open(path, "r+") as made:
                made.build_overviews(list(overviews), Resampling.average)
    return path


def _wide(counts_BYX: NDArray[np.uint8], nodata: float | None, fill: int) -> NDArray[np.uint16]:
    wide_BYX = counts_BYX.astype(np.uint16) * GAIN + OFFSET
    nothing = (counts_BYX == (nodata or 0)).all(axis=0)
    wide_BYX[:, nothing] = fill
    return wide_BYX
