"""Ranges of a scene's bytes: from files, object stores and the web.

Many small ranges cost more than a few large ones, and bytes nobody asked for cost
too: `runs_of` joins neighbours for as long as what is fetched in vain stays small.
Credentials come from the environment, as everywhere in `quakestream.storage`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from quakestream.errors import MissingExtraError, StorageError
from quakestream.raster.cog.object_stores import object_store
from quakestream.storage import StorageOptions, is_remote, protocol_of
from quakestream.storage.filesystems import MissingObjectError, filesystem, translated
from quakestream.storage.uris import local_path

Buffer = bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPolicy:
    """How ranges are best asked of a store."""

    gap_bytes: int = 256 << 10
    """Ranges further apart are never joined."""
    waste: float = 0.1
    """Bytes in vain over bytes needed that joining may cost, per request."""
    run_bytes: int = 4 << 20
    """A request that has reached this takes in no further range."""
    requests: int = 8
    """How many may be under way at once; 0: one after the other, by whoever decodes."""


INLINE = FetchPolicy(gap_bytes=-1, requests=0)
"""A local file: a call costs a microsecond, so nothing is joined and nothing waits."""


class Fetcher(Protocol):
    """The bytes of one object. Safe to call from several threads."""

    def fetch(self, start: int, length: int) -> Buffer:
        """`length` bytes from `start`; fewer only where the object ends.

        Raises:
            MissingObjectError: if there is no such object.
            StorageError: if it cannot be read.
        """
        ...


class OpenFetcher(Fetcher, Protocol):
    """A fetcher that holds something open."""

    @property
    def policy(self) -> FetchPolicy:
        """How its ranges are best asked for."""
        ...

    def size(self) -> int:
        """Bytes of the whole object.

        Raises:
            StorageError: if the store does not say.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes fetched in one request, and which of the wanted ranges lie in it."""

    start: int
    length: int
    wanted: tuple[int, ...]
    """Indices of the ranges, in order of their offset."""


def runs_of(starts: Sequence[int], lengths: Sequence[int], policy: FetchPolicy) -> list[Run]:
    """Requests that bring all ranges, in order of offset; each wastes at most `policy.waste`.

    Ranges may overlap or be the same.
    """
    runs: list[Run] = []
    wanted: list[int] = []
    begin = end = needed = 0
    for n in sorted(range(len(starts)), key=lambda n: starts[n]):
        start, stop = starts[n], starts[n] + lengths[n]
        new = max(stop - max(start, end), 0) if wanted else lengths[n]
        joined = max(end, stop) - begin
        near = start - end <= policy.gap_bytes and end - begin < policy.run_bytes
        if wanted and near and joined - (needed + new) <= policy.waste * (needed + new):
            end, needed = max(end, stop), needed + new
        else:
            if wanted:
                runs.append(Run(begin, end - begin, tuple(wanted)))
            begin, end, needed, wanted = start, stop, lengths[n], []
        wanted.append(n)
    if wanted:
        runs.append(Run(begin, end - begin, tuple(wanted)))
    return runs


class LocalFetcher:
    """A file of this machine."""

    policy: FetchPolicy = INLINE

    def __init__(self, href: str) -> None:
        self._href = href
        with translated("open", href):
            self._file = os.open(local_path(href), os.O_RDONLY | os.O_CLOEXEC)

    def fetch(self, start: int, length: int) -> Buffer:
        # not mmap: a file that shrinks meanwhile would end the process, not the read
        try:
            return os.pread(self._file, length, start)
        except OSError as error:
            raise StorageError(f"cannot read {self._href}: {error}") from error

    def fetch_into(self, start: int, room: memoryview) -> int:
        """As `fetch`, into memory that is there already; how many bytes were read."""
        try:
            return os.preadv(self._file, [room], start)
        except OSError as error:
            raise StorageError(f"cannot read {self._href}: {error}") from error

    def size(self) -> int:
        """Bytes of the whole object."""
        return os.fstat(self._file).st_size

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class StoreFetcher:
    """An object of a store that obstore speaks to: s3, gs, az, http(s)."""

    policy: FetchPolicy = FetchPolicy()

    def __init__(self, href: str, store: Any, path: str) -> None:
        self._href, self._store, self._path = href, store, path

    def fetch(self, start: int, length: int) -> Buffer:
        import obstore

        with _as_storage_error(f"read bytes {start}+{length} of", self._href):
            found = obstore.get_range(self._store, self._path, start=start, length=length)
            return memoryview(found)

    def size(self) -> int:
        """Bytes of the whole object."""
        import obstore

        with _as_storage_error("look up", self._href):
            return int(obstore.head(self._store, self._path)["size"])

    def close(self) -> None:
        """Connections belong to obstore."""


class FsspecFetcher:
    """An object of any other store, or one whose settings only fsspec knows."""

    policy: FetchPolicy = FetchPolicy()

    def __init__(self, href: str, options: StorageOptions) -> None:
        self._href = href
        self._fs, self._path = filesystem(href, options)

    def fetch(self, start: int, length: int) -> Buffer:
        with translated(f"read bytes {start}+{length} of", self._href):
            data = bytes(self._fs.cat_file(self._path, start=start, end=start + length))
            # A web server that ignores Range sends the whole object.
            return data[start : start + length] if len(data) > length else data

    def size(self) -> int:
        """Bytes of the whole object."""
        with translated("look up", self._href):
            return int(self._fs.info(self._path)["size"])

    def close(self) -> None:
        """Connections belong to fsspec, one a process."""


_local: type[OpenFetcher] = LocalFetcher
_store: type[OpenFetcher] = StoreFetcher
_fsspec: type[OpenFetcher] = FsspecFetcher


def open_fetcher(href: str, options: StorageOptions) -> OpenFetcher:
    """The fetcher for a URI: a file's, else obstore's where it can, else fsspec's.

    Raises:
        StorageError: if a file cannot be opened, or no store knows the protocol.
        MissingExtraError: if the package for the protocol is not installed.
    """
    if protocol_of(href) == "file":
        return LocalFetcher(href)
    if is_remote(href):
        found = object_store(href, options)
        if found is not None:
            return StoreFetcher(href, *found)
    return FsspecFetcher(href, options)


class _as_storage_error:  # noqa: N801 - reads as the `with` it is
    """Turns obstore's exceptions into ours; theirs run over many lines."""

    def __init__(self, verb: str, href: str) -> None:
        self._what = f"{verb} {href}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, StorageError | MissingExtraError):
            return
        told = " ".join(str(error).split("Debug source")[0].split())[:300]
        if isinstance(error, FileNotFoundError):
            raise MissingObjectError(
                f"cannot {self._what}: there is no such object; check the name and the bucket"
            ) from error
        raise StorageError(f"cannot {self._what}: {told or type(error).__name__}") from error
