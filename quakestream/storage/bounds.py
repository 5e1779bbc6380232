"""Holds bodies to their limits while they are read."""

import time
from collections.abc import Iterable, Iterator

from quakestream.errors import StorageError
from quakestream.storage.limits import BodyLimits


def bounded(chunks: Iterable[bytes], where: str, limits: BodyLimits) -> Iterator[bytes]:
    """The chunks of a body as they come, until one breaks a limit.

    Raises:
        StorageError: if the body is too large, too slow, or takes too long.
    """
    start = window_start = time.monotonic()
    size = window_size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limits.most_bytes:
            raise too_large(where, limits)
        yield chunk
        now = time.monotonic()
        if now - start > limits.total_s:
            raise StorageError(
                "cannot read: takes too long",
                where,
                expected=f"the end within {limits.total_s:g} s",
                got=f"{size:,} bytes so far",
            )
        if now - window_start < limits.window_s:
            continue
        rate = (size - window_size) / (now - window_start)
        if rate < limits.least_bytes_per_s:
            raise StorageError(
                "cannot read: the server is too slow",
                where,
                expected=f"at least {limits.least_bytes_per_s:,.0f} bytes per second",
                got=f"{rate:,.0f}",
            )
        window_start, window_size = now, size


def check_size(size: int | None, where: str, limits: BodyLimits) -> None:
    """Refuses a body by its stated size, before a byte of it is read.

    Raises:
        StorageError: if it is too large.
    """
    if size is not None and size > limits.most_bytes:
        raise too_large(where, limits, size)


def too_large(where: str, limits: BodyLimits, size: int | None = None) -> StorageError:
    """The error for a body beyond its limit."""
    return StorageError(
        "cannot read: too large",
        where,
        expected=f"at most {limits.most_bytes:,} bytes",
        got="more" if size is None else f"{size:,} bytes",
    )
