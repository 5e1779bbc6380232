"""The hot path of reading: block index, range requests, decoding in threads.

Its packages are imported when the first scene is opened.
"""

from quakestream.raster.cog.layouts import LayoutCache, refusals
from quakestream.raster.cog.opening import CACHE_BYTES, HELD_BYTES, CogOpener, open_source

__all__ = ["CACHE_BYTES", "HELD_BYTES", "CogOpener", "LayoutCache", "open_source", "refusals"]
