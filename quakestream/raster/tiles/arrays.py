"""Opens Zarr arrays of a tile store so that a missing chunk is an error. Needs zarr, kerchunk."""

import json
from collections.abc import Mapping
from typing import Any

import google_crc32c
import kerchunk.utils
import numcodecs.registry  # type: ignore[import-untyped]
import numpy as np
import zarr
import zarr.storage
from imagecodecs.numcodecs import register_codecs
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from quakestream.errors import ReadError
from quakestream.raster.messages import counted
from quakestream.raster.tiles.bounded import bounded
from quakestream.storage import StorageOptions, protocol_of
from quakestream.storage.filesystems import filesystem
from quakestream.storage.limits import encoded_block_bytes
from quakestream.storage.uris import local_path

_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


class StrictChunks(WrapperStore[Store]):
    """A store in which a chunk that is missing or truncated is an error.

    Zarr reads a missing chunk as its fill value. Tiles are written with their empty chunks, so
    a missing chunk was lost.
    """

    lengths: Mapping[str, int] = {}
    """Bytes of each whole chunk by key, where they are known."""
    most_bytes: int | None = None
    """Most bytes of a chunk, where that is known."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        stated = self.lengths.get(key, 0)
        if self.most_bytes is not None and stated > self.most_bytes:
            most, got = f"at most {self.most_bytes:,} bytes", f"{stated:,}"
            raise ReadError("chunk is larger than its pixels may take", f"chunk {key}", most, got)
        data = await self._store.get(key, prototype, byte_range)
        if data is None and not key.endswith(_METADATA):
            raise ReadError("chunk is missing", f"chunk {key}")
        length = self.lengths.get(key)
        if data is not None and length is not None and len(data) != length:
            got = counted(len(data), "byte")
            raise ReadError("chunk is truncated", f"chunk {key}", f"{length:,}", got)
        return data


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
    """A stored array. Its empty chunks are written too, so that a missing chunk was lost."""
    store = zarr_store(uri, options, read_only=read_only)
    return zarr.open_array(
        StrictChunks(store)
        if read_only
        else store,  # a writer first looks for a chunk that may not exist
        path=path,
        mode="r" if read_only else "r+",
        zarr_format=3,
        config={"write_empty_chunks": True},
    )


def empty_shard(chunks: int) -> bytes:
    """A shard in which every chunk is absent, so that it reads as the fill value.

    Zarr writes no such shard, whatever `write_empty_chunks` says. It holds an index alone: offset
    and length of each chunk, 2^64 - 1 for absent ones, and a checksum (Zarr 3, `sharding_indexed`).
    """
    index = np.full(2 * chunks, np.iinfo(np.uint64).max, "<u8").tobytes()
    checksum: int = google_crc32c.value(index)
    return index + checksum.to_bytes(4, "little")


def open_referenced(references: Mapping[str, Any], path: str, options: StorageOptions) -> Any:
    """An array of kerchunk references, version 1, whose only template `u` is the scene's URI."""
    if "imagecodecs_packints" not in numcodecs.registry.codec_registry:
        register_codecs(verbose=False)
    content, chunk_bytes = bounded(references["refs"], path)
    target = references["templates"]["u"]
    fs, _ = filesystem(target, options)
    reference_fs = kerchunk.utils.refs_as_fs(
        {**references, "refs": content},
        remote_protocol=protocol_of(target),
        remote_options=dict(fs.storage_options),
    )
    store = StrictChunks(FsspecStore(reference_fs, read_only=True))
    store.most_bytes = encoded_block_bytes(chunk_bytes)
    store.lengths = {k: r[2] for k, r in references["refs"].items() if isinstance(r, list)}
    return zarr.open_array(store, path=path, mode="r", zarr_format=2)


def parse_references(data: bytes) -> dict[str, Any]:
    """Parses stored references.

    Raises:
        ReadError: if the data are not kerchunk references of version 1 with a template `u`.
    """
    try:
        content: dict[str, Any] = json.loads(data)
        usable = content["version"] == 1 and content["templates"]["u"] and content["refs"]
    except (ValueError, KeyError, TypeError) as error:
        raise ReadError(f"not kerchunk references: {error!r}") from error
    if not usable:
        raise ReadError("not kerchunk references", expected="version 1 with one template")
    return content
