"""The hot path of reading: block index, ranges, decoding in threads. Its packages load late."""

from quakestream.raster.cog.layouts import LayoutCache, refusals
from quakestream.raster.cog.opening import CACHE_BYTES, HELD_BYTES, CogOpener, open_source

__all__ = ["CACHE_BYTES", "HELD_BYTES", "CogOpener", "LayoutCache", "open_source", "refusals"]
