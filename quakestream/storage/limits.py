"""How much of one input is read, and how long it may take: one place for all kinds of input.

A catalogue, a footprint file or a scene comes from strangers. It may never end, come at one
byte a second, or unpack to a thousand times its size. Each reader takes its bound from here,
so that memory and time of a run can be read off one page.
"""

from dataclasses import dataclass


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

BLOCK_BYTES = 64 << 20
"""A decoded block of a scene. A scene that is one strip would be decoded whole for every window."""


def encoded_block_bytes(decoded: int) -> int:
    """Most bytes of an encoded block. No codec makes noise twice as large; small blocks have
    tables of their own. A size that a file states is held against it before memory is taken."""
    return 2 * decoded + (64 << 10)


JSON_DEPTH = 64
"""Lists and objects inside each other in a catalogue document; deeper values are left out."""

CATALOGUE_DOCUMENTS = 100_000
"""Documents and pages of one catalogue."""
CATALOGUE_BYTES = 2 << 30
"""Bytes of all documents of one catalogue together."""
SEARCH_PAGES = 10_000
"""Pages of one search of a service."""
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
