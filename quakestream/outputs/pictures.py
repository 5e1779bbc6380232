"""Pictures of scenes in Web Mercator: whole scenes small, and windows at full resolution."""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import array_bounds, from_bounds
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform, transform_bounds

from quakestream.domain import Scene, SceneLayer
from quakestream.domain.bands import COLOURS
from quakestream.errors import SceneError
from quakestream.raster.bands import BandReader, bands_in
from quakestream.raster.datasets import dataset_of, gdal_session, source_crs
from quakestream.raster.stretch import in_eight_bits, tables_for
from quakestream.raster.values import UNDECLARED, is_valid, physical
from quakestream.storage import StorageOptions
from quakestream.tiling.antimeridian import HALF_TURN, TURN

QUALITY = 80
READ_ERRORS = (rasterio.errors.RasterioError, CPLE_BaseError, OSError, ValueError)
"""What a picture may fail with: GDAL's own errors pass rasterio bare at times."""
BRIGHT = 0.3
"""Reflectance that pictures show white: that of bare, light soil."""
WORLD_M = 2 * math.pi * 6378137.0
"""Width of the world in Web Mercator, metres."""
MERCATOR_AT_180 = (
    "+proj=merc +a=6378137 +b=6378137 +lat_ts=0 +lon_0=180 +x_0=0 +y_0=0 +k=1 +units=m "
    "+nadgrids=@null +wktext +no_defs"
)
"""Web Mercator with its middle on the other side of the Earth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A rectangle of Web Mercator in pixels."""

    west: float
    south: float
    east: float
    north: float
    """Edges, EPSG:3857, metres; beyond the edge of the world for what lies across 180°."""
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
        lat_s, lat_n = (
            math.degrees(math.atan(math.sinh(y / 6378137.0))) for y in (self.south, self.north)
        )
        return lat_s, self.west / WORLD_M * TURN, lat_n, self.east / WORLD_M * TURN

    def near(self, other: "Frame") -> "Frame":
        """The same ground, whole turns of the Earth further, beside another frame."""
        apart = (other.west + other.east - self.west - self.east) / 2
        turns = round(apart / WORLD_M) * WORLD_M
        return self if not turns else self.moved(turns)

    def moved(self, by: float) -> "Frame":
        """The frame further east."""
        return replace(self, west=self.west + by, east=self.east + by)


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
    middle: float = 0.0
    """Where the projection has its middle: half the world further for a scene across 180°."""
    factors: tuple[int, ...] = ()
    opened: dict[tuple[str, int], Any] = field(default_factory=dict)

    def shows(self, frame: Frame) -> bool:
        """True if the scene's rectangle and the frame overlap."""
        whole = self.whole
        if whole is None:
            return False
        frame = frame.near(whole)
        return (
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
        assert self.whole is not None
        frame = frame.near(self.whole).moved(-self.middle)
        if self.scene.layers:
            return self._reflectance(frame)
        ratio = frame.pixel / self.native
        level = max((n for n, by in enumerate(self.factors) if by <= ratio * 1.001), default=-1)
        source = self.level(level)
        left = ratio / (self.factors[level] if level >= 0 else 1)
        with WarpedVRT(
            source,
            src_crs=source_crs(source),
            crs=MERCATOR_AT_180 if self.middle else "EPSG:3857",
            transform=from_bounds(
                frame.west, frame.south, frame.east, frame.north, frame.width, frame.height
            ),
            width=frame.width,
            height=frame.height,
            resampling=Resampling.average if left > 2 else Resampling.bilinear,
            add_alpha=source.nodata is None and ColorInterp.alpha not in source.colorinterp,
        ) as vrt:
            bands = bands_in(source, self.scene.bands, self.scene.stated)
            stored_BYX, valid_YX = BandReader(dataset=source, bands=bands).warped(vrt)
            tables = tables_for(source, bands, self.scene.stretch)
            values_BYX = in_eight_bits(stored_BYX, tables)
        return np.dstack([*values_BYX, valid_YX.astype(np.uint8) * 255])

    def _reflectance(self, frame: Frame) -> NDArray[np.uint8]:
        """RGBA of a scene of physical values: its red, green and blue, else its first bands."""
        values, valid_YX = [], np.ones((frame.height, frame.width), np.bool_)
        for layer in picture_layers(self.scene.layers):
            value_YX, there_YX = self._layer(layer, frame)
            values.append((value_YX / BRIGHT * 255).clip(1, 255).astype(np.uint8))
            valid_YX &= there_YX
        return np.dstack([*values, valid_YX.astype(np.uint8) * 255])

    def _layer(
        self, layer: SceneLayer, frame: Frame
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values and validity of one band in a frame, from an overview that is fine enough."""
        href, nodata = layer.file.href, layer.nodata[0] if layer.nodata else UNDECLARED
        whole = self.level(-1, href)
        ratio = frame.pixel / self.native * self.level(-1).res[0] / whole.res[0]
        factors = whole.overviews(layer.band)
        level = max((n for n, by in enumerate(factors) if by <= ratio * 1.001), default=-1)
        source = self.level(level, href)
        with WarpedVRT(
            source,
            src_crs=source_crs(source),
            src_nodata=layer.nodata[0] if layer.nodata else None,
            nodata=nodata,
            crs=MERCATOR_AT_180 if self.middle else "EPSG:3857",
            transform=from_bounds(
                frame.west, frame.south, frame.east, frame.north, frame.width, frame.height
            ),
            width=frame.width,
            height=frame.height,
            resampling=Resampling.bilinear,
            dtype="float64",
        ) as vrt:
            stored_YX = vrt.read(layer.band)
        return physical(stored_YX, is_valid(stored_YX, (*layer.nodata, nodata)), layer)

    def level(self, level: int, href: str = "") -> Any:
        """The dataset of an overview; -1: of the full resolution.

        Args:
            href: another file of the scene.
        """
        key = (href or self.scene.href, level)
        if key not in self.opened:
            overview = None if level < 0 else level
            opened = dataset_of(key[0], self.storage, overview=overview)
            self.opened[key] = self.stack.enter_context(opened)
        return self.opened[key]


def picture_layers(layers: Sequence[SceneLayer]) -> list[SceneLayer]:
    """Three bands to be shown as red, green and blue; a grey picture where there are fewer."""
    bands = {layer.name: layer for layer in layers if not layer.is_terrain}
    if set(COLOURS) <= bands.keys():
        return [bands[colour] for colour in COLOURS]
    first = list(bands.values())[:3]
    return first if len(first) == 3 else first[:1] * 3


def picture_source(scene: Scene, storage: StorageOptions, stack: ExitStack) -> PictureSource:
    """A scene opened for pictures until `stack` closes, within a `gdal_session`.

    Raises:
        SceneError: if it cannot be opened or has no CRS.
    """
    source = PictureSource(scene=scene, storage=storage, stack=stack)
    dataset = source.level(-1)
    if dataset.crs is None:
        raise SceneError("image has no CRS")
    lon_w, _, lon_e, _ = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
    if not -HALF_TURN <= lon_w <= lon_e <= HALF_TURN:
        source.middle = WORLD_M / 2
    transform, width, height = calculate_default_transform(
        dataset.crs,
        MERCATOR_AT_180 if source.middle else "EPSG:3857",
        dataset.width,
        dataset.height,
        *dataset.bounds,
    )
    west, south, east, north = array_bounds(height, width, transform)
    whole = Frame(west=west, south=south, east=east, north=north, width=width, height=height)
    source.whole = whole.moved(source.middle)
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
