"""Products at their fixed names, held against what run.json says of them."""

import hashlib
from typing import Any

from quakestream.storage import MissingObjectError, Store, is_remote

_REWRITTEN = frozenset(("report.html",))
"""Products that `quakestream report` writes anew, with scores."""


def inventory(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What run.json says of each product: `bytes` and `sha256` by name."""
    return {str(entry["name"]): entry for entry in run.get("products", ())}


def other_products(store: Store, run: dict[str, Any]) -> list[str]:
    """Products at their fixed names that are not those of the snapshot that `run` names.

    A run that was ended while it wrote them, or somebody's editor, leaves such. Sizes are
    compared, and digests of what lies on this machine.
    """
    small = {
        name: entry
        for name, entry in inventory(run).items()
        if "/" not in name and name not in _REWRITTEN
    }
    return [name for name, entry in small.items() if not _is(store, name, entry)]


def _is(store: Store, name: str, entry: dict[str, Any]) -> bool:
    try:
        if store.size(name) != entry["bytes"]:
            return False
        return is_remote(store.uri) or _digest(store, name) == entry["sha256"]
    except MissingObjectError:
        return False


def _digest(store: Store, name: str) -> str:
    return hashlib.sha256(store.get(name)).hexdigest()
