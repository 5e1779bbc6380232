"""A cache of block indices: in memory, and in a store that the workers of a run share."""

import hashlib
import json
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace

from quakestream.domain import Bands, Scene
from quakestream.errors import Problem, ShapeError, StorageError
from quakestream.raster.cog.layout import LAYOUT_VERSION, CogLayout, NotCoveredError
from quakestream.redaction import redacted
from quakestream.storage import StorageOptions, Store, fingerprint
from quakestream.storage.seals import sealed, unsealed

MAX_LAYOUTS = 64
"""Indices kept in memory. One takes 16 bytes a block: 0.6 MB for 100,000 × 100,000 pixels."""
Key = tuple[str, str, str]
REFUSED, COPIED = "refused", "copied"
"""Kinds of notes on scenes: why one is read through GDAL, and why one is copied whole."""


class LayoutCache:
    """Makes each scene's index once per version. Safe to use from several threads.

    A scene that the hot path cannot read is remembered by its problem.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = store
        self._entries: OrderedDict[Key, CogLayout | Problem] = OrderedDict()
        self._lock = threading.Lock()
        self._make_locks: dict[Key, threading.Lock] = {}

    def layout(self, scene: Scene, options: StorageOptions) -> CogLayout:
        """The index of a scene's version: from memory, from the store, or made now and stored.

        Raises:
            NotCoveredError: if the hot path cannot read the scene.
            SceneError: if GDAL cannot open it.
            StorageError: if the scene's store does not answer.
            MissingExtraError: if the package for the protocol is not installed.
        """
        key = _key(scene, options)
        with self._lock:
            make_lock = self._make_locks.setdefault(key, threading.Lock())
        with make_lock:  # a second thread waits for the first
            entry = (
                self._from_memory(key)
                or self._from_store(key)
                or self._make(key, scene.bands, options)
            )
            with self._lock:
                self._entries[key] = entry
                while len(self._entries) > MAX_LAYOUTS:
                    self._make_locks.pop(self._entries.popitem(last=False)[0], None)
        if isinstance(entry, Problem):
            raise NotCoveredError.of(entry)
        return entry

    def note(self, scene: Scene, kind: str, reason: str) -> None:
        """Writes a note on a scene beside the indices, which `noted_reasons` reads.

        Args:
            kind: REFUSED or COPIED.
        """
        if self._store is not None:
            content = {
                "href": redacted(scene.href),
                "scene": scene.id,
                "reason": redacted(reason),
            }
            name = object_name(*_key(scene)).removesuffix("parquet") + f"{kind}.json"
            with suppress(StorageError):  # the note is not worth the run
                self._store.put(name, json.dumps(content).encode())

    def _from_memory(self, key: Key) -> CogLayout | Problem | None:
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def _from_store(self, key: Key) -> CogLayout | None:
        if self._store is None:
            return None
        try:
            name = object_name(*key)
            content = unsealed(name, self._store.get(name))
            if content is None:
                return None
            layout = CogLayout.from_parquet(content)
        except (StorageError, ShapeError):  # missing, of another version, or unreadable
            return None
        href, etag, bands = key
        known = (*layout.key, layout.bands) == (redacted(href), etag, bands)
        return replace(layout, href=href) if known else None

    def _make(self, key: Key, bands: Bands | None, options: StorageOptions) -> CogLayout | Problem:
        from quakestream.raster.cog.header import make_layout

        href, etag, _ = key
        try:
            layout = replace(make_layout(href, options, etag, bands), etag=etag)
        except NotCoveredError as error:
            return error.problem
        if self._store is not None:
            with suppress(StorageError):  # it only costs time: the next worker makes it again
                name = object_name(*key)
                self._store.put(name, sealed(name, layout.to_parquet()))
        return layout


def _key(scene: Scene, options: StorageOptions | None = None) -> Key:
    """What a scene's index is known by: href, version and bands."""
    etag = scene.etag or (fingerprint(scene.href, options) if options else "")
    return scene.href, etag, "" if scene.bands is None else scene.bands.token


def object_name(href: str, etag: str, bands: str = "") -> str:
    """Key of a scene version's index in a store.

    Args:
        bands: token of the scene's bands.
    """
    name = hashlib.sha256(f"{LAYOUT_VERSION}\n{href}\n{etag}\n{bands}".encode()).hexdigest()
    return f"{name[:32]}.parquet"


def noted_reasons(store: Store, kind: str) -> dict[str, str]:
    """The reasons in the workers' notes of a kind, by scene id.

    Args:
        kind: REFUSED or COPIED.

    Raises:
        StorageError: if the store cannot be listed.
    """
    reasons = {}
    for key in store.list():
        if key.endswith(f".{kind}.json"):
            with suppress(StorageError, ValueError, KeyError):
                content = json.loads(store.get(key))
                reasons[str(content["scene"])] = str(content["reason"])
    return reasons
