"""Scenes with one fault each, made from a good one."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import shapely
import tifffile
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning

BLOCK_PX = 128
ENGINEERING_WKT = (
    'LOCAL_CS["site grid",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
)


def columns_of(source: Path, start: int, stop: int) -> tuple[NDArray[np.uint8], Affine, Any]:
    """Pixels (band, y, x), transform and CRS of a range of columns."""
    with rasterio.open(source) as scene:
        window = rasterio.windows.Window(start, 0, stop - start, scene.height)
        moved = scene.transform @ Affine.translation(start, 0)
        return scene.read(window=window), moved, scene.crs


def write_scene(
    path: Path,
    pixels_BYX: NDArray[np.uint8],
    transform: Affine | None,
    crs: Any,
    gcps: tuple[list[GroundControlPoint], Any] | None = None,
) -> Path:
    """A COG with small blocks and overviews. Its full resolution comes last in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels_BYX.shape
    profile = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": "uint8",
    }
    with warnings.catch_warnings(), rasterio.MemoryFile() as memory:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(**profile, transform=transform, crs=crs) as made:
            made.write(pixels_BYX)
            if gcps is not None:
                made.gcps = gcps
        with memory.open() as made:
            rasterio.shutil.copy(
                made, path, driver="COG", BLOCKSIZE=str(BLOCK_PX), COMPRESS="DEFLATE"
            )
    return path


def corner_points(pixels_BYX: NDArray[np.uint8], transform: Affine) -> list[GroundControlPoint]:
    """Ground control points of the four corners."""
    _, height, width = pixels_BYX.shape
    corners = [(0, 0), (0, width), (height, 0), (height, width)]
    return [
        GroundControlPoint(row=r, col=c, x=(transform @ (c, r))[0], y=(transform @ (c, r))[1])
        for r, c in corners
    ]


def truncate(path: Path, share: float) -> None:
    """Keeps only a share of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def spoil(path: Path, share: float, seed: int) -> None:
    """Overwrites the end of a file with random bytes, from a share of its length on."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for start in range(int(len(data) * share), len(data) - 64, 1000):
        data[start : start + 64] = rng.integers(0, 256, 64, dtype=np.uint8).tobytes()
    path.write_bytes(bytes(data))


def spoil_block(path: Path, row: int, col: int) -> None:
    """Overwrites one block of a tiled TIFF with zeros."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offsets, sizes, across = page.dataoffsets, page.databytecounts, page.chunked[1]
    data = bytearray(path.read_bytes())
    n = row * across + col
    data[offsets[n] : offsets[n] + sizes[n]] = bytes(sizes[n])
    path.write_bytes(data)


def outline_of(shape: tuple[int, int], transform: Affine, crs: Any) -> shapely.Polygon:
    """Rectangle of a raster, EPSG:4326."""
    height, width = shape
    corners = [transform @ c for c in ((0, 0), (width, 0), (width, height), (0, height))]
    to_degrees = Transformer.from_crs(crs, 4326, always_xy=True)
    return shapely.Polygon([to_degrees.transform(*c) for c in corners])


def item(
    name: str, href: str | None, outline: shapely.Polygon, time: str, **properties: Any
) -> dict[str, Any]:
    """A STAC item without projection fields; without an asset when `href` is None."""
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": name,
        "geometry": shapely.geometry.mapping(outline),
        "bbox": list(outline.bounds),
        "properties": {"datetime": time, **properties},
        "links": [],
        "assets": {} if href is None else {"visual": {"href": href}},
    }


def write_items(path: Path, items: list[dict[str, Any]]) -> Path:
    """An item collection."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path
