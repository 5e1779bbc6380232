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
        geod = pyproj.Geod(ellps="WGS84")
        _, _, height_m = geod.inv((west + east) / 2, south, (west + east) / 2, north)
    except ProjError as error:
        raise SceneError(
            f"{href} has a CRS that is not on Earth: {dataset.crs} ({error})"
        ) from error
    return float(height_m / dataset.height)
