"""Files of this machine that may be read as inputs: regular ones alone."""

import os
import stat

from quakestream.errors import StorageError
from quakestream.storage.uris import local_path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def regular_file(uri: str) -> str:
    """The path of a local URI that names a regular file, found out without opening it.

    To open a named pipe waits for its writer, and a device such as /dev/zero never ends.

    Raises:
        FileNotFoundError: if there is no such file.
        StorageError: if it is no regular file.
    """
    path = local_path(uri)
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind != stat.S_IFREG:
        got = _KINDS.get(kind, "something else")
        raise StorageError("cannot read: not a file", uri, expected="a file", got=got)
    return path
