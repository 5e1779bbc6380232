"""Contract tests and small worlds that any implementation can be held against."""

from quakestream.testing.engines import EngineContract
from quakestream.testing.sources import RasterSourceContract
from quakestream.testing.worlds import World, make_world, write_bundle

__all__ = ["EngineContract", "RasterSourceContract", "World", "make_world", "write_bundle"]
