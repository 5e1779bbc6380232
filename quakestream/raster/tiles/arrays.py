"""Zarr arrays of a tile store, opened so that nothing missing reads as black. Needs zarr."""

import json
from collections.abc import Mapping
from typing import Any

import fsspec
import numcodecs.registry  # type: ignore[import-untyped]
import zarr
import zarr.storage
from imagecodecs.numcodecs import register_codecs
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from quakestream.errors import ReadError
from quakestream.storage import StorageOptions, protocol_of
from quakestream.storage.filesystems import filesystem
from quakestream.storage.uris import local_path

_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


class PresentChunks(WrapperStore[Store]):
    """A store in which a chunk that is not there, or is cut off, is an error.

    Zarr reads a missing chunk as its fill value. Tiles are written empty chunks
    and all, so here one that is missing was lost.
    """

    lengths: Mapping[str, int] = {}
    """Bytes a whole chunk must have, by key, where that is known."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await self._store.get(key, prototype, byte_range)
        if found is None and not key.endswith(_METADATA):
            raise ReadError(f"chunk {key} is missing")
        expected = self.lengths.get(key)
        if found is not None and expected is not None and len(found) != expected:
            raise ReadError(f"chunk {key} has {len(found)} bytes, expected {expected}")
        return found


def zarr_store(uri: str, options: StorageOptions, *, read_only: bool) -> Store:
    """A Zarr store over the objects under a prefix: files of this machine, or any fsspec store.

    Raises:
        MissingExtraError: if the package for the protocol is not installed.
        StorageError: if no file system knows the protocol.
    """
    if protocol_of(uri) == "file":
        return LocalStore(local_path(uri), read_only=read_only)
    fs, _ = filesystem(uri, options)
    return FsspecStore.from_url(uri, storage_options=dict(fs.storage_options), read_only=read_only)


def open_written(uri: str, options: StorageOptions, path: str, *, read_only: bool) -> Any:
    """A stored array. Empty chunks are written: a chunk that is absent is a lost one."""
    store = zarr_store(uri, options, read_only=read_only)
    return zarr.open_array(
        PresentChunks(store) if read_only else store,  # a writer looks for what is there first
        path=path,
        mode="r" if read_only else "r+",
        zarr_format=3,
        config={"write_empty_chunks": True},
    )


def open_referenced(references: Mapping[str, Any], path: str, options: StorageOptions) -> Any:
    """An array of kerchunk references, version 1 with one template `u`: the scene's URI."""
    if "imagecodecs_jpeg" not in numcodecs.registry.codec_registry:
        register_codecs(verbose=False)
    target = references["templates"]["u"]
    fs, _ = filesystem(target, options)
    remote = {**fs.storage_options, "asynchronous": True} if fs.async_impl else None
    reference_fs = fsspec.filesystem(
        "reference",
        fo=dict(references),
        remote_protocol=protocol_of(target),
        remote_options=remote or dict(fs.storage_options),
        asynchronous=True,
    )
    store = PresentChunks(FsspecStore(reference_fs, read_only=True))
    store.lengths = {k: r[2] for k, r in references["refs"].items() if isinstance(r, list)}
    return zarr.open_array(store, path=path, mode="r", zarr_format=2)


def parse_references(data: bytes) -> dict[str, Any]:
    """References as they are stored.

    Raises:
        ReadError: if they are not such.
    """
    try:
        content: dict[str, Any] = json.loads(data)
        known = content["version"] == 1 and content["templates"]["u"] and content["refs"]
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(f"not kerchunk references: {error!r}") from error
    if not known:
        raise ReadError("not kerchunk references of version 1 with one template")
    return content
