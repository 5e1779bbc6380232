"""Reads a scene's header, before its pixels.

The header of a 16-bit scene does not tell dark from bright counts, and that of a scene with more
than three bands does not tell transparency from near infrared, so a few pixels are read too.
"""

import math
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pyproj
from pyproj.exceptions import ProjError
from rasterio.errors import RasterioError

from quakestream.domain import Bands, Scene, Stretch, sheets_of
from quakestream.errors import SceneError, StorageError
from quakestream.raster.bands import BandReader, bands_in, resolve_bands
from quakestream.raster.datasets import is_raster, open_dataset
from quakestream.raster.lost_blocks import LostBlocks
from quakestream.raster.messages import restated
from quakestream.raster.prepare import coarse_overview
from quakestream.raster.samples import is_sampled
from quakestream.raster.source import open_scene
from quakestream.raster.stretch import measured_stretch
from quakestream.storage import StorageOptions, fingerprint, is_remote

PROBE_ROWS = 100
"""Rows of the image over which the height of a pixel is measured."""
TRUE_TO = 0.005
"""Largest relative error of a projection's metre."""


def probe(scene: Scene, options: StorageOptions) -> Scene:
    """The scene with CRS, transform, shape, GSD, version, bands and stretch from its file.

    Raises:
        SceneError: if the scene cannot be opened, does not lie on Earth, is rotated, has no
            colours of 8 or 16 bits, or nothing says which bands they are.
        StorageError: if it does not exist.
    """
    etag = fingerprint(scene.href, options)
    _refuse_remote_mask(scene.href, options)
    with open_dataset(scene.href, options) as dataset:
        try:
            check_place(dataset, scene.href)
            bands = _bands(dataset, scene)
            _check_dtype(dataset, scene.href, bands)
            gsd_m = ground_gsd_m(dataset, scene.href)
            return replace(
                scene,
                crs_wkt=dataset.crs.to_wkt(),
                transform=dataset.transform,
                shape=(dataset.height, dataset.width),
                gsd_m=gsd_m,
                etag=etag,
                bands=bands,
                notes=(*bands.notes, *_size_notes(dataset, gsd_m)),
                stretch=_stretch(dataset, replace(scene, gsd_m=gsd_m), bands, options),
            )
        except RasterioError as error:
            raise restated(SceneError, "cannot read header", scene.href, error) from error


def common_stretch(scene: Scene, options: StorageOptions) -> Stretch | None:
    """The stretch of an acquisition of 16 bits, measured over its largest sheet.

    Where that cannot be read, the stretch of its first tile.
    """
    sheet = max(sheets_of(scene), key=lambda one: len(one.parts))
    try:
        with open_scene(sheet, options) as dataset:
            bands = bands_in(dataset, sheet.bands, sheet.stated)
            return _stretch(dataset, sheet, bands, options)
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
        if not is_raster(f"{href}.msk", options):
            return
        what = "mask of the image lies in a file beside it, which is not read over the network"
        remedy = "write both into one file with gdal_translate -of COG"
        raise SceneError(what, f"{href}.msk", remedy=remedy)


def check_place(dataset: Any, href: str) -> None:
    """Refuses a raster without a georeference, or with a rotated one.

    Raises:
        SceneError: if it is so.
    """
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


def _bands(dataset: Any, scene: Scene) -> Bands:
    try:
        return resolve_bands(dataset, scene.stated)
    except SceneError as error:  # GDAL's name of what it reads through us is not the scene's
        raise type(error).of(replace(error.problem, where=scene.href)) from error


def _check_dtype(dataset: Any, href: str, bands: Bands) -> None:
    dtypes = {dataset.dtypes[band - 1] for band in bands.rgb}
    if dtypes not in ({"uint8"}, {"uint16"}):
        raise SceneError(
            "image has another dtype",
            href,
            expected="uint8 (a visual asset) or uint16",
            got=", ".join(sorted(dtypes)),
            remedy="name another asset under imagery.asset",
        )


def _stretch(dataset: Any, scene: Scene, bands: Bands, options: StorageOptions) -> Stretch | None:
    if dataset.dtypes[bands.rgb[0] - 1] == "uint8":
        return None
    try:
        lost = None if scene.tiles else LostBlocks(scene=scene, options=options)
        reader = BandReader(dataset=dataset, bands=bands, lost=lost)
        return measured_stretch(reader, scene.gsd_m or 1.0)
    except RasterioError as error:
        what, where = "cannot measure how to bring 16-bit counts to 8 bits", scene.href
        raise restated(SceneError, what, scene.id if scene.tiles else where, error) from error


def _size_notes(dataset: Any, gsd_m: float) -> list[str]:
    if is_sampled(dataset) and not coarse_overview(dataset, gsd_m):
        return [
            "too large to be read whole and without overviews: clouds, snow and collars are not "
            "masked (add overviews with gdaladdo -r average)"
        ]
    return []


def ground_gsd_m(dataset: Any, href: str) -> float:
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
