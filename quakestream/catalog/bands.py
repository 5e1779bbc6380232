"""What a STAC item says of the bands of an asset: their order and the count of missing ground.

STAC 1.1 has `bands` with `eo:` and `nodata` fields, at the asset or the item; STAC 1.0 has
`eo:bands` and `raster:bands`; STAC 0.9 lists numbers of the item's `eo:bands`.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from quakestream.domain.bands import StatedBands, band_names, rgb_of

Document = Mapping[str, Any]
_TEXTS = ("eo:common_name", "common_name", "name", "description")
_WAVES = ("eo:center_wavelength", "center_wavelength")


def stated_bands(asset: Document, properties: Document) -> StatedBands:
    """The bands of an asset, from its own fields, else from those of its item."""
    return StatedBands(names=_names(asset, properties), nodata=_nodata(asset, properties))


def band_fields(asset: Document, properties: Document) -> list[Document]:
    """What is said of each band of an asset, by all fields together; empty where nothing is."""
    lists = (list(_bands(asset.get(key), properties)) for key in ("bands", "eo:bands"))
    named: list[Document] = next(filter(None, lists), [])
    raster = asset.get("raster:bands")
    measured: list[Document] = []
    if isinstance(raster, list):
        measured = [band if isinstance(band, Mapping) else {} for band in raster]
    nothing: Document = {}
    pairs = zip_longest(measured, named, fillvalue=nothing)
    return [{**one, **other} for one, other in pairs]


def _names(asset: Document, properties: Document) -> tuple[str, ...]:
    for holder in (asset, properties):
        for key in ("bands", "eo:bands"):
            bands = list(_bands(holder.get(key), properties))
            names = band_names([(_texts(band), _wave(band)) for band in bands])
            # the item's own list names the bands of all its assets
            if any(names) if holder is asset else rgb_of(names):
                return names
    return ()


def _bands(value: Any, properties: Document) -> Iterator[Document]:
    """Bands of a list, completed by the item's bands of the same name or number."""
    if not isinstance(value, list):
        return
    of_item = [
        band
        for key in ("bands", "eo:bands")
        if isinstance(bands := properties.get(key), list)
        for band in bands
        if isinstance(band, Mapping)
    ]
    by_name = {str(band["name"]): band for band in of_item if band.get("name")}
    for band in value:
        if isinstance(band, Mapping):
            yield {**by_name.get(str(band.get("name")), {}), **band}
        elif isinstance(band, int) and not isinstance(band, bool) and 0 <= band < len(of_item):
            yield of_item[band]
        elif isinstance(band, str):
            yield {**by_name.get(band, {}), "name": band}
        else:
            yield {}


def _texts(band: Document) -> list[str]:
    return [text for key in _TEXTS if isinstance(text := band.get(key), str)]


def _wave(band: Document) -> float | None:
    for key in _WAVES:
        um = number_of(band.get(key))
        if um is not None and math.isfinite(um) and um > 0:
            return um
    return None


def _nodata(asset: Document, properties: Document) -> tuple[float | None, ...]:
    """Nodata of each band, or one value for all; empty where the item states none."""
    for holder in (asset, properties):
        for key in ("bands", "raster:bands"):
            bands = holder.get(key)
            if isinstance(bands, list):
                stated = [_of_band(band) for band in bands]
                if any(value is not None for value in stated):
                    return tuple(stated)
        for key in ("nodata", "raster:nodata"):
            value = number_of(holder.get(key))
            if value is not None:
                return (value,)
    return ()


def _of_band(band: Any) -> float | None:
    if not isinstance(band, Mapping):
        return None
    value = number_of(band.get("nodata"))
    return number_of(band.get("raster:nodata")) if value is None else value


def number_of(value: Any) -> float | None:
    """A number, also written as text: STAC has `"nan"` and `"-inf"`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
