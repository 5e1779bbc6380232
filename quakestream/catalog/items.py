"""Parses one STAC item into one scene. Only fields that a scene needs can make it fail.

Items are read as plain dicts: pystac refuses whole documents for one missing href
(developmentseed/eoapi-devseed#39), and one bad item must not cost the others.
"""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from pyproj.exceptions import CRSError
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from quakestream.catalog.acquisitions import acquisition_fields
from quakestream.catalog.bands import stated_bands
from quakestream.catalog.credits import credit_of
from quakestream.catalog.extents import polygons_of, raster_outline
from quakestream.catalog.hrefs import HrefRule
from quakestream.catalog.times import AcquisitionTime, acquired_from_properties, middle
from quakestream.domain import Scene
from quakestream.errors import CatalogItemError
from quakestream.storage import is_web, resolve_href
from quakestream.tiling.antimeridian import box_of_degrees, cut_one_at_180

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawItem:
    """An item's JSON, and the base of its relative hrefs."""

    document: Document
    base: str
    rule: HrefRule | None = None
    """The rule for hrefs of its catalogue; None for an image that the run file names."""
    note: str = ""
    """An oddity found while the item was made, for items of bare images."""

    @property
    def name(self) -> str:
        """The item's id, else its base."""
        return str(self.document.get("id") or self.base)

    def place(self, href: str) -> str:
        """The place that one of its hrefs means.

        Raises:
            CatalogItemError: if the catalogue may not name it.
        """
        if self.rule is None:
            return resolve_href(self.base, href)
        return self.rule.place(self.base, href)

    @property
    def properties(self) -> Document:
        properties = self.document.get("properties")
        return properties if isinstance(properties, Mapping) else {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParsedItem:
    """A scene, and the oddities of its item."""

    scene: Scene
    acquired: AcquisitionTime
    notes: list[str] = field(default_factory=list)
    """Harmless oddities, one phrase each. The same oddity has the same phrase in every item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Georeference:
    crs_wkt: str = ""
    transform: Affine | None = None
    shape: tuple[int, int] | None = None
    bounds: tuple[float, float, float, float] | None = None
    """proj:bbox, in the CRS."""


def item_outline(raw: RawItem, asset: str) -> tuple[BaseGeometry | None, str]:
    """Ground shown by an item, EPSG:4326, and an oddity of it.

    The ground is the item's `geometry`, else its `bbox`, else the rectangle of its raster,
    else None.
    """
    value = raw.document.get("geometry")
    note = "no geometry"
    if value is not None:
        outline = _shape(value)
        if outline is not None:
            return outline, ""
        note = "geometry cannot be used"
    numbers = _numbers(raw.document.get("bbox"), (4, 6))
    if numbers is not None:
        half = len(numbers) // 2
        bbox = box_of_degrees(numbers[0], numbers[1], numbers[half], numbers[half + 1])
        return bbox, f"{note}; the bbox is used"
    rectangle = _rectangle(_georeference(raw, asset))
    if rectangle is not None:
        return rectangle, f"{note}; the rectangle of the raster is used"
    return None, note


def parse_item(raw: RawItem, asset: str, outline: BaseGeometry) -> ParsedItem:
    """The scene described by an item.

    Raises:
        CatalogItemError: if it has no id, no time, or no such asset with an href.
    """
    if not raw.document.get("id"):
        raise CatalogItemError("item has no id")
    acquired = acquired_of(raw)
    href = _href(raw, asset)
    georeference = _georeference(raw, asset)
    cloud = _number(raw.properties.get("eo:cloud_cover"))
    if cloud is None:
        cloud = _number(raw.properties.get("tile:clouds_percent"))
    notes = [note for note in (raw.note, acquired.note) if note]
    if not georeference.crs_wkt or georeference.transform is None or georeference.shape is None:
        notes.append("projection fields are incomplete; the file's header is used")
    credit, licence = credit_of(raw.document, _asset(raw, asset))
    platform, acquisition = acquisition_fields(raw.properties)
    scene = Scene(
        id=str(raw.document["id"]),
        href=href,
        alternates=_alternates(raw, asset, href),
        datetime=middle(acquired),
        outline=outline,
        cloud_cover=cloud,
        off_nadir_deg=_number(raw.properties.get("view:off_nadir")),
        crs_wkt=georeference.crs_wkt,
        transform=georeference.transform,
        shape=georeference.shape,
        gsd_m=_gsd_m(_asset(raw, asset), raw.properties, georeference),
        stated=stated_bands(_asset(raw, asset), raw.properties),
        credit=credit,
        licence=licence,
        span_s=(acquired.end - acquired.start).total_seconds(),
        platform=platform,
        acquisition=acquisition,
    )
    return ParsedItem(scene=scene, acquired=acquired, notes=notes)


def acquired_of(raw: RawItem) -> AcquisitionTime:
    """Time of acquisition of an item.

    Raises:
        CatalogItemError: if it has none.
    """
    return acquired_from_properties(raw.properties)


def places_of(raw: RawItem) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Href and other places of each asset; those that the catalogue may not name are left out."""
    assets = raw.document.get("assets")
    places = {}
    for name in assets if isinstance(assets, Mapping) else ():
        with suppress(CatalogItemError):
            href = _href(raw, name)
            places[str(name)] = (href, _alternates(raw, name, href))
    return places


def first_asset(raw: RawItem, names: Sequence[str]) -> str:
    """The first of several assets that the item has; the first name where it has none."""
    return next((name for name in names if _asset(raw, name)), names[0])


def _asset(raw: RawItem, name: str) -> Document:
    assets = raw.document.get("assets")
    asset = assets.get(name) if isinstance(assets, Mapping) else None
    return asset if isinstance(asset, Mapping) else {}


def _href(raw: RawItem, name: str) -> str:
    assets = raw.document.get("assets")
    if not isinstance(assets, Mapping) or name not in assets:
        known = ", ".join(sorted(assets)) if isinstance(assets, Mapping) and assets else "none"
        raise CatalogItemError(
            f"item has no asset {name!r}",
            got=f"assets {known}",
            remedy="set imagery.asset to one of them",
        )
    href = _asset(raw, name).get("href")
    if not isinstance(href, str) or not href.strip():
        usable = [key for key in sorted(assets) if _asset(raw, key).get("href")]
        others = ", ".join(usable) or "none"
        raise CatalogItemError(f"asset {name!r} has no href", got=f"assets with an href: {others}")
    return raw.place(href.strip())


def _alternates(raw: RawItem, name: str, href: str) -> tuple[str, ...]:
    """Other places of an asset's file (the alternate-assets extension), the web's first.

    Those that the catalogue may not name are left out.
    """
    named = _asset(raw, name).get("alternate")
    places = []
    for other in named.values() if isinstance(named, Mapping) else []:
        value = other.get("href") if isinstance(other, Mapping) else None
        if not isinstance(value, str) or not value.strip():
            continue
        with suppress(CatalogItemError):
            places.append(raw.place(value.strip()))
    places.sort(key=lambda place: not is_web(place))
    return tuple(place for place in dict.fromkeys(places) if place != href)


def _shape(value: Any) -> BaseGeometry | None:
    try:
        geometry = shapely.force_2d(shape(value))
        if geometry.is_empty or not np.isfinite(shapely.get_coordinates(geometry)).all():
            return None
        outline = polygons_of(shapely.make_valid(cut_one_at_180(geometry)))
    except (shapely.GEOSException, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    return None if outline.is_empty else outline


def _georeference(raw: RawItem, asset: str) -> _Georeference:
    """Projection fields of the asset, else of the item. Malformed fields count as missing."""
    own = _asset(raw, asset)

    def get(name: str) -> Any:
        key = f"proj:{name}"
        return own[key] if key in own else raw.properties.get(key)

    size = _numbers(get("shape"), (2,))
    matrix = _numbers(get("transform"), (6, 9))
    bounds = _numbers(get("bbox"), (4, 6))
    if bounds is not None and len(bounds) == 6:
        bounds = [bounds[0], bounds[1], bounds[3], bounds[4]]
    return _Georeference(
        crs_wkt=_crs_wkt(get("code"), get("epsg"), get("wkt2"), get("projjson")),
        transform=None if matrix is None else Affine(*matrix[:6]),
        shape=None if size is None else (int(size[0]), int(size[1])),
        bounds=None if bounds is None else (bounds[0], bounds[1], bounds[2], bounds[3]),
    )


def _crs_wkt(*candidates: Any) -> str:
    for value in candidates:
        if isinstance(value, Mapping):
            value = json.dumps(value)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            wkt = _known_wkt(value)
            if wkt:
                return wkt
    return ""


@lru_cache(maxsize=256)
def _known_wkt(value: str | int) -> str:
    """WKT of a code or definition, empty where it is invalid. Many items share a few of them."""
    try:
        return str(pyproj.CRS.from_user_input(value).to_wkt())
    except CRSError:
        return ""


def _rectangle(georeference: _Georeference) -> BaseGeometry | None:
    wkt, affine, size = georeference.crs_wkt, georeference.transform, georeference.shape
    if not wkt:
        return None
    if affine is not None and size is not None:
        outline = raster_outline(wkt, tuple(affine)[:6], *size)
    elif georeference.bounds is not None:
        west, south, east, north = georeference.bounds
        whole = (east - west, 0.0, west, 0.0, south - north, north)
        outline = raster_outline(wkt, whole, 1, 1)
    else:
        return None
    finite = np.isfinite(shapely.get_coordinates(outline)).all()
    return outline if finite and not outline.is_empty else None


def _pixel_m(georeference: _Georeference) -> float | None:
    if georeference.transform is None or not georeference.crs_wkt:
        return None
    crs = pyproj.CRS.from_wkt(georeference.crs_wkt)
    if not crs.is_projected:
        return None
    metres = float(crs.axis_info[0].unit_conversion_factor)
    return math.sqrt(abs(georeference.transform.determinant)) * metres


def _gsd_m(asset: Document, properties: Document, georeference: _Georeference) -> float | None:
    """Size of a pixel: `gsd`, else that of the raster, else `pan_gsd`.

    Vantor's items have the last alone. Their colour images are sharpened to the pixels of the
    panchromatic band.
    """
    of_pixels, of_pan = (_number(asset.get(key, properties.get(key))) for key in ("gsd", "pan_gsd"))
    sizes = of_pixels, _pixel_m(georeference), of_pan
    return next((size for size in sizes if size is not None and size > 0), None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _numbers(value: Any, lengths: tuple[int, ...]) -> list[float] | None:
    if isinstance(value, str):
        value = value.split(",")  # some tools flatten arrays into text
    if not isinstance(value, (list, tuple)) or len(value) not in lengths:
        return None
    numbers = [_number(v) for v in value]
    finite = [n for n in numbers if n is not None]
    return finite if len(finite) == len(numbers) else None
