"""Block indices that were made already: in memory, and beside the run where a store is given."""

import hashlib
import json
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace

from quakestream.domain import Scene
from quakestream.errors import ShapeError, StorageError
from quakestream.raster.cog.layout import LAYOUT_VERSION, CogLayout, NotCoveredError
from quakestream.storage import StorageOptions, Store, fingerprint

MOST = 64
"""Indices kept in memory: 16 bytes a block, 0.6 MB for a scene of 100,000 × 100,000."""
REFUSED = ".refused.json"
"""How the names of notes end that say why a scene is read through GDAL."""


class LayoutCache:
    """Makes each scene's index once per version. Safe to use from several threads."""

    def __init__(self, store: Store | None = None) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str], CogLayout | str] = OrderedDict()
        self._lock = threading.Lock()
        self._makes: dict[tuple[str, str], threading.Lock] = {}

    def layout(self, scene: Scene, options: StorageOptions) -> CogLayout:
        """The index of a scene's version: known, stored, or made now (and stored).

        Raises:
            NotCoveredError: if the hot path cannot read the scene; asked once, then remembered.
            SceneError: if GDAL cannot open it.
            StorageError: if the scene does not answer.
            MissingExtraError: if the package for the protocol is not installed.
        """
        key = scene.href, scene.etag or fingerprint(scene.href, options)
        with self._lock:
            making = self._makes.setdefault(key, threading.Lock())
        with making:  # who comes second waits for the first
            found = self._remembered(key) or self._stored(key) or self._made(key, options)
            with self._lock:
                self._known[key] = found
                while len(self._known) > MOST:
                    self._makes.pop(self._known.popitem(last=False)[0], None)
        if isinstance(found, str):
            raise NotCoveredError(found)
        return found

    def note(self, scene: Scene, reason: str) -> None:
        """Leaves beside the indices why a scene is read through GDAL; `refusals` finds it."""
        if self._store is not None:
            content = {"href": scene.href, "scene": scene.id, "reason": reason}
            name = object_name(scene.href, scene.etag).removesuffix(".parquet") + REFUSED
            with suppress(StorageError):  # as below
                self._store.put(name, json.dumps(content).encode())

    def _remembered(self, key: tuple[str, str]) -> CogLayout | str | None:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
            return self._known.get(key)

    def _stored(self, key: tuple[str, str]) -> CogLayout | None:
        if self._store is None:
            return None
        try:
            found = CogLayout.from_parquet(self._store.get(object_name(*key)))
        except (StorageError, ShapeError):  # none yet, or another version's, or not to be had
            return None
        return found if found.key == key else None

    def _made(self, key: tuple[str, str], options: StorageOptions) -> CogLayout | str:
        from quakestream.raster.cog.header import make_layout

        href, etag = key
        try:
            layout = replace(make_layout(href, options, etag), etag=etag)
        except NotCoveredError as error:
            return str(error)
        if self._store is not None:
            with suppress(StorageError):  # it costs time alone: the next worker makes it again
                self._store.put(object_name(*key), layout.to_parquet())
        return layout


def object_name(href: str, etag: str) -> str:
    """Key of a scene version's index in a store."""
    name = hashlib.sha256(f"{LAYOUT_VERSION}\n{href}\n{etag}".encode()).hexdigest()
    return f"{name[:32]}.parquet"


def refusals(store: Store) -> dict[str, str]:
    """Why scenes were read through GDAL, by their id: what workers have left beside the indices.

    Raises:
        StorageError: if the store cannot be listed.
    """
    found = {}
    for key in store.list():
        if key.endswith(REFUSED):
            with suppress(StorageError, ValueError, KeyError):
                content = json.loads(store.get(key))
                found[str(content["scene"])] = str(content["reason"])
    return found
