"""Fetchers of byte ranges: local files, object stores and the web.

Credentials come from the environment, as everywhere in `quakestream.storage`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quakestream.errors import MissingExtraError, StorageError
from quakestream.storage.filesystems import (
    MissingObjectError,
    StorageOptions,
    filesystem,
    no_credentials,
    storage_errors,
)
from quakestream.storage.local_fetcher import LocalFetcher
from quakestream.storage.object_stores import object_store
from quakestream.storage.ranges import Buffer, Fetcher, FetchPolicy
from quakestream.storage.traffic import FETCHED, counted
from quakestream.storage.uris import is_remote, is_web, protocol_of
from quakestream.storage.web_fetcher import WebFetcher

_ROLE_SERVICES = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")
"""Where obstore asks for the machine's role, once the environment holds no credentials. Its
exception is the same for all failures, and only the message names the address."""
MESSAGE_CHARS = 300
"""Longest part of an obstore message that is shown."""


class ObstoreFetcher:
    """An object of a store that obstore knows: s3, gs, az."""

    policy: FetchPolicy = FetchPolicy()

    def __init__(self, href: str, store: Any, path: str) -> None:
        self._href, self._store, self._path = href, store, path

    def fetch(self, start: int, length: int) -> Buffer:
        import obstore

        with _obstore_errors(f"read bytes {start}+{length}", self._href):
            data = obstore.get_range(self._store, self._path, start=start, length=length)
            return counted(memoryview(data))

    def size(self) -> int:
        """Bytes of the whole object."""
        import obstore

        with _obstore_errors("look up", self._href):
            return int(obstore.head(self._store, self._path)["size"])

    def close(self) -> None:
        """Does nothing: obstore owns the connections."""


class FsspecFetcher:
    """An object of any other store, or of one whose settings only fsspec knows."""

    policy: FetchPolicy = FetchPolicy()

    def __init__(self, href: str, options: StorageOptions) -> None:
        self._href = href
        self._fs, self._path = filesystem(href, options)

    def fetch(self, start: int, length: int) -> Buffer:
        if length == 0:
            return b""
        with storage_errors(f"read bytes {start}+{length}", self._href):
            data = bytes(self._fs.cat_file(self._path, start=start, end=start + length))
            FETCHED.add(len(data))
            # A web server that ignores Range sends the whole object.
            return data[start : start + length] if len(data) > length else data

    def size(self) -> int:
        """Bytes of the whole object."""
        with storage_errors("look up", self._href):
            return int(self._fs.info(self._path)["size"])

    def close(self) -> None:
        """Does nothing: fsspec owns the connections, one per process."""


_local: type[Fetcher] = LocalFetcher
_obstore: type[Fetcher] = ObstoreFetcher
_web: type[Fetcher] = WebFetcher
_fsspec: type[Fetcher] = FsspecFetcher


def open_fetcher(href: str, options: StorageOptions) -> Fetcher:
    """Opens an object: a local file as a file, others with obstore where it can, else fsspec.

    Raises:
        StorageError: if a file cannot be opened, or no store knows the protocol.
        MissingExtraError: if the package for the protocol is not installed.
    """
    if protocol_of(href) == "file":
        return LocalFetcher(href)
    if is_web(href):
        return WebFetcher(href, options)
    if is_remote(href):
        located = object_store(href, options)
        if located is not None:
            return ObstoreFetcher(href, *located)
    return FsspecFetcher(href, options)


@contextmanager
def _obstore_errors(verb: str, href: str) -> Iterator[None]:
    """Turns obstore's exceptions, whose messages run over many lines, into storage errors."""
    try:
        yield
    except (StorageError, MissingExtraError):
        raise
    except FileNotFoundError as error:
        raise MissingObjectError(
            f"cannot {verb}: there is no such object", href, remedy="check the name and the bucket"
        ) from error
    except Exception as error:
        message = " ".join(str(error).split("Debug source")[0].split())[:MESSAGE_CHARS]
        if any(service in message for service in _ROLE_SERVICES):
            raise no_credentials(verb, href) from error
        raise StorageError(f"cannot {verb}: {message or type(error).__name__}", href) from error
