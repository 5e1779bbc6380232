"""Probability rasters as cloud-optimised GeoTIFFs: `scores/*.tif`."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from quakestream.domain import Grid, Window
from quakestream.outputs.layout import SCORES

STEPS = 250
"""A probability of 1. Counts are probabilities in steps of 0.004; the files say so."""
NODATA = 255
"""Count of a pixel without a score."""
TILE_PX = 8192
"""Side of the squares, fixed to the grid, that rasters are cut into; 4 km at 0.5 m."""
BLOCK_PX = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RasterTile:
    """One square of the grid, before its pixels are put together."""

    grid: Grid
    row: int
    col: int
    """Of the square on the grid."""
    window: Window
    """Pixels of the grid that the file covers: those of the square that have scores."""
    identity: str
    """Digest of everything its pixels depend on."""

    def name(self, label: str) -> str:
        """Name of the object for one class: `scores/destroyed-32637-r12-c7.tif`."""
        return f"{SCORES}{label}-{self.grid.epsg}-r{self.row}-c{self.col}.tif"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreRasters:
    """The rasters of a run. Pixels are put together tile by tile while they are written."""

    tiles: Sequence[RasterTile]
    labels: tuple[str, ...]
    read: Callable[[RasterTile], NDArray[np.uint8]]
    """Scores of a tile's window in `STEPS` steps, shape (C, Y, X)."""

    @property
    def identity(self) -> str:
        """Digest of all tiles."""
        text = "".join(tile.identity for tile in self.tiles) + ",".join(self.labels)
        return hashlib.sha256(text.encode()).hexdigest()

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the files, one tile in memory at a time."""
        for tile in self.tiles:
            score_CYX = self.read(tile)
            for label, score_YX in zip(self.labels, score_CYX, strict=True):
                yield tile.name(label), score_cog(score_YX, tile.grid, tile.window, label)


def score_cog(score_YX: NDArray[np.uint8], grid: Grid, window: Window, label: str) -> bytes:
    """One band as a COG with overviews, nodata, and the scale from counts to probabilities."""
    profile = {
        "driver": "COG",
        "dtype": "uint8",
        "count": 1,
        "height": window.height,
        "width": window.width,
        "crs": f"EPSG:{grid.epsg}",
        "transform": grid.window_transform(window),
        "nodata": NODATA,
        "blocksize": BLOCK_PX,
        "compress": "deflate",
        "overview_resampling": "average",
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as raster:
            raster.write(score_YX, 1)
            raster.set_band_description(1, f"probability of {label}")
            raster.scales, raster.offsets = (1.0 / STEPS,), (0.0,)
        return bytes(memory.getbuffer())
