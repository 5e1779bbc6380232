"""Byte ranges of files of this machine."""

import os
from contextlib import suppress

from quakestream.errors import StorageError
from quakestream.storage.filesystems import storage_errors
from quakestream.storage.ranges import INLINE, Buffer, FetchPolicy
from quakestream.storage.regular import regular_file
from quakestream.storage.traffic import FETCHED, counted


class LocalFetcher:
    """A file of this machine."""

    policy: FetchPolicy = INLINE

    def __init__(self, href: str) -> None:
        self._href = href
        with storage_errors("open", href):
            self._file = os.open(regular_file(href), os.O_RDONLY | os.O_CLOEXEC)

    def fetch(self, start: int, length: int) -> Buffer:
        # not mmap: a file that shrinks meanwhile would end the process, not the read
        try:
            # the length may come from a damaged file, and its memory would be taken first
            return counted(os.pread(self._file, max(min(length, self.size() - start), 0), start))
        except OSError as error:
            raise StorageError(f"cannot read: {error}", self._href) from error

    def fetch_into(self, start: int, buffer: memoryview) -> int:
        """Fills a buffer with the bytes from `start`; the number of bytes that were read."""
        try:
            return FETCHED.add(os.preadv(self._file, [buffer], start))
        except OSError as error:
            raise StorageError(f"cannot read: {error}", self._href) from error

    def size(self) -> int:
        """Bytes of the whole file."""
        return os.fstat(self._file).st_size

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):  # opening may have failed
            self.close()
