"""The files of a bundle: a folder, a `.zip`, or either of them in an object store.

A bundle may come from a stranger. Only the manifest and the files that it lists are read, and none
before its size is known.
"""

import difflib
import json
import lzma
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from quakestream.errors import BundleError, StorageError
from quakestream.storage import MissingObjectError, StorageOptions, Store, open_store
from quakestream.storage.fetchers import open_fetcher
from quakestream.storage.limits import BUNDLE_BYTES, BUNDLE_MANIFEST_BYTES
from quakestream.storage.range_file import RangeFile

SHIPPED = Path(__file__).parent / "shipped"
MANIFEST = "bundle.json"

_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,  # encrypted, or packed in a way that `zipfile` does not know
    ValueError,
    OSError,
    LookupError,
    OverflowError,
)
"""Errors of `zipfile` on damaged, foreign or encrypted archives."""


class _BundleFiles(Protocol):
    """Where a bundle's files lie side by side."""

    uri: str

    def names(self) -> list[str]: ...

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        ...

    def read(self, name: str) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who asks for a bundle, for the message where there is none."""

    where: str = ""
    """The key that names it, such as `run.yaml, line 6, models.damage`."""
    tasks: frozenset[str] = frozenset()
    """Tasks of the bundles that serve; empty: any."""


ANYONE = Asked()


def shipped_names(tasks: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the bundles that come with the package, of some tasks or of all."""
    manifests = sorted(SHIPPED.glob(f"*/{MANIFEST}"))
    return tuple(
        path.parent.name
        for path in manifests
        if not tasks or json.loads(path.read_bytes())["task"] in tasks
    )


def read_files(
    name_or_uri: str, options: StorageOptions, asked: Asked = ANYONE
) -> tuple[dict[str, bytes], str]:
    """The manifest and the files that it lists, as far as they exist, and the bundle's URI.

    Raises:
        BundleError: if there is no bundle, it is damaged, or it is larger than a bundle may be.
    """
    with _located(name_or_uri, options, asked) as place:
        if place.size(MANIFEST) is None:
            names = ", ".join(place.names()[:8])
            raise BundleError("not a bundle", place.uri, MANIFEST, names or "no file")
        files = {MANIFEST: _bounded(place, MANIFEST, BUNDLE_MANIFEST_BYTES)}
        left = BUNDLE_BYTES
        for name in listed_in(files[MANIFEST], place.uri):
            if name != MANIFEST and place.size(name) is not None:
                files[name] = _bounded(place, name, left)
                left -= len(files[name])
        return files, place.uri


def listed_in(manifest: bytes, uri: str) -> dict[str, str]:
    """The sha256 of every file that a manifest lists.

    Raises:
        BundleError: if it is not a manifest, or names a file outside its bundle.
    """
    where = f"{uri}/{MANIFEST}"
    try:
        listed = dict(json.loads(manifest)["sha256"])
    except KeyError as error:
        raise BundleError(f"key {error} is missing", where) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise BundleError("not a bundle manifest", where, got=str(error)) from error
    for name, digest in listed.items():
        if not isinstance(digest, str) or Path(name).name != name:
            expected = "names of files beside it, each with its sha256"
            raise BundleError("wrong key sha256", where, expected, f"{name!r}: {digest!r}"[:80])
    return listed


def _bounded(place: _BundleFiles, name: str, most_bytes: int) -> bytes:
    size = place.size(name) or 0
    if size > most_bytes:
        raise BundleError(
            f"{name} is too large",
            f"bundle {place.uri}",
            expected=f"at most {most_bytes:,} bytes",
            got=f"{size:,} bytes",
        )
    return place.read(name)


@contextmanager
def _located(name_or_uri: str, options: StorageOptions, asked: Asked) -> Iterator[_BundleFiles]:
    path = Path(name_or_uri)
    if name_or_uri in shipped_names():
        yield _Folder(SHIPPED / name_or_uri, f"shipped:{name_or_uri}")
    elif path.is_dir() and (path / MANIFEST).is_file():
        yield _Folder(path, str(path))
    elif path.is_file() or ("://" in name_or_uri and name_or_uri.rstrip("/").endswith(".zip")):
        with _archive(name_or_uri, options) as archive:
            yield _Zip(archive, name_or_uri)
    elif "://" in name_or_uri:
        with _named(name_or_uri):
            place = _Objects(open_store(name_or_uri, options))
            place.read(MANIFEST)  # else the credentials or the name are wrong
        yield place
    else:
        raise _no_bundle(name_or_uri, asked)


def _no_bundle(name_or_uri: str, asked: Asked) -> BundleError:
    names = shipped_names(asked.tasks)
    close = difflib.get_close_matches(name_or_uri, names, n=1, cutoff=0.5)
    return BundleError(
        "no bundle of this name",
        f"{asked.where}: {name_or_uri}" if asked.where else name_or_uri,
        expected=f"a shipped name ({', '.join(names) or 'none'}), or a folder or .zip "
        f"with {MANIFEST}",
        remedy=f"did you mean {close[0]}?" if close else "",
    )


@contextmanager
def _named(uri: str) -> Iterator[None]:
    """Turns errors of a store into one that names the bundle."""
    try:
        yield
    except BundleError:
        raise
    except OSError as error:
        raise BundleError("no bundle of this name", uri, got=str(error)) from error


class _Folder:
    """A folder of this machine."""

    def __init__(self, folder: Path, uri: str) -> None:
        self._folder, self.uri = folder, uri

    def names(self) -> list[str]:
        return sorted(p.name for p in self._folder.iterdir() if p.is_file())

    def size(self, name: str) -> int | None:
        path = self._folder / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise StorageError(f"cannot read: {error.strerror}", f"{self.uri}/{name}") from error


class _Objects:
    """Objects under a prefix."""

    def __init__(self, store: Store) -> None:
        self._store, self.uri = store, store.uri

    def names(self) -> list[str]:
        return self._store.list()

    def size(self, name: str) -> int | None:
        try:
            with closing(open_fetcher(self._store.uri_of(name), self._store.options)) as fetcher:
                return fetcher.size()
        except MissingObjectError:
            return None

    def read(self, name: str) -> bytes:
        return self._store.get(name)


class _Zip:
    """Files beside the manifest of an archive, which may lie in a folder of it."""

    def __init__(self, archive: zipfile.ZipFile, uri: str) -> None:
        self._archive, self.uri = archive, uri
        manifests = [n for n in archive.namelist() if n.rpartition("/")[2] == MANIFEST]
        first = min(manifests, key=lambda n: (n.count("/"), n), default="")
        self._prefix = first.removesuffix(MANIFEST)

    def names(self) -> list[str]:
        return self._archive.namelist()

    def size(self, name: str) -> int | None:
        try:
            return self._archive.getinfo(self._prefix + name).file_size
        except KeyError:
            return None

    def read(self, name: str) -> bytes:
        return self._archive.read(self._prefix + name)  # never more than its stated size


@contextmanager
def _archive(uri: str, options: StorageOptions) -> Iterator[zipfile.ZipFile]:
    """An open archive, of which no more is fetched than is read."""
    with _named(uri):
        fetcher = open_fetcher(uri, options)
    with closing(fetcher):
        try:
            with _named(uri):
                file = RangeFile(fetcher)
            with zipfile.ZipFile(cast("Any", file)) as archive:
                yield archive
        except BundleError:
            raise
        except _ZIP_ERRORS as error:
            raise BundleError(
                "not a .zip, or a damaged one",
                uri,
                got=str(error) or type(error).__name__,
                remedy="get the bundle again",
            ) from error
