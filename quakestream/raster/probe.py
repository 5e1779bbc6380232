"""Reads a scene's header, before its pixels.

The header of a 16-bit scene does not tell dark from bright counts, so a few pixels are read too.
"""

import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyproj
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError

from quakestream.domain import Scene, Stretch, sheets_of
from quakestream.errors import SceneError, StorageError
from quakestream.raster.datasets import open_dataset
from quakestream.raster.messages import root_cause
from quakestream.raster.source import open_scene, visible_bands
from quakestream.raster.stretch import measured_stretch
from quakestream.storage import StorageOptions, fingerprint, is_remote

PROBE_ROWS = 100
"""Rows of the image over which the height of a pixel is measured."""
TRUE_TO = 0.005
"""Largest relative error of a projection's metre."""


def probe(scene: Scene, options: StorageOptions) -> Scene:
    """The scene with CRS, transform, shape, GSD, version and stretch from its file.

    Raises:
        SceneError: if the scene cannot be opened, does not lie on Earth, is rotated, or has no
            colours of 8 or 16 bits.
        StorageError: if it does not exist.
    """
    etag = fingerprint(scene.href, options)
    _refuse_remote_mask(scene.href, options)
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
            raise SceneError(f"cannot read header: {error}", scene.href) from error


def common_stretch(scene: Scene, options: StorageOptions) -> Stretch | None:
    """The stretch of an acquisition of 16 bits, measured over its largest sheet.

    Where that cannot be read, the stretch of its first tile.
    """
    sheet = max(sheets_of(scene), key=lambda one: len(one.parts))
    try:
        with open_scene(sheet, options) as dataset:
            return _stretch(dataset, scene.id, sheet.gsd_m or 1.0)
    except SceneError:
        return sheet.parts[0].stretch


def _refuse_remote_mask(href: str, options: StorageOptions) -> None:
    """Refuses a scene whose mask lies in an object beside it: those are read on disk alone.

    Without its mask the scene would show ground where it has none.
    """
    if not is_remote(href) or "?" in href:
        return
    with suppress(StorageError):
        fingerprint(f"{href}.msk", options)
        what = "mask of the image lies in a file beside it, which is not read over the network"
        remedy = "write both into one file with gdal_translate -of COG"
        raise SceneError(what, f"{href}.msk", remedy=remedy)


def _check(dataset: Any, href: str) -> None:
    if dataset.crs is None:
        what = "image has no CRS (ground control points alone are not enough)"
        raise SceneError(what, href, remedy="add it with gdal_edit -a_srs EPSG:...")
    if dataset.transform.is_identity:
        remedy = "add it with gdal_edit -a_ullr"
        raise SceneError("image has no georeference", href, remedy=remedy)
    if dataset.transform.b != 0 or dataset.transform.d != 0:
        got = f"transform {tuple(dataset.transform)[:6]}"
        remedy = "make it north-up with gdalwarp"
        raise SceneError("image is rotated", href, got=got, remedy=remedy)
    dtypes = {dataset.dtypes[band - 1] for band in visible_bands(dataset)}
    if dtypes not in ({"uint8"}, {"uint16"}):
        raise SceneError(
            "image has another dtype",
            href,
            expected="uint8 (a visual asset) or uint16",
            got=", ".join(sorted(dtypes)),
            remedy="name another asset under imagery.asset",
        )


def _stretch(dataset: Any, href: str, gsd_m: float) -> Stretch | None:
    bands = visible_bands(dataset)
    if dataset.dtypes[bands[0] - 1] == "uint8":
        return None
    try:
        return measured_stretch(dataset, bands, gsd_m)
    except RasterioError as error:
        what = f"cannot measure how to bring 16-bit counts to 8 bits: {root_cause(error)}"
        raise SceneError(what, href) from error


def _gsd_m(dataset: Any, href: str) -> float:
    """Ground size of a pixel, metres, at the scene's middle."""
    try:
        to_wgs84 = pyproj.Transformer.from_crs(dataset.crs.to_wkt(), 4326, always_xy=True)
        west, south, east, north = bounds = to_wgs84.transform_bounds(*dataset.bounds)
        # west > east crosses 180°
        if not all(math.isfinite(v) for v in bounds) or east == west or north <= south:
            raise SceneError("image lies nowhere on Earth", href, got=f"CRS {dataset.crs}")
        if not (west >= -360.5 and east <= 360.5 and south >= -90 and north <= 90):
            raise SceneError("image lies nowhere on Earth", href, got=f"bounds {bounds}")
        return _pixel_m(dataset, to_wgs84)
    except ProjError as error:
        got = f"{dataset.crs} ({error})"
        raise SceneError("image has a CRS that is not on Earth", href, got=got) from error


def _pixel_m(dataset: Any, to_wgs84: pyproj.Transformer) -> float:
    """Height of a pixel on the ground, metres.

    A projection's own metre is used where it is true to 0.5 %, so a 0.5 m scene in UTM has
    exactly 0.5 m. Web Mercator's metre is not true.
    """
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
