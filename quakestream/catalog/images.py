"""STAC items of bare images: place from the header, time from a tag or the file name."""

import datetime as dt
import posixpath
import warnings
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyproj
import shapely
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from quakestream.catalog.extents import raster_outline
from quakestream.catalog.items import RawItem
from quakestream.catalog.times import AcquisitionTime, acquired_from_name, acquired_from_tiff
from quakestream.errors import CatalogItemError, InputError, SceneError
from quakestream.raster.bands import named_bands
from quakestream.raster.datasets import open_dataset
from quakestream.raster.messages import root_cause
from quakestream.storage import StorageOptions, protocol_of
from quakestream.tiling.antimeridian import bounds_of

IMAGE_SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".jpg", ".jpeg", ".png", ".img", ".ntf")
TIMES_REMEDY = (
    "make a catalogue: quakestream catalog *.tif --times FILE.csv -o stac (columns file,datetime)"
)
_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_EO = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"


def is_image(uri: str) -> bool:
    """True for the names of rasters, False for those of catalogue documents."""
    return image_name(uri).lower().endswith(IMAGE_SUFFIXES)


def image_name(uri: str) -> str:
    """File name of a URI or path."""
    path = uri if protocol_of(uri) == "file" else unquote(urlsplit(uri).path)
    return posixpath.basename(path.replace("\\", "/"))


