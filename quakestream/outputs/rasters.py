"""Rasters of a run as cloud-optimised GeoTIFFs, such as the probabilities in `scores/*.tif`."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from quakestream.domain import Grid, Window
from quakestream.outputs.products import LargeProduct

STEPS = 250
"""A probability of 1. Counts are probabilities in steps of 0.004; the files say so."""
NODATA = 255
"""Count of a pixel without a value."""
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
    """Pixels of the grid that the file covers: those of the square that have values."""
    identity: str
    """Digest of everything its pixels depend on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterBand:
    """What one file of each tile holds."""

    name: str
    """Begins the name of the file: `destroyed`."""
    description: str
    scale: float = 1.0
    """Value of a pixel whose count is 1."""
    overviews: str = "average"
    """How overviews are made, as GDAL calls it; `nearest` for counts that are codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RasterProduct:
    """A product of rasters, as a kind describes it."""

    name: str
    """The name under `outputs` in a run file."""
    prefix: str
    """Where the files lie."""
    bands: tuple[RasterBand, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TiledRasters:
    """The rasters of a run. Pixels are put together tile by tile while they are written."""

    product: RasterProduct
    tiles: Sequence[RasterTile]
    read: Callable[[RasterTile], NDArray[np.uint8]]
    """Counts of a tile's window, shape (B, Y, X); `NODATA` for a pixel without a value."""

    def large_product(self) -> LargeProduct:
        """The rasters as a run publishes them."""
        names = ",".join(band.name for band in self.product.bands)
        text = "".join(tile.identity for tile in self.tiles) + names
        return LargeProduct(
            identity=hashlib.sha256(text.encode()).hexdigest(), objects=self._objects
        )

    def _objects(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents of the files, one tile in memory at a time."""
        for tile in self.tiles:
            place = f"{tile.grid.epsg}-r{tile.row}-c{tile.col}"
            for band, count_YX in zip(self.product.bands, self.read(tile), strict=True):
                name = f"{self.product.prefix}{band.name}-{place}.tif"
                yield name, band_cog(count_YX, tile.grid, tile.window, band)


def band_cog(count_YX: NDArray[np.uint8], grid: Grid, window: Window, band: RasterBand) -> bytes:
    """One band as a COG with overviews, nodata, and the scale from counts to values."""
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
        "overview_resampling": band.overviews,
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as raster:
            raster.write(count_YX, 1)
            raster.set_band_description(1, band.description)
            raster.scales, raster.offsets = (band.scale,), (0.0,)
        return bytes(memory.getbuffer())
