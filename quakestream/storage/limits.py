"""How much of one input is read, and how long it may take: one place for all kinds of input.

A catalogue, a footprint file or a scene comes from strangers. It may never end, come at one
byte a second, or unpack to a thousand times its size. Each reader takes its bound from here,
so that memory and time of a run can be read off one page.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from quakestream.errors import StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """Bounds on one object that is read from its first byte to its last."""

    most_bytes: int
    """Largest size, also once it is unpacked."""
    total_s: float
    """Seconds from the request to the last byte."""
    least_bytes_per_s: float = 1_000.0
    """Slowest rate, on average over `window_s`. The first byte counts as well."""
    window_s: float = 30.0
    """Seconds over which the rate is measured."""


DOCUMENT = BodyLimits(most_bytes=256 << 20, total_s=300.0)
"""A catalogue document, a page of a service, a ShakeMap, a table of times: held in memory."""
VECTORS = BodyLimits(most_bytes=16 << 30, total_s=3600.0)
"""A vector file (AOI, footprints, districts, truth) that is copied to this machine's disk."""
RANGE = BodyLimits(most_bytes=64 << 20, total_s=60.0, least_bytes_per_s=100.0, window_s=20.0)
"""A byte range of a scene. The rate is GDAL's usual one, so that slow links can still be used."""
WHOLE_SCENE = BodyLimits(most_bytes=2 << 30, total_s=1800.0)
"""A scene that is copied whole, since its server knows no byte ranges."""

CATALOGUE_DOCUMENTS = 100_000
"""Documents and pages of one catalogue."""
CATALOGUE_BYTES = 2 << 30
"""Bytes of all documents of one catalogue together."""
CATALOGUE_ITEMS = 1_000_000
"""Items of one catalogue or service."""

RUN_FILE_BYTES = 4 << 20
RUN_FILE_DEPTH = 64
"""Sections, lists and mappings inside each other in a run file."""
RUN_FILE_NODES = 100_000
"""Values of a run file, where an alias counts as all it stands for."""

BUNDLE_BYTES = 8 << 30
"""All files of a bundle that its manifest lists, unpacked. Others are not read."""
BUNDLE_MANIFEST_BYTES = 16 << 20

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