def image_item(
    uri: str,
    options: StorageOptions,
    asset: str | None = None,
    time: AcquisitionTime | None = None,
) -> RawItem:
    """A STAC 1.1 item for an image, with projection and eo fields and no links.

    Args:
        uri: the image; it becomes the asset's href unchanged.
        options: how to reach it.
        asset: name of the asset; None: `visual` for 8-bit colour, else `data`.
        time: time of acquisition; None: from the file.

    Raises:
        CatalogItemError: if it cannot be opened, has no georeference or no date.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with open_dataset(uri, options) as dataset:
                return _item(dataset, uri, asset, time)
    except (RasterioError, OSError) as error:
        raise CatalogItemError("cannot read the header", got=root_cause(error)) from error
    except CatalogItemError:
        raise
    except InputError as error:
        raise CatalogItemError.of(replace(error.problem, where="")) from error


def _item(dataset: Any, uri: str, asset: str | None, time: AcquisitionTime | None) -> RawItem:
    outline = _outline(dataset)
    acquired, note = _time_of(uri, dataset.tags().get("TIFFTAG_DATETIME", ""), time)
    name = image_name(uri)
    properties: dict[str, Any] = _datetimes(acquired)
    gsd = _gsd_m(dataset)
    if gsd is not None:
        properties["gsd"] = gsd
    properties |= _projection(dataset)
    colour = dataset.count >= 3 and set(dataset.dtypes[:3]) == {"uint8"}
    key = asset or ("visual" if colour else "data")
    document = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [_PROJECTION, _EO],
        "id": name.rpartition(".")[0] or name,
        "geometry": _rounded(shapely.geometry.mapping(outline)),
        "bbox": [round(v, 7) for v in bounds_of(outline)],
        "properties": properties,
        "links": [],
        "assets": {
            key: {
                "href": uri,
                "title": name,
                "type": _media_type(dataset),
                "roles": ["visual", "data"] if key == "visual" else ["data"],
                "bands": _bands(dataset),
            }
        },
    }
    return RawItem(document=document, base=uri, note=note)


def _outline(dataset: Any) -> Any:
    if dataset.crs is None:
        raise CatalogItemError(
            "image has no georeference",
            expected="a CRS",
            got="ground control points only" if dataset.gcps[0] else "no CRS",
            remedy="warp it to a CRS with gdalwarp",
        )
    if dataset.transform.is_identity:
        raise CatalogItemError(
            "image has no georeference",
            expected="a transform",
            got="none",
            remedy="set one with gdal_translate -a_ullr",
        )
    try:
        outline = raster_outline(
            dataset.crs.to_wkt(), tuple(dataset.transform)[:6], dataset.height, dataset.width
        )
    except pyproj.exceptions.ProjError as error:
        raise CatalogItemError("CRS is not on Earth", got=str(dataset.crs)) from error
    west, south, east, north = outline.bounds if not outline.is_empty else [np.nan] * 4
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise CatalogItemError("image lies outside the Earth", got=f"CRS {dataset.crs}")
    return outline


def _time_of(uri: str, tag: str, time: AcquisitionTime | None) -> tuple[AcquisitionTime, str]:
    if time is not None:
        return time, ""
    from_tag = acquired_from_tiff(tag)
    try:
        from_name = acquired_from_name(image_name(uri))
    except CatalogItemError as error:
        if from_tag is None:
            raise CatalogItemError.of(replace(error.problem, remedy=TIMES_REMEDY)) from None
        from_name = None
    if from_name is None:
        if from_tag is None:
            raise CatalogItemError(
                "image has no date",
                expected="TIFFTAG_DATETIME, or YYYYMMDD or YYYY-MM-DD in the file name",
                remedy=TIMES_REMEDY,
            )
        return from_tag, ""
    if from_tag is None:
        return from_name, ""
    day = dt.timedelta(days=1)
    if from_name.start - day <= from_tag.start <= from_name.end + day:
        return from_tag, ""
    # Software that rewrites a TIFF stamps the day of writing; people choose the name.
    return from_name, f"TIFFTAG_DATETIME {tag} contradicts the date in the name; the name is used"


def _datetimes(acquired: AcquisitionTime) -> dict[str, Any]:
    start, end = (
        t.isoformat(timespec="microseconds" if t.microsecond else "seconds").replace("+00:00", "Z")
        for t in (acquired.start, acquired.end)
    )
    if start == end:
        return {"datetime": start}
    return {"datetime": None, "start_datetime": start, "end_datetime": end}


def _projection(dataset: Any) -> dict[str, Any]:
    epsg = dataset.crs.to_epsg()
    return {
        "proj:code": None if epsg is None else f"EPSG:{epsg}",
        **({} if epsg is not None else {"proj:wkt2": dataset.crs.to_wkt()}),
        "proj:shape": [dataset.height, dataset.width],
        "proj:transform": [float(v) for v in tuple(dataset.transform)[:6]],
        "proj:bbox": [float(v) for v in dataset.bounds],
    }


def _gsd_m(dataset: Any) -> float | None:
    """Side of a pixel on the ground, metres; None where the CRS is in degrees."""
    crs = pyproj.CRS.from_wkt(dataset.crs.to_wkt())
    if not crs.is_projected:
        return None
    metres = float(crs.axis_info[0].unit_conversion_factor)
    return float(round(np.sqrt(abs(dataset.transform.determinant)) * metres, 6))


def _media_type(dataset: Any) -> str:
    if dataset.driver == "GTiff":
        cog = dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        return "image/tiff; application=geotiff" + ("; profile=cloud-optimized" if cog else "")
    known = {"JP2OpenJPEG": "image/jp2", "JPEG": "image/jpeg", "PNG": "image/png"}
    return known.get(dataset.driver, "application/octet-stream")


def _bands(dataset: Any) -> list[dict[str, Any]]:
    """The bands, with the common names that the file gives beyond doubt."""
    names: tuple[str, ...] = ("",) * dataset.count
    with suppress(SceneError, RasterioError):  # one band, or nothing tells the order
        names = named_bands(dataset)
    bands = []
    for index, (name, dtype) in enumerate(zip(names, dataset.dtypes, strict=True), start=1):
        band: dict[str, Any] = {"name": f"B{index}", "data_type": dtype}
        if name == "alpha":
            band["description"] = name
        elif name and " " not in name:
            band["eo:common_name"] = name
        if dataset.nodata is not None and np.isfinite(dataset.nodata):
            band["nodata"] = dataset.nodata
        bands.append(band)
    return bands


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(v) for v in value]
    return round(value, 7) if isinstance(value, float) else value
