"""Writes a static STAC catalogue of bare GeoTIFFs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quakestream.catalog.images import image_item, image_name
from quakestream.catalog.items import RawItem
from quakestream.catalog.times import AcquisitionTime
from quakestream.domain import Issue
from quakestream.errors import CatalogItemError, RequestError
from quakestream.storage import (
    StorageOptions,
    Store,
    open_store,
    protocol_of,
    relative_href,
)
from quakestream.storage.uris import local_path

STAC_VERSION = "1.1.0"
_FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
_SHA256_MULTIHASH = "1220"
"""Multihash prefix: sha2-256 (0x12), 32 bytes (0x20)."""
_CHUNK_BYTES = 1 << 22
_READERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenCatalogue:
    """A catalogue that was written, and the images it lacks."""

    path: str
    """Path or URI of `catalog.json`."""
    item_ids: tuple[str, ...]
    issues: tuple[Issue, ...]
    """Images that were left out (`kind` item), and rows of `times` without an image."""
    notes: tuple[str, ...]


def write_catalogue(
    images: Sequence[str],
    out_dir: str,
    times: Mapping[str, AcquisitionTime] | None = None,
    options: StorageOptions | None = None,
) -> WrittenCatalogue:
    """Writes `catalog.json` and one item per image. The images stay in place.

    Hrefs are relative where image and catalogue lie in one store. Items use the projection, eo
    and file extensions. Only images on this machine get a checksum, which needs every byte.

    Args:
        images: paths or URIs of rasters with a georeference.
        out_dir: folder or prefix; created if missing.
        times: by path, URI or file name; wins over the tag and the file name.
        options: how to reach images and `out_dir`.

    Raises:
        RequestError: if no image can be used.
        StorageError: if the catalogue cannot be written.
    """
    storage = options or StorageOptions()
    times = dict(times or {})
    used: set[str] = set()
    work = [(image, _time_of(image, times, used)) for image in dict.fromkeys(images)]
    with ThreadPoolExecutor(_READERS) as pool:
        results = list(pool.map(lambda pair: _read(pair[0], pair[1], storage), work))
    issues = [result for result in results if isinstance(result, Issue)]
    items = [result for result in results if isinstance(result, RawItem)]
    if not items:
        causes = "; ".join(f"{i.subject}: {i.cause}" for i in issues[:3])
        raise RequestError("none of the images can be put into a catalogue", got=causes)
    for name in sorted(set(times) - used):
        cause = "listed in --times, but is none of the images"
        issues.append(Issue(subject=name, kind="item", cause=cause))
    ids = _distinct_ids([str(item.document["id"]) for item in items])
    store = open_store(out_dir, storage)
    for item, item_id in zip(items, ids, strict=True):
        _put(store, f"{item_id}/{item_id}.json", _linked(item, item_id, store))
    _put(store, "catalog.json", _catalogue(ids))
    notes = [f"{i}: {item.note}" for i, item in zip(ids, items, strict=True) if item.note]
    return WrittenCatalogue(
        path=store.uri_of("catalog.json"),
        item_ids=tuple(ids),
        issues=tuple(issues),
        notes=tuple(notes),
    )


def _time_of(
    image: str, times: Mapping[str, AcquisitionTime], used: set[str]
) -> AcquisitionTime | None:
    for name in (image, image_name(image)):
        if name in times:
            used.add(name)
            return times[name]
    return None


def _read(image: str, time: AcquisitionTime | None, options: StorageOptions) -> RawItem | Issue:
    try:
        item = image_item(image, options, time=time)
    except CatalogItemError as error:
        return Issue.of_error(error, image, "item")
    if protocol_of(image) == "file":
        document: dict[str, Any] = dict(item.document)
        document["stac_extensions"] = [*document["stac_extensions"], _FILE]
        for asset in document["assets"].values():
            asset |= _file_fields(Path(local_path(image)))
        return RawItem(document=document, base=item.base, note=item.note)
    return item


def _file_fields(path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return {"file:size": size, "file:checksum": _SHA256_MULTIHASH + digest.hexdigest()}


def _distinct_ids(names: list[str]) -> list[str]:
    """The names in order; the second of a repeated name becomes `NAME-2`, and so on."""
    names_used = set(names)
    assigned: set[str] = set()
    ids = []
    for name in names:
        unique, number = name, 2
        while unique in assigned or (unique != name and unique in names_used):
            unique, number = f"{name}-{number}", number + 1
        assigned.add(unique)
        ids.append(unique)
    return ids


def _linked(item: RawItem, item_id: str, store: Store) -> dict[str, Any]:
    here = store.uri_of(f"{item_id}/{item_id}.json")
    document: dict[str, Any] = {**item.document, "id": item_id}
    document["assets"] = {
        name: {**asset, "href": relative_href(here, asset["href"])}
        for name, asset in document["assets"].items()
    }
    document["links"] = [
        {"rel": rel, "href": "../catalog.json", "type": "application/json"}
        for rel in ("root", "parent")
    ]
    return document


def _catalogue(ids: Sequence[str]) -> dict[str, Any]:
    items = [
        {"rel": "item", "href": f"./{i}/{i}.json", "type": "application/geo+json", "title": i}
        for i in ids
    ]
    number = "1 image" if len(ids) == 1 else f"{len(ids)} images"
    return {
        "type": "Catalog",
        "id": "images",
        "stac_version": STAC_VERSION,
        "description": f"{number}, described from their headers",
        "links": [
            {"rel": "root", "href": "./catalog.json", "type": "application/json"},
            *items,
        ],
    }


def _put(store: Store, key: str, document: Mapping[str, Any]) -> None:
    store.put(key, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
