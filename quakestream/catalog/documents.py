"""Reads items from static catalogues, item collections, NDJSON and stac-geoparquet."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from quakestream.catalog.credits import with_terms
from quakestream.catalog.hrefs import HrefRule
from quakestream.catalog.items import Document, RawItem
from quakestream.catalog.opengeos import is_opengeos, opengeos_item
from quakestream.catalog.parsing import kind_of_text, parse_json, unpacked
from quakestream.domain import Issue
from quakestream.errors import (
    CatalogItemError,
    ConfigError,
    MissingExtraError,
    QuakestreamError,
    StorageError,
)
from quakestream.storage import MissingObjectError, StorageOptions, is_remote, read_bytes
from quakestream.storage.limits import (
    CATALOGUE_BYTES,
    CATALOGUE_DOCUMENTS,
    CATALOGUE_ITEMS,
    DOCUMENT,
)
from quakestream.storage.uris import local_path

NOT_STAC = "not a STAC document"
_FOLLOWED = ("child", "item", "items", "next")
_READERS = 16
"""Documents fetched at once. A static catalogue on an object store is many small objects."""


@dataclass(slots=True)
class Harvest:
    """Items and issues collected from catalogue documents."""

    items: list[RawItem] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    collections: dict[str, Document] = field(default_factory=dict)
    """Collections by id: licences and providers stand there, not in their items."""
    notes: list[str] = field(default_factory=list)
    """What was noticed of the catalogue as a whole."""
    rule: HrefRule = field(default_factory=lambda: HrefRule(root=""))
    bytes_read: int = 0
    of_service: bool = False
    """A service was asked for some ground and times, and has other items."""
    is_cut: bool = False
    """A service has more than the page that was read."""

    def extend(self, other: "Harvest") -> None:
        """Adds what another catalogue gave."""
        self.items.extend(other.items)
        self.issues.extend(other.issues)
        self.notes.extend(other.notes)
        self.of_service |= other.of_service
        self.is_cut |= other.is_cut

    def within_limits(self, places: list[str], documents: int, uri: str) -> list[str]:
        """The places that are still read; a note says why others are not."""
        most = max(CATALOGUE_DOCUMENTS - documents, 0)
        if self.bytes_read > CATALOGUE_BYTES or len(self.items) > CATALOGUE_ITEMS:
            most = 0
        if len(places) > most:
            self.issue(
                uri,
                f"catalogue is too large: {len(places) - most:,} of its documents are not read "
                f"(limits: {CATALOGUE_DOCUMENTS:,} documents, {CATALOGUE_BYTES:,} bytes, "
                f"{CATALOGUE_ITEMS:,} items)",
            )
        return places[:most]

    def with_terms(self) -> "Harvest":
        """Gives each item the licence and the providers of its collection."""
        for position, item in enumerate(self.items):
            collection = self.collections.get(str(item.document.get("collection")))
            if collection is not None:
                document = with_terms(item.document, collection)
                self.items[position] = replace(item, document=document)
        return self

    def issue(self, subject: str, cause: object, retryable: bool = False) -> None:
        self.issues.append(
            Issue(subject=subject, kind="item", cause=str(cause), retryable=retryable)
        )


def read_root(uri: str, options: StorageOptions, key: str = "imagery.catalog") -> list[Document]:
    """The documents at a URI: one JSON document, or the items of NDJSON or GeoParquet.

    A line of NDJSON that cannot be read becomes `{"broken": cause}`.

    Raises:
        ConfigError: if it is missing or has another format.
        StorageError: if the store fails for another reason.
    """
    if not is_remote(uri) and os.path.isdir(local_path(uri)):
        raise _is_folder(uri)
    try:
        return parse_documents(read_bytes(uri, options, DOCUMENT), uri)
    except (MissingObjectError, CatalogItemError) as error:
        problem = error.problem
        raise ConfigError.of(replace(problem, where=f"{key} {problem.where or uri}")) from error


def _is_folder(uri: str) -> ConfigError:
    inside = [n for n in ("catalog.json", "collection.json") if os.path.isfile(f"{uri}/{n}")]
    make = f"`quakestream catalog {uri} -o catalog/` makes a catalogue of the images in it"
    return ConfigError(
        "a folder is no catalogue",
        f"imagery.catalog {uri}",
        expected="a catalogue, items or images",
        got="a folder",
        remedy=f"name {uri.rstrip('/')}/{inside[0]}" if inside else make,
    )


def parse_documents(data: bytes, uri: str) -> list[Document]:
    """The JSON documents of an object.

    Raises:
        CatalogItemError: if it is not JSON, NDJSON or stac-geoparquet.
    """
    data = unpacked(data, uri)
    if data[:4] == b"PAR1":
        return _from_parquet(data, uri)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CatalogItemError(NOT_STAC, uri, "JSON in UTF-8", "other bytes") from error
    try:
        whole = parse_json(text)
    except ValueError as error:
        return _from_lines(text, uri, error)
    return [whole] if isinstance(whole, dict) else _objects(whole, uri)


def collect(
    documents: Iterable[Document], uri: str, options: StorageOptions, rule: HrefRule | None = None
) -> Harvest:
    """All items below the given documents; each document is read once, breadth first.

    A document below the root that cannot be read becomes an issue under its URI, and so do the
    links beyond the largest number of documents, bytes or items of a catalogue.
    """
    harvest = Harvest(rule=rule or HrefRule(root=uri, options=options))
    visited = {uri}
    queue: list[str] = []
    for document in documents:
        queue.extend(_take(document, uri, harvest))
    with ThreadPoolExecutor(_READERS) as pool:
        while queue:
            level = [place for place in dict.fromkeys(queue) if place not in visited]
            level = harvest.within_limits(level, len(visited), uri)
            visited.update(level)
            queue = []
            for place, result in zip(level, pool.map(_reader(options), level), strict=True):
                if isinstance(result, QuakestreamError):
                    harvest.issue(place, result, not isinstance(result, FileNotFoundError))
                    continue
                documents, size = result
                harvest.bytes_read += size
                for document in documents:
                    queue.extend(_take(document, place, harvest))
    return harvest.with_terms()


def _reader(options: StorageOptions) -> Callable[[str], tuple[list[Document], int] | Any]:
    def read(uri: str) -> tuple[list[Document], int] | QuakestreamError:
        try:
            data = read_bytes(uri, options, DOCUMENT)
            return parse_documents(data, uri), len(data)
        except (StorageError, CatalogItemError, MissingExtraError) as error:
            return error

    return read


def _take(document: Document, uri: str, harvest: Harvest) -> list[str]:
    """Adds a document's own items to the harvest and returns the URIs its links point to."""
    if "broken" in document:
        harvest.issue(uri, document["broken"])
        return []
    kind = document.get("type")
    if kind == "Collection":
        harvest.collections[str(document.get("id"))] = document
    if kind == "Feature":
        harvest.items.append(_item(document, uri, harvest.rule, alone=True))
        return []
    features = document.get("features")
    if kind == "FeatureCollection" or isinstance(features, list):
        for position, feature in enumerate(features if isinstance(features, list) else []):
            if isinstance(feature, Mapping):
                harvest.items.append(_item(feature, uri, harvest.rule, alone=False))
            else:
                harvest.issue(uri, f"feature {position} is not a JSON object")
    elif kind not in ("Catalog", "Collection") and "stac_version" not in document:
        harvest.issue(uri, f"{NOT_STAC}: {_what_else(document)}")
        return []
    places = []
    for href in _links(document, uri, harvest):
        try:
            places.append(harvest.rule.place(uri, href))
        except CatalogItemError as error:
            harvest.issue(uri, error)
    return places


