"""Small GeoTIFFs of many kinds, and windows to read from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry import box

from quakestream.domain import Grid, Scene, Window
from quakestream.raster.cog import open_source
from quakestream.raster.probe import probe
from quakestream.raster.source import Pixels, RasterioSource, RasterSource
from quakestream.storage import StorageOptions

GRID = Grid(epsg=32637, gsd_m=0.5)
HEIGHT, WIDTH = 700, 900
TRANSFORM = Affine(0.5, 0, 316504.13, 0, -0.5, 4161356.5)
LOCAL = StorageOptions()


def texture(bands: int = 3) -> NDArray[np.uint8]:
    """Counts like roofs and streets, smooth with edges and noise; shape (band, y, x)."""
    rng = np.random.default_rng(5)
    row_YX, col_YX = np.mgrid[:HEIGHT, :WIDTH]
    smooth_YX = 120 + 60 * np.sin(row_YX / 31) * np.cos(col_YX / 47)
    roofs_YX = 40.0 * ((row_YX // 40 + col_YX // 50) % 2)
    shade_B = np.linspace(0.8, 1.1, bands)[:, None, None]
    pixels_BYX = (smooth_YX + roofs_YX) * shade_B + rng.normal(0, 4, (bands, HEIGHT, WIDTH))
    pixels_BYX[:, :90, :70] = 0  # black without being declared nodata
    counts_BYX: NDArray[np.uint8] = pixels_BYX.clip(0, 255).astype(np.uint8)
    return counts_BYX


def slant() -> NDArray[np.bool_]:
    """True on the ground that a slanted swath shows, shape (y, x)."""
    row_YX, col_YX = np.mgrid[:HEIGHT, :WIDTH]
    seen_YX: NDArray[np.bool_] = (col_YX + row_YX // 3) % WIDTH > 120
    return seen_YX


def write_tiff(
    path: Path,
    *,
    bands: int = 3,
    masked: bool = False,
    sidecar: bool = False,
    transform: Affine = TRANSFORM,
    epsg: int = 32637,
    **creation: Any,
) -> Path:
    """A GeoTIFF with the given creation options; its mask is internal or a sidecar file."""
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "width": WIDTH,
        "height": HEIGHT,
        "count": bands,
        "dtype": "uint8",
        "crs": f"EPSG:{epsg}",
        "transform": transform,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "photometric": "RGB",
    } | creation
    if not profile["tiled"]:
        del profile["blockxsize"]
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=not sidecar),
        rasterio.open(path, "w", **profile) as made,
    ):
        counts_BYX = texture(bands)
        if bands == 4:
            counts_BYX[3] = slant() * 255
        if creation.get("nodata") is not None:
            counts_BYX[:, ~slant()] = creation["nodata"]
        made.write(counts_BYX)
        if bands > 4:  # more bands than colours are refused without names
            made.descriptions = ("red", "green", "blue", "nir", "swir")[:bands]
        if masked:
            made.write_mask(slant())
    return path


def write_cog(path: Path, *, masked: bool = False, **creation: Any) -> Path:
    """A COG with overviews, from a plain GeoTIFF."""
    plain = write_tiff(path.with_suffix(".plain.tif"), masked=masked)
    with rasterio.open(plain) as source:
        rasterio.shutil.copy(source, path, driver="COG", BLOCKSIZE="256", **creation)
    return path


def scene_of(href: str | Path, *, name: str = "", options: StorageOptions = LOCAL) -> Scene:
    """A probed scene."""
    scene = Scene(
        id=name or Path(str(href)).stem,
        href=str(href),
        datetime=datetime(2026, 3, 16, tzinfo=UTC),
        outline=box(0, 0, 1, 1),
    )
    return probe(scene, options)


def windows(held: Window) -> list[Window]:
    """Windows inside, over every edge and beyond it, of few pixels, and of the whole scene."""
    row, col, end_row, end_col = held.row, held.col, held.row_end, held.col_end
    return [
        Window(row=row + 101, col=col + 57, height=333, width=411),
        Window(row=row - 40, col=col - 70, height=300, width=300),
        Window(row=end_row - 90, col=end_col - 20, height=200, width=128),
        Window(row=row + 255, col=col + 511, height=2, width=2),
        Window(row=row + 512, col=col, height=1, width=900),
        Window(row=end_row + 10, col=col, height=64, width=64),
        held.grown(9),
    ]


@contextmanager
def gdal(scene: Scene, grid: Grid = GRID) -> Iterator[RasterioSource]:
    with RasterioSource(scene, grid, LOCAL) as source:
        yield source


@contextmanager
def direct(scene: Scene, grid: Grid = GRID) -> Iterator[RasterSource]:
    """Opens a scene as a run without a tile store does."""
    with open_source(scene, grid, LOCAL) as source:
        yield source


def assert_same(found: Pixels, expected: Pixels) -> None:
    """Asserts that pixels are equal to the last bit."""
    np.testing.assert_array_equal(found.valid_YX, expected.valid_YX)
    np.testing.assert_array_equal(found.counts_BYX, expected.counts_BYX)
    assert found.counts_BYX.dtype == np.uint8
    assert found.valid_YX.dtype == np.bool_


def luma_apart(found: Pixels, expected: Pixels) -> float:
    """Mean difference of brightness, counts."""
    apart_BYX = found.counts_BYX.astype(np.float32) - expected.counts_BYX
    return float(np.abs(np.tensordot((0.299, 0.587, 0.114), apart_BYX, axes=1)).mean())
