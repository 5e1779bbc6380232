"""Objects under a prefix: get, put atomically, list, delete."""

import errno
import os
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from quakestream.errors import StorageError
from quakestream.storage.bounds import check_size
from quakestream.storage.content_types import type_arguments
from quakestream.storage.filesystems import (
    MissingObjectError,
    StorageOptions,
    filesystem,
    storage_errors,
)
from quakestream.storage.limits import DOCUMENT, BodyLimits
from quakestream.storage.regular import regular_file
from quakestream.storage.uris import is_web, local_path, protocol_of

_TEMP_PREFIX = ".quakestream-part-"
_WITH_BUCKETS = ("s3", "gs", "az")
_creating = threading.Lock()
"""fsspec's file system in memory looks first and writes then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Objects under one prefix. Small and picklable: fsspec holds the connections of a process."""

    uri: str
    """Prefix without a trailing slash."""
    options: StorageOptions = field(default_factory=StorageOptions)

    def uri_of(self, key: str) -> str:
        """Full URI of a key; the prefix itself for an empty one."""
        return f"{self.uri}/{key}" if key else self.uri

    def get(self, key: str) -> bytes:
        """All bytes of an object.

        Raises:
            MissingObjectError: if there is none (also a FileNotFoundError).
            StorageError: if it cannot be read.
        """
        return read_bytes(self.uri_of(key), self.options)

    def put(self, key: str, data: bytes) -> None:
        """Writes an object whole or not at all, and replaces one of that name.

        A local file is written under a temporary name in the same folder, synced and renamed.
        An object store gets one PUT (multipart beyond 100 MB, which is atomic too), and the
        content type that the key's ending says.

        Raises:
            StorageError: if it cannot be written (disk full, permission, read-only store).
        """
        uri = self.uri_of(key)
        with storage_errors("write", uri):
            if protocol_of(uri) == "file":
                _put_file(Path(local_path(uri)), data)
            else:
                fs, path = filesystem(_writable(uri), self.options)
                if protocol_of(uri) == "memory":
                    fs.makedirs(fs._parent(path), exist_ok=True)
                fs.pipe_file(path, data, **type_arguments(protocol_of(uri), key))

    def create(self, key: str, data: bytes) -> bool:
        """Writes an object whole, unless there is one of that name; True if it was written.

        Where a store cannot decide between two writers, the last one wins: read it back.

        Raises:
            StorageError: if it cannot be written.
        """
        uri = self.uri_of(key)
        with storage_errors("write", uri):
            if protocol_of(uri) == "file":
                return _put_file(Path(local_path(uri)), data, replace=False)
            fs, path = filesystem(_writable(uri), self.options)
            if protocol_of(uri) == "memory":
                fs.makedirs(fs._parent(path), exist_ok=True)
            try:
                with _creating:
                    fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except Exception as error:
                if _is_taken(error):
                    return False
                if not _cannot_create(error) or self.exists(key):
                    raise
                fs.pipe_file(path, data)
            return True

    def list(self, prefix: str = "") -> list[str]:
        """Sorted keys that start with `prefix`, at any depth; empty where nothing exists yet.

        Raises:
            MissingObjectError: if there is no such bucket.
            StorageError: if the store cannot be listed.
        """
        folder = prefix.rpartition("/")[0]
        with storage_errors("list", self.uri_of(prefix)):
            keys = (
                _list_files(Path(local_path(self.uri)), folder)
                if protocol_of(self.uri) == "file"
                else _list_objects(self, folder)
            )
            if not keys:
                self.check_bucket()
        return sorted(key for key in keys if key.startswith(prefix))

    def check_bucket(self) -> None:
        """Tells a bucket that does not exist from one that holds nothing under the prefix.

        Raises:
            MissingObjectError: if there is no such bucket.
            StorageError: if the store does not say.
        """
        if protocol_of(self.uri) not in _WITH_BUCKETS:
            return
        fs, root = filesystem(self.uri, self.options)
        bucket, _, prefix = root.partition("/")
        with storage_errors("list", self.uri):
            try:
                if protocol_of(self.uri) == "s3":  # some may list their own prefix alone
                    fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
                else:
                    fs.ls(bucket)
            except PermissionError:
                return
            except FileNotFoundError as error:
                raise MissingObjectError(
                    "there is no such bucket",
                    f"{protocol_of(self.uri)}://{bucket}",
                    remedy="check its name and the endpoint (--s3-endpoint)",
                ) from error

    def exists(self, key: str) -> bool:
        """True if the object exists now; no cache is used.

        Raises:
            StorageError: if the store does not say (no permission, no connection).
        """
        uri = self.uri_of(key)
        with storage_errors("look up", uri):
            if protocol_of(uri) == "file":
                return Path(local_path(uri)).is_file()
            if is_web(uri):
                return _answers(uri, self.options)
            fs, path = filesystem(uri, self.options)
            try:
                return bool(fs.info(path)["type"] == "file")
            except FileNotFoundError:
                return False

    def size(self, key: str) -> int:
        """Bytes of an object, without reading it.

        Raises:
            MissingObjectError: if there is none (also a FileNotFoundError).
            StorageError: if the store does not say.
        """
        uri = self.uri_of(key)
        with storage_errors("look up", uri):
            if protocol_of(uri) == "file":
                return Path(local_path(uri)).stat().st_size
            fs, path = filesystem(uri, self.options)
            return int(fs.info(path)["size"])

    def delete(self, key: str) -> None:
        """Removes an object. A missing object is no error.

        Raises:
            StorageError: if it cannot be removed.
        """
        uri = self.uri_of(key)
        with storage_errors("delete", uri):
            if protocol_of(uri) == "file":
                Path(local_path(uri)).unlink(missing_ok=True)
                return
            fs, path = filesystem(_writable(uri), self.options)
            try:
                fs.rm_file(path)
            except FileNotFoundError:
                return

    def drop_empty_folders(self, folder: str) -> None:
        """Removes folders without a file, this one and those below it.

        Only a local store has folders. One that is not there, or cannot be removed, is no error.
        """
        if protocol_of(self.uri) != "file":
            return
        top = Path(local_path(self.uri_of(folder.strip("/"))))
        for path, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):  # it holds files
                os.rmdir(path)