def _what_else(document: Document) -> str:
    for key, name in (("mosaicjson", "a MosaicJSON"), ("tilejson", "a TileJSON")):
        if key in document:
            return f"it is {name}, which says neither place nor time of each image; name STAC items"
    return f"got type {document.get('type')!r}"


def _links(document: Document, uri: str, harvest: Harvest) -> list[str]:
    hrefs = []
    links = document.get("links")
    for link in links if isinstance(links, list) else []:
        if not isinstance(link, Mapping) or link.get("rel") not in _FOLLOWED:
            continue
        href = link.get("href")
        if not isinstance(href, str) or not href:
            harvest.issue(uri, f"link of rel {link['rel']!r} has no href")
        elif str(link.get("method", "GET")).upper() == "GET":
            hrefs.append(href)
    return hrefs


def _item(feature: Document, uri: str, rule: HrefRule, *, alone: bool) -> RawItem:
    if is_opengeos(feature):
        return replace(opengeos_item(feature, uri), rule=rule)
    return RawItem(document=feature, base=uri if alone else item_base(feature, uri), rule=rule)


def item_base(feature: Document, uri: str) -> str:
    """The base of an item's relative hrefs: its `self` link where that is absolute.

    Only for items of a collection. The base of an item with its own document is the place
    of that document, also where the document is a copy that kept the old `self`.
    """
    links = feature.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == "self":
            href = link.get("href")
            if isinstance(href, str) and "://" in href:
                return href
    return uri


