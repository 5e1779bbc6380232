"""Reads two scenes of any CRS and pixel size as images on one grid, as inference does."""

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
"""Largest image that is read whole, pixels; chips of larger scenes are cut with a run file."""


def probed(href: str, options: StorageOptions | None = None) -> Scene:
    """The scene of a file, from its header alone.

    Raises:
        SceneError: if the header cannot be used.
        StorageError: if the file is missing.
    """
    scene = Scene(id=href, href=href, datetime=datetime(1970, 1, 1, tzinfo=UTC), outline=Polygon())
    return probe(scene, options or StorageOptions())


def image_on(scene: Scene, grid: Grid, window: Window, options: StorageOptions) -> Image:
    """Reads part of a scene on a grid, copied, averaged or warped as in inference.

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
    """Reads a pre-event and a post-event image on the UTM grid of their common ground.

    Args:
        pre_href: pre-event image, of any CRS.
        post_href: post-event image, of any CRS.
        gsd_m: pixel size of the grid; None takes that of the coarser scene.
        options: access to the storage.

    Raises:
        SceneError: if they share no ground, or it is too large to be read whole.
        StorageError: if an image is missing.
    """
    chosen = options or StorageOptions()
    pre, post = probed(pre_href, chosen), probed(post_href, chosen)
    boxes = [_bounds(scene, 4326) for scene in (pre, post)]
    west, south = (max(b[i] for b in boxes) for i in (0, 1))
    east, north = (min(b[i] for b in boxes) for i in (2, 3))
    if west >= east or south >= north:
        raise SceneError(
            f"shares no ground with {pre_href}",
            post_href,
            expected=f"ground within {boxes[0]}",
            got=str(boxes[1]),
        )
    epsg = utm_epsg((west + east) / 2, (south + north) / 2)
    grid = Grid(epsg=epsg, gsd_m=gsd_m or max(pre.gsd_m or 0.0, post.gsd_m or 0.0))
    windows = [grid.window(*_bounds(scene, epsg)) for scene in (pre, post)]
    row, col = max(w.row for w in windows), max(w.col for w in windows)
    height = min(w.row_end for w in windows) - row
    width = min(w.col_end for w in windows) - col
    if height * width > LARGEST_PX:
        raise SceneError(
            "image is too large to be read whole",
            post_href,
            expected=f"at most {LARGEST_PX:,} pixels",
            got=f"{height:,} × {width:,}",
            remedy="cut its chips with a run file",
        )
    window = Window(row=row, col=col, height=height, width=width)
    return image_on(pre, grid, window, chosen), image_on(post, grid, window, chosen)


def _bounds(scene: Scene, epsg: int) -> tuple[float, float, float, float]:
    if scene.transform is None or scene.shape is None:
        raise SceneError("header has no size or georeference", scene.href)
    height, width = scene.shape
    west, north = scene.transform @ (0.0, 0.0)
    east, south = scene.transform @ (float(width), float(height))
    to = pyproj.Transformer.from_crs(scene.crs_wkt, epsg, always_xy=True)
    west, south, east, north = to.transform_bounds(west, south, east, north)
    return float(west), float(south), float(east), float(north)
