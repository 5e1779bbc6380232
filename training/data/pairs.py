"""Labelled pairs: a pre-event and a post-event image with buildings of known state."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.features import rasterize
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from quakestream.domain import Grid, Window
from quakestream.errors import SceneError
from quakestream.raster.statistics import STATISTICS_GSD_M, SceneStatistics, statistics_of

RGB = (1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """A building of known state. Buildings of unknown state are left out, unless asked for."""

    id: str
    geometry: BaseGeometry
    """Outline in the CRS of the pair's grid."""
    destroyed: bool
    judged: bool = True
    """False if the state is not known; `destroyed` is then False, and means "not labelled"."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """Three bands on a grid, read whole, because training scenes are a few megapixels."""

    grid: Grid
    window: Window
    pixels_BYX: NDArray[np.uint8]
    """Sensor counts; 0 in all bands where the sensor saw nothing."""
    statistics: SceneStatistics

    def part(self, window: Window) -> "Image":
        """The part of the image inside a window; the statistics stay those of the scene."""
        rows, cols = window.slices_in(self.window)
        return Image(
            grid=self.grid,
            window=window,
            pixels_BYX=self.pixels_BYX[:, rows, cols],
            statistics=self.statistics,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledPair:
    """A pair with its buildings. All other ground is unlabelled."""

    name: str
    region: str
    """Scenes that share ground, or could, are of one region, so that no split divides them."""
    pre: Image
    post: Image
    buildings: tuple[Building, ...]

    @property
    def grid(self) -> Grid:
        return self.post.grid

    @property
    def window(self) -> Window:
        return self.post.window

    @property
    def outline(self) -> BaseGeometry:
        """Ground that both images show, in the CRS of the grid."""
        return box(*self.grid.bounds(self.window))


def outlined_by_bounds(pair: LabelledPair) -> LabelledPair:
    """The pair with every building's outline replaced by its axis-aligned bounds."""
    boxes = tuple(replace(b, geometry=box(*b.geometry.bounds)) for b in pair.buildings)
    return replace(pair, buildings=boxes)


def in_squares(pair: LabelledPair, side_m: float) -> LabelledPair:
    """The pair with every outline replaced by a square of one size around its middle."""
    half = side_m / 2
    middles = [b.geometry.envelope.centroid for b in pair.buildings]
    squares = [box(m.x - half, m.y - half, m.x + half, m.y + half) for m in middles]
    buildings = tuple(
        replace(b, geometry=square) for b, square in zip(pair.buildings, squares, strict=True)
    )
    return replace(pair, buildings=buildings)


def read_image(path: Path) -> Image:
    """Reads the first three bands with GDAL, the decoder that inference uses.

    Raises:
        SceneError: if the file has fewer than three bands, has not 8 bits, is rotated, or has no
            EPSG code.
    """
    with rasterio.open(path) as source:
        transform = source.transform
        epsg = source.crs.to_epsg() if source.crs else None
        kind = source.dtypes[0]
        if source.count < 3 or kind != "uint8" or epsg is None or transform.b or transform.d:
            raise SceneError(
                "image cannot be used for training",
                str(path),
                expected="a north-up image of three bands of uint8 with an EPSG code",
                got=f"{source.count} bands of {kind}, {source.crs}, {transform!r}",
            )
        grid = Grid(epsg=epsg, gsd_m=transform.a)
        window = _window_on(grid, transform.c, transform.f, source.shape)
        valid_YX = source.dataset_mask() > 0
        pixels_BYX = source.read(RGB)
        statistics = _statistics(source, transform.a)
    pixels_BYX[:, ~valid_YX] = 0
    return Image(grid=grid, window=window, pixels_BYX=pixels_BYX, statistics=statistics)


def pair_up(pre: Image, post: Image) -> tuple[Image, Image]:
    """Cuts both images to the ground that they share.

    Raises:
        SceneError: if they are on different grids or share no ground.
    """
    a, b = pre.window, post.window
    row, col = max(a.row, b.row), max(a.col, b.col)
    height, width = min(a.row_end, b.row_end) - row, min(a.col_end, b.col_end) - col
    if pre.grid != post.grid or height <= 0 or width <= 0:
        raise SceneError(
            "images share no ground",
            expected=f"ground of post {post.grid} {b}",
            got=f"{pre.grid} {a}",
        )
    shared = Window(row=row, col=col, height=height, width=width)
    return pre.part(shared), post.part(shared)


def pixels_inside(geometry: BaseGeometry, grid: Grid, window: Window) -> NDArray[np.bool_]:
    """Pixels of a window whose centres lie inside an outline, shape (y, x)."""
    inside_YX: NDArray[np.uint8] = rasterize(
        [(geometry, 1)],
        out_shape=window.shape,
        transform=grid.window_transform(window),
        dtype=np.uint8,
    )
    return inside_YX > 0


def _window_on(grid: Grid, west: float, north: float, shape: tuple[int, int]) -> Window:
    """The window of an image on the grid, to the nearest pixel."""
    height, width = shape
    col, row = ~grid.transform @ (west, north)
    return Window(row=round(row), col=round(col), height=height, width=width)


def _statistics(source: rasterio.DatasetReader, gsd_m: float) -> SceneStatistics:
    shape = tuple(max(1, round(side * gsd_m / STATISTICS_GSD_M)) for side in source.shape)
    pixels_BYX = source.read(RGB, out_shape=(3, *shape), resampling=Resampling.average)
    valid_YX = source.dataset_mask(out_shape=shape) > 0
    return statistics_of(pixels_BYX, valid_YX)