def _objects(values: object, uri: str) -> list[Document]:
    if not isinstance(values, list):
        raise CatalogItemError(NOT_STAC, uri, "an object or a list of items", type(values).__name__)
    return [
        value if isinstance(value, dict) else {"broken": f"entry {position} is not a JSON object"}
        for position, value in enumerate(values)
    ]


def _from_lines(text: str, uri: str, cause: Exception) -> list[Document]:
    documents: list[Document] = []
    good = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = parse_json(line)
            ok = isinstance(value, dict)
            documents.append(value if ok else {"broken": f"line {number} is not a JSON object"})
            good += ok
        except ValueError as error:
            documents.append({"broken": f"line {number} is not JSON: {error}"})
    if not good:
        raise CatalogItemError(
            NOT_STAC,
            uri,
            expected="a STAC catalogue, an item collection, a STAC API, or GeoTIFFs",
            got=f"{kind_of_text(text[:100].encode())}, neither JSON ({cause}) nor NDJSON",
        ) from cause
    return documents


def _from_parquet(data: bytes, uri: str) -> list[Document]:
    """Items of stac-geoparquet, whose columns are item members and properties side by side."""
    try:
        rows = pq.read_table(pa.BufferReader(data)).to_pylist()
    except pa.ArrowException as error:
        raise CatalogItemError("not stac-geoparquet", uri, got=str(error)) from error
    if rows and not {"id", "assets", "geometry"} <= rows[0].keys():
        raise CatalogItemError(
            "not stac-geoparquet",
            uri,
            expected="columns id, assets, geometry",
            got=", ".join(rows[0]),
        )
    return [_from_row(row) for row in rows]


def _from_row(row: dict[str, Any]) -> Document:
    members = ("type", "stac_version", "stac_extensions", "id", "collection", "links")
    document = {name: row.pop(name) for name in members if name in row}
    geometry, box = row.pop("geometry"), row.pop("bbox", None)
    assets = {
        name: _without_nulls(asset) for name, asset in (row.pop("assets") or {}).items() if asset
    }
    if isinstance(box, Mapping):
        box = [box["xmin"], box["ymin"], box["xmax"], box["ymax"]]
    properties = {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in row.items()
    }
    shape = shapely.from_wkb(geometry, on_invalid="ignore") if geometry else None
    return document | {
        "type": "Feature",
        "geometry": None if shape is None else shapely.geometry.mapping(shape),
        "bbox": box,
        "assets": assets,
        "properties": _without_nulls(properties),
    }


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values without the nulls of columns that only other items use."""
    return {name: value for name, value in values.items() if value is not None}
