"""The files behind an elevation model: rasters, Zarr arrays, STAC items, or tiles of one model."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from quakestream.config.elevation import DemSource
from quakestream.errors import HazardError, QuakestreamError
from quakestream.hazard.layers import open_layer
from quakestream.hazard.tiled_layers import OpenLayer, tiled
from quakestream.hazard.vertical_units import metres_per_unit
from quakestream.hazard.zarr_rasters import is_zarr
from quakestream.storage import (
    StorageOptions,
    fingerprint,
    is_remote,
    is_web,
    protocol_of,
    read_bytes,
)
from quakestream.storage.filesystems import filesystem
from quakestream.storage.limits import DOCUMENT
from quakestream.storage.uris import local_path, resolve_href

ASSETS = ("data", "elevation", "dem", "DEM", "height")
"""Assets of elevations, in the words of catalogues; the first that an item has is read."""
ITEM_SUFFIXES = (".json", ".geojson")
ZARR_METADATA = "zarr.json"


@contextmanager
def open_dem_files(text: str, options: StorageOptions) -> Iterator[tuple[OpenLayer, float]]:
    """The raster of an elevation model, and the metres of one unit of its elevations.

    Args:
        text: of a `DemSource`.
        options: endpoints of the stores that hold the files.

    Raises:
        HazardError: if a file cannot be used, or tiles do not fit together.
        StorageError: if one cannot be fetched.
    """
    source = DemSource.of(text)
    rasters = dem_rasters(source, options)
    with ExitStack() as stack:
        array = source.asset if len(source.places) == 1 else None
        layers = [stack.enter_context(open_layer(one, options, array=array)) for one in rasters]
        units = {
            metres_per_unit(one.dataset, one.frame.crs, one.uri, source.unit): one.uri
            for one in layers
        }
        if len(units) > 1:
            raise HazardError(
                "tiles of the DEM are in several units", text, got=", ".join(units.values())
            )
        layer = layers[0] if len(layers) == 1 else tiled(layers, text)
        yield layer, next(iter(units))


def dem_rasters(source: DemSource, options: StorageOptions) -> tuple[str, ...]:
    """Places of the rasters of a source; items are read and give theirs.

    Raises:
        HazardError: if a document is no STAC item, or an item has no asset of elevations.
        StorageError: if one cannot be fetched.
    """
    found: list[str] = []
    for place in source.places:
        if is_zarr(place) or not place.lower().endswith(ITEM_SUFFIXES):
            found.append(place)
            continue
        for item in _items(read_bytes(place, options, DOCUMENT), place):
            found.append(_asset(item, place, source.asset))
    return tuple(dict.fromkeys(found))


def dem_version(text: str, options: StorageOptions) -> str:
    """Identifies the version of the files of a source; that of one raster is its fingerprint.

    Raises:
        HazardError: if a document is no STAC item.
        StorageError: if a store does not say.
    """
    source = DemSource.of(text)
    documents = [p for p in source.places if p.lower().endswith(ITEM_SUFFIXES)]
    names = (*dem_rasters(source, options), *documents)
    versions = [_version(name, options) for name in names]
    if names == (text,):
        return versions[0]
    more = [source.asset or "", source.unit or ""]
    return hashlib.sha256("|".join([*versions, *more]).encode()).hexdigest()[:32]


def _version(place: str, options: StorageOptions) -> str:
    if not is_zarr(place):
        return fingerprint(place, options)
    if is_web(place):  # its objects cannot be listed: the metadata stand for all
        return fingerprint(f"{place.rstrip('/')}/{ZARR_METADATA}", options)
    digest = hashlib.sha256()
    for name, facts in sorted(_objects(place, options)):
        digest.update(f"{name} {facts}\n".encode())
    return digest.hexdigest()[:32]


def _objects(place: str, options: StorageOptions) -> Iterator[tuple[str, str]]:
    """Objects under a prefix, each with its size and version."""
    if protocol_of(place) == "file":
        for folder, _, names in os.walk(local_path(place)):
            for name in names:
                path = os.path.join(folder, name)
                stat = os.stat(path)
                yield path, f"{stat.st_size}-{stat.st_mtime_ns}"
        return
    fs, path = filesystem(place, options)
    for name, info in fs.find(path, detail=True).items():
        yield name, f"{info.get('size')}-{info.get('ETag') or info.get('LastModified') or ''}"


def _items(data: bytes, uri: str) -> list[Mapping[str, Any]]:
    """The items of a STAC item or item collection."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        content = None
    kind = content.get("type") if isinstance(content, Mapping) else None
    features = content.get("features", []) if kind == "FeatureCollection" else [content]
    items = [f for f in features if isinstance(f, Mapping) and isinstance(f.get("assets"), Mapping)]
    if kind not in ("Feature", "FeatureCollection") or not items:
        raise HazardError(
            "names no elevation raster",
            uri,
            expected="a STAC item or item collection",
            got=f"JSON of type {kind}" if kind else "no STAC",
            remedy="give the items that cover the AOI, or the raster itself",
        )
    return items


def _asset(item: Mapping[str, Any], uri: str, name: str | None) -> str:
    """Place of the raster of an item."""
    href = resolve_href(uri, asset_href(item, uri, name))
    if is_remote(uri) and not is_remote(href):
        raise HazardError(
            f"item {item.get('id')} of a server names a file of this machine", uri, got=href
        )
    return href


def asset_href(item: Mapping[str, Any], uri: str, name: str | None) -> str:
    """The href of an item's elevations, as it stands in the item.

    Args:
        item: a STAC item.
        uri: its document, for errors.
        name: the asset; None: the one of elevations, or the only one of role `data`.

    Raises:
        HazardError: if it has no such asset.
    """
    found = item.get("assets")
    assets: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    usable: dict[str, str] = {key: one["href"] for key, one in assets.items() if _has_href(one)}
    data = [key for key in usable if "data" in _roles(assets[key])]
    wanted: Iterable[str] = (name,) if name else (*ASSETS, *(data if len(data) == 1 else ()))
    chosen = next((key for key in wanted if key in usable), None)
    if chosen is None:
        raise HazardError(
            f"item {item.get('id')} has no asset {name or 'of elevations'}",
            uri,
            expected=name or f"one of {', '.join(ASSETS)}",
            got=", ".join(usable) or "no asset with an href",
            remedy="name the asset with terrain.asset",
        )
    return usable[chosen]


def _has_href(asset: Any) -> bool:
    return isinstance(asset, Mapping) and isinstance(asset.get("href"), str)


def _roles(asset: Mapping[str, Any]) -> list[str]:
    roles = asset.get("roles")
    return [str(role) for role in roles] if isinstance(roles, list) else []


def try_version(text: str, options: StorageOptions) -> str:
    """`dem_version`, or nothing where it cannot be told: opening the files says why."""
    try:
        return dem_version(text, options)
    except (QuakestreamError, OSError):
        return ""
