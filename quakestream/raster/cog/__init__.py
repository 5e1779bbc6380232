"""The hot path of reading: block index, range requests, decoding in threads.

Its packages are imported when the first scene is opened.
"""

from quakestream.raster.cog.layouts import COPIED, REFUSED, LayoutCache, noted_reasons
from quakestream.raster.cog.opening import CACHE_BYTES, HELD_BYTES, CogOpener, open_source

__all__ = [
    "CACHE_BYTES",
    "COPIED",
    "HELD_BYTES",
    "REFUSED",
    "CogOpener",
    "LayoutCache",
    "noted_reasons",
    "open_source",
]
