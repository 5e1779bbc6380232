"""Scenes of one shade of grey, for pages that show pictures."""

from datetime import datetime
from pathlib import Path

import numpy as np
import rasterio
import shapely
from rasterio.transform import from_origin

from quakestream.domain import Scene

WEST, NORTH = 317000.0, 4161000.0
"""North-west corner, EPSG:32637."""


def grey_scene(folder: Path, name: str, time: datetime, grey: int) -> Scene:
    """A COG of 200 × 150 m at 0.5 m, one shade of grey with a little noise."""
    rng = np.random.default_rng(grey)
    pixels = (grey + rng.integers(-8, 8, (3, 300, 400))).astype(np.uint8)
    path = folder / f"{name}.tif"
    with rasterio.open(
        path,
        "w",
        driver="COG",
        count=3,
        height=300,
        width=400,
        dtype="uint8",
        crs="EPSG:32637",
        transform=from_origin(WEST, NORTH, 0.5, 0.5),
    ) as out:
        out.write(pixels)
    return Scene(id=name, href=str(path), datetime=time, outline=shapely.box(36, 37, 38, 38))
