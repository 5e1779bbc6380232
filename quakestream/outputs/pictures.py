"""Pictures of scenes in Web Mercator: whole scenes small, and windows at full resolution."""

import io
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from pyproj import Transformer
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import array_bounds, from_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform

from quakestream.domain import Scene
from quakestream.errors import SceneError
from quakestream.raster.datasets import dataset_of, gdal_session
from quakestream.raster.source import visible_bands
from quakestream.raster.stretch import in_eight_bits, tables_for
from quakestream.storage import StorageOptions

QUALITY = 80
READ_ERRORS = (rasterio.errors.RasterioError, OSError, ValueError)
WORLD_M = 2 * math.pi * 6378137.0
"""Width of the world in Web Mercator, metres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A rectangle of Web Mercator in pixels."""

    west: float
    south: float
    east: float
    north: float
    """Edges, EPSG:3857, metres."""
    width: int
    height: int

    @property
    def pixel(self) -> float:
        """Side of a pixel, EPSG:3857 metres: longer than on the ground, except on the equator."""
        return (self.east - self.west) / self.width

    @property
    def ground_m(self) -> float:
        """Side of a pixel on the ground, metres."""
        latitude = math.atan(math.sinh((self.south + self.north) / 2 / 6378137.0))
        return self.pixel * math.cos(latitude)

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """(south, west, north, east), degrees."""
        to_degrees = Transformer.from_crs(3857, 4326, always_xy=True)
        (lon_w, lon_e), (lat_s, lat_n) = to_degrees.transform(
            (self.west, self.east), (self.south, self.north)
        )
        return lat_s, lon_w, lat_n, lon_e


def tile_frame(z: int, x: int, y: int, side: int = 256) -> Frame:
    """The tile of the usual web tiling, whose y grows to the south."""
    step = WORLD_M / 2**z
    west, north = x * step - WORLD_M / 2, WORLD_M / 2 - y * step
    return Frame(
        west=west, south=north - step, east=west + step, north=north, width=side, height=side
    )


@dataclass(slots=True)
class PictureSource:
    """A scene that is open for pictures, in one thread. Overviews are opened when needed."""

    scene: Scene
    storage: StorageOptions
    stack: ExitStack
    native: float = 0.0
    """Side of a pixel of the scene, EPSG:3857 metres."""
    whole: Frame | None = None
    """The whole scene at its own resolution."""
    factors: tuple[int, ...] = ()
    opened: dict[int, Any] = field(default_factory=dict)

    def shows(self, frame: Frame) -> bool:
        """True if the scene's rectangle and the frame overlap."""
        whole = self.whole
        return whole is not None and (
            frame.west < whole.east
            and whole.west < frame.east
            and frame.south < whole.north
            and whole.south < frame.north
        )

    def frame(self, side: int) -> Frame:
        """The whole scene, the longer side at most `side` pixels."""
        whole = self.whole
        assert whole is not None
        scale = min(1.0, side / max(whole.width, whole.height))
        return Frame(
            west=whole.west,
            south=whole.south,
            east=whole.east,
            north=whole.north,
            width=max(1, round(whole.width * scale)),
            height=max(1, round(whole.height * scale)),
        )

    def reduction(self, frame: Frame) -> float:
        """Scene pixels per picture pixel along one side; 1 is full resolution."""
        return max(frame.pixel / self.native, 1.0)

    def read(self, frame: Frame) -> NDArray[np.uint8]:
        """RGBA, shape (y, x, band), transparent where the scene shows nothing.

        The coarsest overview is read that is finer than the picture. GDAL would average the full
        resolution otherwise, which takes longer than scoring a large scene.
        """
        ratio = frame.pixel / self.native
        level = max((n for n, by in enumerate(self.factors) if by <= ratio * 1.001), default=-1)
        source = self.level(level)
        left = ratio / (self.factors[level] if level >= 0 else 1)
        with WarpedVRT(
            source,
            crs="EPSG:3857",
            transform=from_bounds(
                frame.west, frame.south, frame.east, frame.north, frame.width, frame.height
            ),
            width=frame.width,
            height=frame.height,
            resampling=Resampling.average if left > 2 else Resampling.bilinear,
            add_alpha=source.nodata is None and ColorInterp.alpha not in source.colorinterp,
        ) as vrt:
            bands = visible_bands(source)
            tables = tables_for(source, bands, self.scene.stretch)
            values_BYX = in_eight_bits(vrt.read(bands), tables)
            alpha = vrt.dataset_mask()
        return np.dstack([*values_BYX, alpha.astype(np.uint8)])

    def level(self, level: int) -> Any:
        """The dataset of an overview; -1: of the full resolution."""
        if level not in self.opened:
            overview = None if level < 0 else level
            opened = dataset_of(self.scene.href, self.storage, overview=overview)
            self.opened[level] = self.stack.enter_context(opened)
        return self.opened[level]


def picture_source(scene: Scene, storage: StorageOptions, stack: ExitStack) -> PictureSource:
    """A scene opened for pictures until `stack` closes, within a `gdal_session`.

    Raises:
        SceneError: if it cannot be opened or has no CRS.
    """
    source = PictureSource(scene=scene, storage=storage, stack=stack)
    dataset = source.level(-1)
    if dataset.crs is None:
        raise SceneError("image has no CRS")
    transform, width, height = calculate_default_transform(
        dataset.crs, "EPSG:3857", dataset.width, dataset.height, *dataset.bounds
    )
    west, south, east, north = array_bounds(height, width, transform)
    source.whole = Frame(west=west, south=south, east=east, north=north, width=width, height=height)
    source.native = source.whole.pixel
    source.factors = tuple(dataset.overviews(1))
    return source


@contextmanager
def open_pictures(scene: Scene, storage: StorageOptions) -> Iterator[PictureSource]:
    """Opens a scene for pictures, and closes it. Raises what `picture_source` does."""
    with gdal_session(storage), ExitStack() as stack:
        yield picture_source(scene, storage, stack)


def webp(rgba_YXB: NDArray[np.uint8], quality: int = QUALITY) -> bytes:
    """WebP bytes of a picture. Opaque pictures drop their alpha, which saves a tenth."""
    image = Image.fromarray(rgba_YXB)
    if (rgba_YXB[..., 3] == 255).all():
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()
