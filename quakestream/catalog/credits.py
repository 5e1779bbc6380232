"""Whom an image must be credited to, and under which licence, from STAC items and collections.

STAC puts `license` and `providers` on the collection; items may repeat them in `properties`
(common metadata of STAC 1.1). Asset-level values win, then the item's, then the collection's.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_Document = Mapping[str, Any]

_ROLES = ("licensor", "producer")
_TERMS = ("license", "providers", "attribution", "copyright")
_WITHOUT_MEANING = {"", "proprietary", "various", "other"}
TEXT_AT_MOST = 200
"""Longest credit or licence that is kept, characters."""


def credit_of(document: _Document, asset: _Document) -> tuple[str, str]:
    """The credit line and the licence of an item's asset; empty where the item says nothing."""
    sources = (asset, _mapping(document.get("properties")), document)
    credit = _first_text(sources, ("attribution", "copyright")) or _providers(sources)
    licence = _first_text(sources, ("license",))
    if licence.lower() in _WITHOUT_MEANING:
        licence = _licence_link(document) or licence
    return credit[:TEXT_AT_MOST], licence[:TEXT_AT_MOST]


def with_terms(document: _Document, collection: _Document) -> _Document:
    """The item with the licence, providers and attribution of its collection, where it has none."""
    properties = _mapping(document.get("properties"))
    missing = {
        key: collection[key] for key in _TERMS if key in collection and key not in properties
    }
    return {**document, "properties": {**properties, **missing}} if missing else document


def _providers(sources: tuple[_Document, ...]) -> str:
    """Names of the licensors, else of the producers, else of all providers."""
    for source in sources:
        known = list(_named_providers(source.get("providers")))
        for role in _ROLES:
            if names := [name for name, roles in known if role in roles]:
                return ", ".join(dict.fromkeys(names))
        if known:
            return ", ".join(dict.fromkeys(name for name, _ in known))
    return ""


def _named_providers(value: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    for one in value if isinstance(value, list) else []:
        name = one.get("name") if isinstance(one, Mapping) else None
        if isinstance(name, str) and name.strip():
            roles = one.get("roles")
            yield name.strip(), tuple(map(str, roles)) if isinstance(roles, list) else ()


def _first_text(sources: tuple[_Document, ...], keys: tuple[str, ...]) -> str:
    for source in sources:
        for key in keys:
            value = source.get(key)
            if isinstance(value, str) and value.strip():
                return value.strip()
    return ""


def _licence_link(document: _Document) -> str:
    links = document.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and link.get("rel") == "license":
            text = link.get("title") or link.get("href")
            return str(text) if isinstance(text, str) else ""
    return ""


def _mapping(value: Any) -> _Document:
    return value if isinstance(value, Mapping) else {}
