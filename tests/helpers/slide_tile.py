"""Synthetic hills with slides as an item of Sentinel-2: the files of a product and the truth."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.helpers.sentinel import BANDS, SentinelItem, make_item, write_raster
from training.data.slide_chips import L4S_BANDS
from training.data.slide_scenery import STYLES, Region, make_region

SIDE_PX = 480
"""Side of the tile, pixels of 10 m: a whole number of pixels of 60 m."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideTile:
    """The item, its elevation model, and what it shows."""

    item: SentinelItem
    dem: Path
    region: Region


def slide_tile(folder: Path, seed: int) -> SlideTile:
    """A region of humid hills as a product of baseline 04.00 with a scene classification."""
    region = make_region(seed, STYLES["humid"], SIDE_PX)
    class_YX = np.full((SIDE_PX, SIDE_PX), 4, np.uint8)
    class_YX[region.cloud_YX] = 9
    number = {name: band for band, (name, _, _) in BANDS.items()}
    bands = tuple(number[name] for name in L4S_BANDS if name in number)
    item = make_item(folder, bands=bands, side_m=SIDE_PX * 10, scl=class_YX[::2, ::2])
    for place, band in enumerate(bands):
        gsd_m = BANDS[band][1]
        value_YX = averaged(region.image_BYX[place], gsd_m // 10)
        counts_YX = np.rint((value_YX + 0.1) * 10_000).clip(1, 65_534).astype(np.uint16)
        write_raster(folder / f"{item.name}_{band}.tif", counts_YX[None], gsd_m, nodata=0)
    dem = write_raster(folder / "dem.tif", region.image_BYX[-1:], 10)
    return SlideTile(item=item, dem=dem, region=region)


def averaged(value_YX: NDArray[np.float32], by: int) -> NDArray[np.float32]:
    """Means over squares of pixels."""
    side = len(value_YX) // by
    means_YX: NDArray[np.float32] = value_YX.reshape(side, by, side, by).mean(axis=(1, 3))
    return means_YX
