"""Searches STAC APIs with pystac-client and returns raw items."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quakestream.catalog.documents import Harvest, item_base
from quakestream.catalog.hrefs import HrefRule
from quakestream.catalog.items import Document, RawItem
from quakestream.storage import StorageOptions, is_web
from quakestream.storage.filesystems import storage_errors
from quakestream.storage.limits import CATALOGUE_ITEMS, SEARCH_PAGES

PAGE_ITEMS = 200
Bounds = tuple[float, float, float, float]


def api_root(document: Document, uri: str, options: StorageOptions) -> tuple[str, list[str]] | None:
    """The landing page and the collections to search; None for a document of no STAC API.

    Raises:
        CatalogItemError: if the document names a landing page that it may not name.
    """
    if not is_web(uri):
        return None
    if document.get("type") == "Collection":
        root = _link(document, "root")
        if root and _link(document, "items"):
            rule = HrefRule(root=uri, options=options)
            return rule.place(uri, root), [str(document.get("id"))]
        return None
    return (uri, []) if document.get("conformsTo") or _link(document, "search") else None


def search_api(
    root: str,
    collections: list[str],
    bounds: Bounds | list[Bounds],
    intervals: Sequence[str | None],
    rule: HrefRule | None = None,
    *,
    first_page: bool = False,
) -> Harvest:
    """All items in a box or several (degrees) and in any of the intervals.

    Items stay raw JSON and never become pystac items: one asset without href makes
    pystac-client fail a whole page.

    Args:
        root: the landing page.
        collections: what is searched; all where there is none.
        bounds: west, south, east, north.
        intervals: of time; None: any time.
        rule: the rule for the hrefs of the service.
        first_page: reads no more than a page of each search.

    Raises:
        StorageError: if the service fails.
    """
    from quakestream.catalog.api_requests import open_client  # a second of imports

    rule = rule or HrefRule(root=root)
    boxes = bounds if isinstance(bounds, list) else [bounds]
    harvest = Harvest(rule=rule, of_service=True)
    added: set[tuple[str, str]] = set()
    with storage_errors("search", root):
        client = open_client(root, rule)
        if not client.conforms_to("ITEM_SEARCH"):
            client.add_conforms_to("ITEM_SEARCH")
        for box in boxes:
            for interval in intervals:
                pages = client.search(
                    bbox=box,
                    datetime=interval,
                    collections=collections or None,
                    limit=PAGE_ITEMS,
                    max_items=None,
                ).pages_as_dicts()
                if first_page:
                    page = next(pages, {})
                    _take_page(page, root, harvest, added)
                    harvest.is_cut |= _link(page, "next") is not None
                else:
                    _take_pages(pages, root, harvest, added)
    return harvest


def _take_pages(
    pages: Iterator[dict[str, Any]], url: str, harvest: Harvest, added: set[tuple[str, str]]
) -> None:
    """Adds the items of one search, until a page brings none that the search has not brought.

    Services with a broken `next` link send a page again and again.
    """
    seen: set[tuple[str, str]] = set()
    for number, page in enumerate(pages, start=1):
        names = {_name(one) for one in page.get("features", []) if isinstance(one, Mapping)}
        if number > 1 and names <= seen:
            harvest.notes.append(
                f"service {url}: page {number} of a search brings no new item; "
                f"the search ends there, with {len(seen):,}"
            )
            return
        seen |= names
        _take_page(page, url, harvest, added)
        if number >= SEARCH_PAGES or len(harvest.items) > CATALOGUE_ITEMS:
            harvest.issue(
                url,
                f"service has more than is read: {SEARCH_PAGES:,} pages or {CATALOGUE_ITEMS:,} "
                "items; narrow the AOI or the dates",
            )
            return


def _take_page(
    page: Mapping[str, Any], url: str, harvest: Harvest, added: set[tuple[str, str]]
) -> None:
    for document in page.get("features", []):
        if not isinstance(document, Mapping):
            harvest.issue(url, "item from the service is not a JSON object")
            continue
        name = _name(document)
        if name not in added or not document.get("id"):
            added.add(name)
            base = item_base(document, url)
            harvest.items.append(RawItem(document=document, base=base, rule=harvest.rule))


def _name(document: Document) -> tuple[str, str]:
    return str(document.get("collection")), str(document.get("id"))


def _link(document: Document, rel: str) -> str | None:
    links = document.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == rel and link.get("href"):
            return str(link["href"])
    return None
