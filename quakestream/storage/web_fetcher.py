"""Byte ranges of objects of web servers, also of servers that know no ranges.

Such a server always sends the whole object. It is then copied once to this machine's disk and read
from there. All readers get the same bytes, whatever the server knows.
"""

import tempfile
import threading
from collections import OrderedDict

from quakestream.errors import StorageError
from quakestream.storage.filesystems import NoRangesError, StorageOptions
from quakestream.storage.limits import WHOLE_SCENE
from quakestream.storage.local_fetcher import LocalFetcher
from quakestream.storage.ranges import Buffer, FetchPolicy
from quakestream.storage.store import fingerprint
from quakestream.storage.traffic import counted

COPIES_KEPT = 4
"""Whole objects that a process keeps on disk after their last reader is gone."""
_COPIES: OrderedDict[tuple[str, str], LocalFetcher] = OrderedDict()
_COPIED: set[str] = set()
_LOCK = threading.Lock()


class WebFetcher:
    """An object of a web server."""

    policy: FetchPolicy = FetchPolicy()

    def __init__(self, href: str, options: StorageOptions) -> None:
        self._href, self._options = href, options
        self._copy: LocalFetcher | None = None

    def fetch(self, start: int, length: int) -> Buffer:
        if length == 0:
            return b""
        if self._copy is None and not copied_whole(self._href):
            from quakestream.storage import web  # HTTP is not every command's

            try:
                return counted(web.web_range(self._href, start, length, self._options))
            except NoRangesError:
                pass
        if self._copy is None:
            self._copy = _whole_copy(self._href, self._options)
        return self._copy.fetch(start, length)

    def size(self) -> int:
        """Bytes of the whole object."""
        from quakestream.storage import web  # HTTP is not every command's

        size = None if self._copy else web.web_info(self._href, self._options)["size"]
        if size is None:
            self.fetch(0, 1)  # a server that does not say knows no ranges either, as a rule
            size = self._copy.size() if self._copy else None
        if size is None:
            raise StorageError("server does not say how large the object is", self._href)
        return int(size)

    def close(self) -> None:
        """Does nothing: the process owns the connections and the copies."""


def copied_whole(href: str) -> bool:
    """True if this process has copied an object, since its server knows no byte ranges."""
    return href in _COPIED


def _whole_copy(href: str, options: StorageOptions) -> LocalFetcher:
    """A copy of an object on this machine's disk, made once per version while it is in use."""
    from quakestream.storage.web import web_copy

    key = href, fingerprint(href, options)
    with _LOCK:
        if key not in _COPIES:
            with tempfile.NamedTemporaryFile(prefix="quakestream-", suffix=".scene") as copy:
                web_copy(href, copy.name, options, WHOLE_SCENE)
                _COPIES[key] = LocalFetcher(copy.name)  # outlives the name
            _COPIED.add(href)
            while len(_COPIES) > COPIES_KEPT:
                _COPIES.popitem(last=False)
        _COPIES.move_to_end(key)
        return _COPIES[key]
