"""Local copies of objects, for readers that need a file of this machine."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from quakestream.storage.filesystems import StorageOptions, filesystem, storage_errors
from quakestream.storage.uris import local_path, protocol_of

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
        path = Path(local_path(uri))
        with storage_errors("read", uri):
            path.stat()
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="quakestream-") as folder:
        name = PurePosixPath(unquote(urlsplit(uri).path)).name or "object"
        path = Path(folder) / name
        fs, remote = filesystem(uri, options or StorageOptions())
        with storage_errors("copy", uri):
            fs.get_file(remote, str(path))
        if path.suffix.lower() == ".shp":
            _copy_companions(fs, remote, path)
        yield path


def _copy_companions(fs: object, remote: str, path: Path) -> None:
    stem = remote[: -len(path.suffix)]
    for suffix in _SHAPEFILE_PARTS:
        try:
            fs.get_file(stem + suffix, str(path.with_suffix(suffix)))  # type: ignore[attr-defined]
        except FileNotFoundError:
            path.with_suffix(suffix).unlink(missing_ok=True)
