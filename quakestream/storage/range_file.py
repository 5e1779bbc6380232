"""A remote object as a seekable file that fetches few, growing pieces."""

import io

from quakestream.errors import StorageError
from quakestream.storage.ranges import Fetcher

FIRST_BYTES = 64 << 10
"""Size of the first piece: the header of a COG of 40,000 × 40,000 pixels fits, with the headers
of its overviews and masks."""
LARGEST_BYTES = 4 << 20


class RangeFile(io.RawIOBase):
    """Reads ranges as a file. It keeps every piece in memory: for headers, not for pixels."""

    def __init__(self, fetcher: Fetcher) -> None:
        super().__init__()
        self._fetcher, self._size = fetcher, fetcher.size()
        self._position = 0
        self._next_bytes = FIRST_BYTES
        self._pieces: list[tuple[int, bytes]] = []
        self.requests = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._position, 0)
        data = self._range(self._position, left if size < 0 else min(size, left))
        self._position += len(data)
        return data

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _range(self, start: int, length: int) -> bytes:
        if length == 0:
            return b""
        for begin, piece in self._pieces:
            if begin <= start and start + length <= begin + len(piece):
                return piece[start - begin : start - begin + length]
        piece_bytes = min(max(length, self._next_bytes), self._size - start)
        piece = bytes(self._fetcher.fetch(start, piece_bytes))
        if len(piece) < length:
            raise StorageError(
                "file truncated", expected=f"{self._size:,} bytes", got=f"{start + len(piece):,}"
            )
        self.requests += 1
        self._next_bytes = min(self._next_bytes * 4, LARGEST_BYTES)
        self._pieces.append((start, piece))
        return piece[:length]
