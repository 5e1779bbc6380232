"""A remote file for readers that seek: what they ask for is fetched in few, growing pieces."""

import io

from quakestream.errors import StorageError
from quakestream.raster.cog.fetch import OpenFetcher

FIRST_BYTES = 64 << 10
"""The header of a COG of 40,000 × 40,000 pixels, its overviews and masks, fits."""
LARGEST_BYTES = 4 << 20


class RangedFile(io.RawIOBase):
    """Reads as a file does. Keeps every piece it fetched: for headers, not for pixels."""

    def __init__(self, fetcher: OpenFetcher) -> None:
        super().__init__()
        self._fetcher, self._size = fetcher, fetcher.size()
        self._at = 0
        self._next_bytes = FIRST_BYTES
        self._pieces: list[tuple[int, bytes]] = []
        self.requests = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._at, 0)
        wanted = left if size < 0 else min(size, left)
        data = self._range(self._at, wanted)
        self._at += len(data)
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
        asked = min(max(length, self._next_bytes), self._size - start)
        piece = bytes(self._fetcher.fetch(start, asked))
        if len(piece) < length:
            raise StorageError(f"the file ends at byte {start + len(piece)}")
        self.requests += 1
        self._next_bytes = min(self._next_bytes * 4, LARGEST_BYTES)
        self._pieces.append((start, piece))
        return piece[:length]
