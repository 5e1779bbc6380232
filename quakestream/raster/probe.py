"""What a scene's header says, before its pixels are read.

Of scenes of 16 bits, whose header does not say what is dark and what bright, a few pixels are.
"""

import math
from dataclasses import replace
from typing import Any

import pyproj
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError

from quakestream.domain import Scene, Stretch
from quakestream.errors import SceneError
from quakestream.raster.source import open_dataset, told, visible_bands
from quakestream.raster.stretch import measured_stretch
from quakestream.storage import StorageOptions, fingerprint

PROBE_ROWS = 100
TRUE_TO = 0.005


def probe(scene: Scene, options: StorageOptions) -> Scene:
    """The scene with CRS, transform, shape, GSD, version and stretch from its file.

    Raises:
        SceneError: if it cannot be opened, is not on Earth, is rotated, or is
            not colour of 8 or 16 bits.
        StorageError: if it is not there.
    """
    etag = fingerprint(scene.href, options)
    with open_dataset(scene.href, options) as dataset:
        try:
            _check(dataset, scene.href)
            gsd_m = _gsd_m(dataset, scene.href)
            return replace(
                scene,
                crs_wkt=dataset.crs.to_wkt(),
                transform=dataset.transform,
                shape=(dataset.height, dataset.width),
                gsd_m=gsd_m,
                etag=etag,
                stretch=_stretch(dataset, scene.href, gsd_m),
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
    held = {dataset.dtypes[band - 1] for band in visible_bands(dataset)}
    if held not in ({"uint8"}, {"uint16"}):
        raise SceneError(
            f"{href} holds {', '.join(sorted(held))}, takes uint8 (a visual asset) or uint16; "
            "name another asset under imagery.asset"
        )


def _stretch(dataset: Any, href: str, gsd_m: float) -> Stretch | None:
    bands = visible_bands(dataset)
    if dataset.dtypes[bands[0] - 1] == "uint8":
        return None
    try:
        return measured_stretch(dataset, bands, gsd_m)
    except RasterioError as error:
        raise SceneError(
            f"cannot find how to bring the 16-bit counts of {href} to 8 bits: {told(error)}"
        ) from error


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
