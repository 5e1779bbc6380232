"""Local copies of objects, for readers that need a file of this machine."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from quakestream.storage.bounds import check_size
from quakestream.storage.filesystems import (
    MissingObjectError,
    StorageOptions,
    filesystem,
    storage_errors,
)
from quakestream.storage.limits import VECTORS
from quakestream.storage.regular import regular_file
from quakestream.storage.uris import is_web, local_path, protocol_of

_SHAPEFILE_PARTS = (".dbf", ".shx", ".prj", ".cpg")


@contextmanager
def local_copy(uri: str, options: StorageOptions | None = None) -> Iterator[Path]:
    """A local path that holds the object for as long as the `with` lasts.

    A local file is used in place. Others are copied under their own name into a temporary
    folder, a shapefile together with its companions.

    Raises:
        MissingObjectError: if there is no such object.
        StorageError: if it cannot be read, or copied here.
    """
    if protocol_of(uri) == "file":
        with storage_errors("read", uri):
            path = Path(_readable(uri))
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="quakestream-") as folder:
        name = PurePosixPath(unquote(urlsplit(uri).path)).name or "object"
        path = Path(folder) / name
        _copy(uri, path, options or StorageOptions())
        if path.suffix.lower() == ".shp":
            _copy_companions(uri, path, options or StorageOptions())
        yield path


def _readable(uri: str) -> str:
    """A file, or a folder, which some vector formats are."""
    path = local_path(uri)
    return path if os.path.isdir(path) else regular_file(uri)


def _copy(uri: str, path: Path, options: StorageOptions) -> None:
    with storage_errors("fetch", uri):
        if is_web(uri):
            from quakestream.storage import web  # HTTP is not every command's

            web.web_copy(uri, str(path), options, VECTORS)
            return
        fs, remote = filesystem(uri, options)
        if protocol_of(uri) != "memory":
            check_size(fs.info(remote)["size"], uri, VECTORS)
        fs.get_file(remote, str(path))


def _copy_companions(uri: str, path: Path, options: StorageOptions) -> None:
    address, question, query = uri.partition("?")
    stem = address[: -len(path.suffix)]
    for suffix in _SHAPEFILE_PARTS:
        companion = path.with_suffix(suffix)
        try:
            _copy(f"{stem}{suffix}{question}{query}", companion, options)
        except MissingObjectError:
            companion.unlink(missing_ok=True)
