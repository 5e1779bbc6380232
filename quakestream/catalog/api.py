"""STAC APIs, through pystac-client, as raw items."""

from collections.abc import Mapping

import pystac_client

from quakestream.catalog.documents import Harvest, item_base
from quakestream.catalog.items import Document, RawItem
from quakestream.storage import protocol_of, resolve_href
from quakestream.storage.filesystems import storage_errors

PAGE_ITEMS = 200
_TIMEOUT_S = 60


def api_root(document: Document, uri: str) -> tuple[str, list[str]] | None:
    """Landing page and collections to search, where a document belongs to a STAC API."""
    if protocol_of(uri) not in ("http", "https"):
        return None
    if document.get("type") == "Collection":
        root = _link(document, "root")
        if root and _link(document, "items"):
            return resolve_href(uri, root), [str(document.get("id"))]
        return None
    return (uri, []) if document.get("conformsTo") or _link(document, "search") else None


def search_api(
    root: str,
    collections: list[str],
    bounds: tuple[float, float, float, float],
    intervals: list[str],
) -> Harvest:
    """Items in a box of degrees and in any of the intervals, every page of them.

    They are taken as the server sends them and never made into pystac items:
    one asset without href makes pystac-client fail a whole page.

    Raises:
        StorageError: if the service fails.
    """
    harvest = Harvest()
    seen: set[tuple[str, str]] = set()
    with storage_errors("search", root):
        client = pystac_client.Client.open(root, timeout=_TIMEOUT_S)
        if not client.conforms_to("ITEM_SEARCH"):
            client.add_conforms_to("ITEM_SEARCH")
        for interval in intervals:
            found = client.search(
                bbox=bounds,
                datetime=interval,
                collections=collections or None,
                limit=PAGE_ITEMS,
                max_items=None,
            )
            for document in found.items_as_dicts():
                if not isinstance(document, Mapping):
                    harvest.issue(root, "the service sent an item that is no JSON object")
                    continue
                name = (str(document.get("collection")), str(document.get("id")))
                if name not in seen or not document.get("id"):
                    seen.add(name)
                    harvest.items.append(RawItem(document=document, base=item_base(document, root)))
    return harvest


def _link(document: Document, rel: str) -> str | None:
    links = document.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == rel and link.get("href"):
            return str(link["href"])
    return None
