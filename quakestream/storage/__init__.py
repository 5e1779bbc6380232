"""Reads and writes bytes: byte ranges, atomic puts, listings; file, memory, s3, http(s), gs, az."""

from quakestream.storage.copies import local_copy
from quakestream.storage.filesystems import (
    MissingObjectError,
    NoAnswerError,
    NoCredentialsError,
    StorageOptions,
)
from quakestream.storage.gdal import gdal_env, gdal_path
from quakestream.storage.store import Store, fingerprint, open_store, read_bytes
from quakestream.storage.uris import is_remote, is_web, protocol_of, relative_href, resolve_href

__all__ = [
    "MissingObjectError",
    "NoAnswerError",
    "NoCredentialsError",
    "StorageOptions",
    "Store",
    "fingerprint",
    "gdal_env",
    "gdal_path",
    "is_remote",
    "is_web",
    "local_copy",
    "open_store",
    "protocol_of",
    "read_bytes",
    "relative_href",
    "resolve_href",
]
