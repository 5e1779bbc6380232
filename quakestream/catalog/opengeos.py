"""Rebuilds STAC items from flattened Maxar Open Data feature collections.

The collections of `opengeos/maxar-open-data`, and tables derived from them, hold one feature
per tile of a scene. A feature has its assets as properties, and no id, links or assets. These
collections are the only public catalogue of some events.
"""

from collections.abc import Mapping
from typing import Any

from quakestream.catalog.items import Document, RawItem

_ASSETS = {
    "visual": "visual",
    "ms_analytic": "ms_analytic",
    "pan_analytic": "pan_analytic",
    "data-mask": "data-mask",
    "data_mask": "data-mask",
}
_RENAMED = {
    "clouds_cover": "tile:clouds_percent",
    "off_nadir": "view:off_nadir",
    "epsg": "proj:epsg",
    "date": "datetime",
}


def is_opengeos(feature: Document) -> bool:
    """True for a feature without id and assets that names a tile, a scene and an image."""
    properties = feature.get("properties")
    if not isinstance(properties, Mapping) or feature.get("assets"):
        return False
    names_scene = "catalog_id" in properties or "collection" in properties
    return "quadkey" in properties and names_scene and any(n in properties for n in _ASSETS)


def opengeos_item(feature: Document, base: str) -> RawItem:
    """The original item of a feature: id `quadkey_catalogid`, and the original assets."""
    flat: Document = feature["properties"]
    properties = {k: v for k, v in flat.items() if k not in _ASSETS}
    for old, new in _RENAMED.items():
        if new not in properties and old in properties:
            properties[new] = properties[old]
    assets = {
        name: {"href": flat[column]}
        for column, name in _ASSETS.items()
        if isinstance(flat.get(column), str) and flat[column]
    }
    catalog_id = flat.get("catalog_id") or flat.get("collection")
    document: dict[str, Any] = {
        "type": "Feature",
        "id": f"{_quadkey(flat)}_{catalog_id}",
        "geometry": feature.get("geometry"),
        "properties": properties,
        "assets": assets,
    }
    return RawItem(document=document, base=str(flat.get("base_url") or base))


def _quadkey(properties: Document) -> str:
    """The quadkey. Tables store it as a number; `grid:code` (MXRA-Z37-0311…) keeps the zeros."""
    code = properties.get("grid:code")
    if not isinstance(properties["quadkey"], str) and isinstance(code, str):
        return code.rpartition("-")[2]
    return str(properties["quadkey"])
