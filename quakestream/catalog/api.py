"""Searches STAC APIs with pystac-client and returns raw items."""

from collections.abc import Mapping

import pystac_client

from quakestream.catalog.documents import Harvest, item_base
from quakestream.catalog.items import Document, RawItem
from quakestream.storage import protocol_of, resolve_href
from quakestream.storage.filesystems import storage_errors

PAGE_ITEMS = 200
_TIMEOUT_S = 60


def api_root(document: Document, uri: str) -> tuple[str, list[str]] | None:
    """The landing page and the collections to search; None for a document of no STAC API."""
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
    """All items in a box (degrees) and in any of the intervals.

    Items stay raw JSON and never become pystac items: one asset without href makes
    pystac-client fail a whole page.

    Raises:
        StorageError: if the service fails.
    """
    harvest = Harvest()
    added: set[tuple[str, str]] = set()
    with storage_errors("search", root):
        client = pystac_client.Client.open(root, timeout=_TIMEOUT_S)
        if not client.conforms_to("ITEM_SEARCH"):
            client.add_conforms_to("ITEM_SEARCH")
        for interval in intervals:
            pages = client.search(
                bbox=bounds,
                datetime=interval,
                collections=collections or None,
                limit=PAGE_ITEMS,
                max_items=None,
            )
            for document in pages.items_as_dicts():
                if not isinstance(document, Mapping):
                    harvest.issue(root, "item from the service is not a JSON object")
                    continue
                name = (str(document.get("collection")), str(document.get("id")))
                if name not in added or not document.get("id"):
                    added.add(name)
                    harvest.items.append(RawItem(document=document, base=item_base(document, root)))
    return harvest


def _link(document: Document, rel: str) -> str | None:
    links = document.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == rel and link.get("href"):
            return str(link["href"])
    return None
