"""Remote objects as seekable files: one that keeps growing pieces, one with a bounded cache."""

import io
from collections import OrderedDict

from quakestream.errors import StorageError
from quakestream.storage.ranges import Fetcher

FIRST_BYTES = 64 << 10
"""Size of the first piece: the header of a COG of 40,000 × 40,000 pixels fits, with the headers
of its overviews and masks."""
LARGEST_BYTES = 4 << 20
CHUNK_BYTES = 64 << 10
CHUNKS_KEPT = 128
"""Chunks that a `CachedFile` keeps: 8 MiB."""


class _SeekableFile(io.RawIOBase):
    """A file over an object whose bytes can be read anywhere; subclasses say how."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._position = size, 0

    def bytes_at(self, start: int, length: int) -> bytes:
        """`length` bytes from `start`, which lie inside the object."""
        raise NotImplementedError

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
        length = left if size < 0 else min(size, left)
        data = self.bytes_at(self._position, length) if length else b""
        self._position += len(data)
        return data

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class RangeFile(_SeekableFile):
    """Reads ranges as a file. It keeps every piece in memory: for headers, not for pixels."""

    def __init__(self, fetcher: Fetcher) -> None:
        super().__init__(fetcher.size())
        self._fetcher = fetcher
        self._next_bytes = FIRST_BYTES
        self._pieces: list[tuple[int, bytes]] = []
        self.requests = 0

    def bytes_at(self, start: int, length: int) -> bytes:
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


class ChunkCache:
    """An object's bytes in chunks, of which the latest are kept. For one thread.

    A failure is kept in `error` and reads as the end of the object: GDAL reads from C, where an
    exception cannot pass. The caller raises it.
    """

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher, self.size = fetcher, fetcher.size()
        self._chunks: OrderedDict[int, bytes] = OrderedDict()
        self.error: StorageError | None = None

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start`; fewer where the object ends, or on a failure."""
        length = min(length, self.size - start)
        if length <= 0:
            return b""
        try:
            return self._range(start, length)
        except StorageError:
            pass  # it may be the rest of a chunk that cannot be read
        try:
            return bytes(self._fetcher.fetch(start, length))
        except StorageError as error:
            self.error = error
            return b""

    def _range(self, start: int, length: int) -> bytes:
        first, last = start // CHUNK_BYTES, (start + length - 1) // CHUNK_BYTES
        wanted = range(first, last + 1)
        chunks = {n: self._chunks[n] for n in wanted if n in self._chunks}
        missing = [n for n in wanted if n not in chunks]
        if missing:
            begin, end = missing[0] * CHUNK_BYTES, (missing[-1] + 1) * CHUNK_BYTES
            piece = bytes(self._fetcher.fetch(begin, min(end, self.size) - begin))
            for n in range(missing[0], missing[-1] + 1):
                offset = n * CHUNK_BYTES - begin
                chunks[n] = piece[offset : offset + CHUNK_BYTES]
        for n in wanted:
            self._chunks[n] = chunks[n]
            self._chunks.move_to_end(n)
        while len(self._chunks) > CHUNKS_KEPT:
            self._chunks.popitem(last=False)
        skip = start - first * CHUNK_BYTES
        return b"".join(chunks[n] for n in wanted)[skip : skip + length]


class CachedFile(_SeekableFile):
    """A seekable file over a `ChunkCache`; several may share one."""

    def __init__(self, cache: ChunkCache) -> None:
        super().__init__(cache.size)
        self._cache = cache

    def bytes_at(self, start: int, length: int) -> bytes:
        return self._cache.read(start, length)
