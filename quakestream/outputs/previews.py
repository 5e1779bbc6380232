"""Small pictures of the scenes for the viewer, to check verdicts by eye."""

import io
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
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

from quakestream.domain import Epoch, Scene, View
from quakestream.errors import SceneError
from quakestream.raster.datasets import open_dataset
from quakestream.raster.source import visible_bands
from quakestream.raster.stretch import in_eight_bits, tables_for
from quakestream.storage import StorageOptions

MAX_SIDE_PX = 2048
QUALITY = 80
SMALLEST_SIDE_PX = 192
"""Smallest useful picture; a scene without room for it is left out with a note."""
BYTES_PER_PIXEL = 0.35
"""Upper estimate for WebP of 0.5 m city imagery at this quality, measured."""
READ_ERRORS = (rasterio.errors.RasterioError, OSError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """One scene as a WebP picture in Web Mercator, transparent where it has no data."""

    scene: str
    epoch: Epoch
    acquired: str
    """ISO 8601, UTC."""
    bounds: tuple[float, float, float, float]
    """(south, west, north, east), degrees: the corners of the picture."""
    width: int
    height: int
    reduction: float
    """Scene pixels per picture pixel, along one side; 1 is full resolution."""
    webp: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Previews:
    """The pictures, oldest first, and the scenes without one, with the reason."""

    shown: tuple[Preview, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()


def scene_previews(views: Iterable[View], budget_bytes: int, storage: StorageOptions) -> Previews:
    """Pictures of every scene of the views, within `budget_bytes` together.

    Each scene gets an equal share of the remaining bytes. A scene that cannot be read is left
    out with its cause: a missing picture must not cost the map.
    """
    scenes = _scenes_of(views)
    shown: list[Preview] = []
    left_out: list[tuple[str, str]] = []
    remaining = budget_bytes
    for done, (epoch, scene) in enumerate(scenes):
        share = remaining // (len(scenes) - done)
        side = min(MAX_SIDE_PX, int((share / BYTES_PER_PIXEL) ** 0.5))
        if side < SMALLEST_SIDE_PX:
            left_out.append((scene.id, "no room within the viewer's size"))
            continue
        try:
            preview = _preview(epoch, scene, side, share, storage)
        except READ_ERRORS as error:
            left_out.append((scene.id, str(error) or type(error).__name__))
            continue
        if preview is None:
            left_out.append((scene.id, "no room within the viewer's size"))
            continue
        remaining -= len(preview.webp)
        shown.append(preview)
    return Previews(shown=tuple(shown), left_out=tuple(left_out))


def _scenes_of(views: Iterable[View]) -> list[tuple[Epoch, Scene]]:
    """Distinct scenes, oldest first, so that the newest is on top."""
    scenes: dict[tuple[Epoch, str], Scene] = {}
    for view in views:
        scenes["post", view.post.id] = view.post
        if view.pre is not None:
            scenes["pre", view.pre.id] = view.pre
    order = sorted(scenes.items(), key=lambda item: (item[1].datetime, item[0]))
    return [(epoch, scene) for (epoch, _), scene in order]


def _preview(
    epoch: Epoch, scene: Scene, side: int, share: int, storage: StorageOptions
) -> Preview | None:
    """A picture of at most `side` pixels and `share` bytes; None if it would be too small."""
    while side >= SMALLEST_SIDE_PX:
        pixels_YXB, bounds, reduction = _read_mercator(scene, side, storage)
        webp = _webp(pixels_YXB)
        if len(webp) <= share:
            return Preview(
                scene=scene.id,
                epoch=epoch,
                acquired=scene.datetime.isoformat(timespec="seconds"),
                bounds=bounds,
                width=pixels_YXB.shape[1],
                height=pixels_YXB.shape[0],
                reduction=reduction,
                webp=webp,
            )
        side = int(side * 0.9 * (share / len(webp)) ** 0.5)
    return None


def _read_mercator(
    scene: Scene, side: int, storage: StorageOptions
) -> tuple[NDArray[np.uint8], tuple[float, float, float, float], float]:
    """The scene as RGBA (y, x, band) in EPSG:3857, its corners in degrees, and its reduction.

    The longer side has at most `side` pixels; corners are (south, west, north, east). The warp
    reads the overview next finer than the picture. GDAL would average the full resolution
    otherwise, which takes longer than scoring a large scene.
    """
    level, by = _level(scene.href, side, storage)
    with ExitStack() as stack:
        source = stack.enter_context(open_dataset(scene.href, storage, overview=level))
        if source.crs is None:
            raise SceneError("image has no CRS")
        transform, width, height = calculate_default_transform(
            source.crs, "EPSG:3857", source.width, source.height, *source.bounds
        )
        scale = min(1.0, side / max(width, height))
        size: dict[str, Any] = {
            "width": max(1, round(width * scale)),
            "height": max(1, round(height * scale)),
        }
        west, south, east, north = array_bounds(height, width, transform)
        vrt = stack.enter_context(
            WarpedVRT(
                source,
                crs="EPSG:3857",
                transform=from_bounds(west, south, east, north, size["width"], size["height"]),
                resampling=Resampling.average if scale < 0.5 else Resampling.bilinear,
                add_alpha=source.nodata is None and ColorInterp.alpha not in source.colorinterp,
                **size,
            )
        )
        bands = visible_bands(source)
        values_BYX = in_eight_bits(vrt.read(bands), tables_for(source, bands, scene.stretch))
        alpha = vrt.dataset_mask()
    to_degrees = Transformer.from_crs(3857, 4326, always_xy=True)
    (lon_w, lon_e), (lat_s, lat_n) = to_degrees.transform((west, east), (south, north))
    rgba_YXB = np.dstack([*values_BYX, alpha.astype(np.uint8)])
    return rgba_YXB, (lat_s, lon_w, lat_n, lon_e), by / scale


def _level(href: str, side: int, storage: StorageOptions) -> tuple[int | None, int]:
    """The coarsest overview that is finer than the picture, if any, and its factor."""
    with open_dataset(href, storage) as source:
        reduction = max(source.width, source.height) / side
        fitting = [(n, by) for n, by in enumerate(source.overviews(1)) if by <= reduction]
    if not fitting:
        return None, 1
    level, by = fitting[-1]
    return level, by


def _webp(rgba_YXB: NDArray[np.uint8]) -> bytes:
    """WebP bytes of a picture. Opaque pictures drop their alpha, which saves a tenth."""
    image = Image.fromarray(rgba_YXB)
    if (rgba_YXB[..., 3] == 255).all():
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()
