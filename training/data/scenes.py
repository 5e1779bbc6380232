"""Two scenes of any CRS and pixel size as images on one grid, through the library's readers."""

from datetime import UTC, datetime

import numpy as np
import pyproj
from shapely.geometry import Polygon

from quakestream.domain import Grid, Scene, Window, utm_epsg
from quakestream.errors import SceneError
from quakestream.raster.cog import open_source
from quakestream.raster.prepare import prepare_scene
from quakestream.raster.probe import probe
from quakestream.storage import StorageOptions
from training.data.pairs import Image

LARGEST_PX = 100_000_000
"""Images are held whole; larger scenes are cut with a run file."""


def probed(href: str, options: StorageOptions | None = None) -> Scene:
    """A scene known by its file alone.

    Raises:
        SceneError: if its header cannot be used.
        StorageError: if it is not there.
    """
    scene = Scene(id=href, href=href, datetime=datetime(1970, 1, 1, tzinfo=UTC), outline=Polygon())
    return probe(scene, options or StorageOptions())


def image_on(scene: Scene, grid: Grid, window: Window, options: StorageOptions) -> Image:
    """Part of a scene on a grid: copied, averaged or warped as inference would.

    Raises:
        ReadError: if it cannot be read.
    """
    with open_source(scene, grid, options) as source:
        pixels = source.read(window)
    counts_BYX = np.where(pixels.valid_YX, pixels.counts_BYX, np.uint8(0))
    statistics = prepare_scene(scene, options).statistics
    return Image(grid=grid, window=window, pixels_BYX=counts_BYX, statistics=statistics)


def read_pair(
    pre_href: str, post_href: str, gsd_m: float | None = None, options: StorageOptions | None = None
) -> tuple[Image, Image]:
    """Pre and post image of the ground both show, in the UTM zone of its middle.

    Args:
        pre_href: an image file of any CRS.
        post_href: another.
        gsd_m: pixel size of the grid; None takes that of the coarser scene.

    Raises:
        SceneError: if they share no ground, or it is too large to be held.
        StorageError: if one is not there.
    """
    chosen = options or StorageOptions()
    pre, post = probed(pre_href, chosen), probed(post_href, chosen)
    boxes = [_bounds(scene, 4326) for scene in (pre, post)]
    west, south = (max(b[i] for b in boxes) for i in (0, 1))
    east, north = (min(b[i] for b in boxes) for i in (2, 3))
    if west >= east or south >= north:
        raise SceneError(f"{pre_href} and {post_href} share no ground: {boxes[0]}, {boxes[1]}")
    epsg = utm_epsg((west + east) / 2, (south + north) / 2)
    grid = Grid(epsg=epsg, gsd_m=gsd_m or max(pre.gsd_m or 0.0, post.gsd_m or 0.0))
    windows = [grid.window(*_bounds(scene, epsg)) for scene in (pre, post)]
    row, col = max(w.row for w in windows), max(w.col for w in windows)
    height = min(w.row_end for w in windows) - row
    width = min(w.col_end for w in windows) - col
    if height * width > LARGEST_PX:
        raise SceneError(
            f"{post_href}: {height} × {width} pixels are more than are held whole "
            f"({LARGEST_PX:.0e}); cut it with a run file"
        )
    window = Window(row=row, col=col, height=height, width=width)
    return image_on(pre, grid, window, chosen), image_on(post, grid, window, chosen)


def _bounds(scene: Scene, epsg: int) -> tuple[float, float, float, float]:
    assert scene.transform is not None
    assert scene.shape is not None
    height, width = scene.shape
    west, north = scene.transform @ (0.0, 0.0)
    east, south = scene.transform @ (float(width), float(height))
    to = pyproj.Transformer.from_crs(scene.crs_wkt, epsg, always_xy=True)
    west, south, east, north = to.transform_bounds(west, south, east, north)
    return float(west), float(south), float(east), float(north)
