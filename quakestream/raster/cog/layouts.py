"""Block indices that were made already: in memory, and beside the run where a store is given."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import replace

from quakestream.domain import Scene
from quakestream.errors import SceneError, ShapeError
from quakestream.raster.cog.layout import LAYOUT_VERSION, CogLayout
from quakestream.storage import MissingObjectError, StorageOptions, Store, fingerprint

MOST = 64
"""Indices kept in memory: 16 bytes a block, 0.6 MB for a scene of 100,000 × 100,000."""


class LayoutCache:
    """Makes each scene's index once per version. Safe to use from several threads."""

    def __init__(self, store: Store | None = None) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str], CogLayout | str] = OrderedDict()
        self._lock = threading.Lock()

    def layout(self, scene: Scene, options: StorageOptions) -> CogLayout:
        """The index of a scene's version: known, stored, or made now (and stored).

        Raises:
            SceneError: if the hot path cannot read the scene; asked once, then remembered.
            StorageError: if the scene or the store does not answer.
            MissingExtraError: if an optional package is missing.
        """
        key = scene.href, scene.etag or fingerprint(scene.href, options)
        with self._lock:
            found = self._known.get(key)
        if found is None:
            found = self._stored(key) or self._made(key, options)
            with self._lock:
                self._known[key] = found
                while len(self._known) > MOST:
                    self._known.popitem(last=False)
        if isinstance(found, str):
            raise SceneError(found)
        return found

    def _stored(self, key: tuple[str, str]) -> CogLayout | None:
        if self._store is None:
            return None
        try:
            found = CogLayout.from_parquet(self._store.get(object_name(*key)))
        except (MissingObjectError, ShapeError):  # none yet, or another version's
            return None
        return found if found.key == key else None

    def _made(self, key: tuple[str, str], options: StorageOptions) -> CogLayout | str:
        from quakestream.raster.cog.header import make_layout

        href, etag = key
        try:
            layout = replace(make_layout(href, options, etag), etag=etag)
        except SceneError as error:
            return str(error)
        if self._store is not None:
            self._store.put(object_name(*key), layout.to_parquet())
        return layout


def object_name(href: str, etag: str) -> str:
    """Key of a scene version's index in a store."""
    name = hashlib.sha256(f"{LAYOUT_VERSION}\n{href}\n{etag}".encode()).hexdigest()
    return f"{name[:32]}.parquet"
