"""Contract tests and small worlds that any implementation can be held against."""

from quakestream.testing.bundles import write_building_bundle, write_hazard_bundle
from quakestream.testing.engines import CropEngineContract, EngineContract
from quakestream.testing.sources import RasterSourceContract
from quakestream.testing.standin import write_stand_in_bundle
from quakestream.testing.worlds import World, make_world, write_bundle

__all__ = [
    "CropEngineContract",
    "EngineContract",
    "RasterSourceContract",
    "World",
    "make_world",
    "write_building_bundle",
    "write_bundle",
    "write_hazard_bundle",
    "write_stand_in_bundle",
]
