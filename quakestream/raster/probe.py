"""What a scene's header says, before any pixel is read."""

import math
from dataclasses import replace
from typing import Any

import pyproj
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError

from quakestream.domain import Scene
from quakestream.errors import SceneError
from quakestream.raster.source import open_dataset, visible_bands
from quakestream.storage import StorageOptions, fingerprint

PROBE_ROWS = 100
TRUE_TO = 0.005


def probe(scene: Scene, options: StorageOptions) -> Scene:
    """The scene with CRS, transform, shape, GSD and version from its file.

    Raises:
        SceneError: if it cannot be opened, is not on Earth, is rotated, or is
            not 8-bit colour.
        StorageError: if it is not there.
    """
    etag = fingerprint(scene.href, options)
    with open_dataset(scene.href, options) as dataset:
        try:
            _check(dataset, scene.href)
            wkt = dataset.crs.to_wkt()
            return replace(
                scene,
                crs_wkt=wkt,
                transform=dataset.transform,
                shape=(dataset.height, dataset.width),
                gsd_m=_gsd_m(dataset, scene.href),
                etag=etag,
            )
        except RasterioError as error:
            raise SceneError(f"cannot read the header of {scene.href}: {error}") from error


def _check(dataset: Any, href: str) -> None:
    if dataset.crs is None:
        raise SceneError(f"{href} has no CRS (ground control points alone are not enough)")
    if dataset.transform.is_identity:
        raise SceneError(f"{href} has no georeference")
    if dataset.transform.b != 0 or dataset.transform.d != 0:
        raise SceneError(f"{href} is rotated: {tuple(dataset.transform)[:6]}; warp it north-up")
    visible_bands(dataset)
    if set(dataset.dtypes[:3]) != {"uint8"}:
        raise SceneError(f"{href} holds {dataset.dtypes[0]}, takes uint8 (a visual asset)")


def _gsd_m(dataset: Any, href: str) -> float:
    """Ground size of a pixel, metres, at the scene's middle."""
    try:
        to_wgs84 = pyproj.Transformer.from_crs(dataset.crs.to_wkt(), 4326, always_xy=True)
        west, south, east, north = bounds = to_wgs84.transform_bounds(*dataset.bounds)
        if not all(math.isfinite(v) for v in bounds) or east <= west or north <= south:
            raise SceneError(f"{href} lies nowhere on Earth: its CRS is {dataset.crs}")
        if not (west >= -180.5 and east <= 180.5 and south >= -90 and north <= 90):
            raise SceneError(f"{href} lies nowhere on Earth: {bounds}")
        return _pixel_m(dataset, to_wgs84)
    except ProjError as error:
        raise SceneError(
            f"{href} has a CRS that is not on Earth: {dataset.crs} ({error})"
        ) from error


def _pixel_m(dataset: Any, to_wgs84: pyproj.Transformer) -> float:
    """Height of a pixel on the ground. A projection's own metre counts where it is true to
    0.5 %, as UTM's is and Web Mercator's is not: a 0.5 m scene is then 0.5 m exactly."""
    transform, middle = dataset.transform, (dataset.width / 2, dataset.height / 2)
    top = transform @ (middle[0], middle[1] - PROBE_ROWS / 2)
    bottom = transform @ (middle[0], middle[1] + PROBE_ROWS / 2)
    places = (to_wgs84.transform(*top), to_wgs84.transform(*bottom))
    _, _, metres = pyproj.Geod(ellps="WGS84").inv(*places[0], *places[1])
    measured = float(metres / PROBE_ROWS)
    if dataset.crs.is_projected:
        nominal = abs(transform.e) * float(dataset.crs.linear_units_factor[1])
        if abs(measured / nominal - 1.0) < TRUE_TO:
            return float(nominal)
    return measured