def open_store(uri: str, options: StorageOptions | None = None) -> Store:
    """The store of a prefix. Nothing is read, and nothing needs to exist yet.

    Raises:
        MissingExtraError: if the package for the protocol is not installed.
        StorageError: if no file system knows the protocol.
    """
    chosen = options or StorageOptions()
    filesystem(uri, chosen)
    root = local_path(uri) if protocol_of(uri) == "file" else uri.rstrip("/")
    return Store(uri=root, options=chosen)


def read_bytes(
    uri: str, options: StorageOptions | None = None, limits: BodyLimits | None = None
) -> bytes:
    """All bytes of one object.

    Args:
        limits: bounds on an object that others have written; None: those of any object over
            HTTP, and none elsewhere, for objects of our own.

    Raises:
        MissingObjectError: if there is none (also a FileNotFoundError).
        StorageError: if it cannot be read, or breaks a limit.
    """
    chosen = options or StorageOptions()
    with storage_errors("read", uri):
        if is_web(uri):
            from quakestream.storage import web  # HTTP is not every command's

            return web.web_get(web.WebRequest(url=uri), chosen, limits or DOCUMENT).data
        if protocol_of(uri) == "file":
            path = Path(regular_file(uri))
            if limits is not None:
                check_size(path.stat().st_size, uri, limits)
            return path.read_bytes()
        fs, key = filesystem(uri, chosen)
        if limits is not None:
            check_size(fs.info(key)["size"], uri, limits)
        return bytes(fs.cat_file(key))


def fingerprint(uri: str, options: StorageOptions | None = None) -> str:
    """Identifies an object's version: its etag, else its size and time of change.

    Raises:
        MissingObjectError: if there is none.
        StorageError: if the store does not say.
    """
    with storage_errors("look up", uri):
        if protocol_of(uri) == "file":
            stat = os.stat(regular_file(uri))
            return f"{stat.st_size}-{stat.st_mtime_ns}"
        if is_web(uri):
            from quakestream.storage import web  # HTTP is not every command's

            info = web.web_info(uri, options or StorageOptions())
        else:
            fs, path = filesystem(uri, options or StorageOptions())
            info = fs.info(path)
    for name in ("ETag", "etag", "e_tag", "Content-MD5", "md5Hash", "content_md5"):
        if info.get(name):
            return str(info[name]).removeprefix("W/").strip('"')
    changed = [info.get(name) for name in ("LastModified", "Last-Modified", "mtime", "created")]
    return "-".join(str(part) for part in (info.get("size"), *changed) if part is not None)


def _answers(uri: str, options: StorageOptions) -> bool:
    try:
        from quakestream.storage import web  # HTTP is not every command's

        web.web_info(uri, options)
    except MissingObjectError:
        return False
    return True


def _writable(uri: str) -> str:
    if protocol_of(uri) in ("http", "https"):
        raise StorageError("http is read-only", uri, remedy="use a path, s3, gs or az")
    return uri


_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")
"""Codes with which S3 refuses to replace an object: it is there, or another writer is at it."""


def _is_taken(error: BaseException | None) -> bool:
    """True if a store says that there is such an object.

    s3fs makes FileExistsError of that answer only where it names the condition, which Ceph's does
    not.
    """
    while error is not None:
        answer = getattr(error, "response", None)
        if isinstance(answer, dict) and answer.get("Error", {}).get("Code") in _TAKEN:
            return True
        error = error.__cause__
    return False


def _cannot_create(error: Exception) -> bool:
    """True if a store knows no condition for a put."""
    return isinstance(error, TypeError | NotImplementedError) or "NotImplemented" in str(error)


def _put_file(path: Path, data: bytes, *, replace: bool = True) -> bool:
    """Writes a file; False where there is one and it is not to be replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same folder keeps the rename atomic; "x" keeps two writers from sharing the file.
    part = path.with_name(f"{_TEMP_PREFIX}{uuid.uuid4().hex}")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(part, path)
            return True
        return _linked(part, path)
    finally:
        part.unlink(missing_ok=True)


def _linked(part: Path, path: Path) -> bool:
    """Gives a file its name unless that is taken."""
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise
        try:  # a file system without links
            with open(path, "xb") as file:
                file.write(part.read_bytes())
        except FileExistsError:
            return False
    return True


def _list_files(root: Path, folder: str) -> list[str]:
    keys: list[str] = []
    for parent, _, names in os.walk(root / folder, onerror=_raise_unless_missing):
        keys.extend(
            os.path.relpath(os.path.join(parent, name), root).replace(os.sep, "/")
            for name in names
            if not name.startswith(_TEMP_PREFIX)
        )
    return keys


def _list_objects(store: Store, folder: str) -> list[str]:
    fs, root = filesystem(store.uri, store.options)
    try:
        paths = fs.find(f"{root}/{folder}" if folder else root)
    except FileNotFoundError:
        return []
    start = root.rstrip("/") + "/"
    return [path.removeprefix(start) for path in paths if path.startswith(start)]


def _raise_unless_missing(error: OSError) -> None:
    """Raises unless the folder does not exist: a missing folder holds nothing."""
    if not isinstance(error, FileNotFoundError):
        raise error
