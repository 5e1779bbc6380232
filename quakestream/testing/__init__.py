"""Contract tests and small worlds that any implementation can be held against."""

from quakestream.testing.backends import BackendContract
from quakestream.testing.bundles import write_building_bundle, write_hazard_bundle
from quakestream.testing.cells import CellReaderContract
from quakestream.testing.devices import NativeContract, RunnerContract, StreamsContract
from quakestream.testing.engines import CropEngineContract, EngineContract
from quakestream.testing.kinds import KindContract
from quakestream.testing.ranges import FetcherContract
from quakestream.testing.sources import (
    PrefetchContract,
    RasterSourceContract,
    ValueReaderContract,
)
from quakestream.testing.standin import write_stand_in_bundle
from quakestream.testing.tiles import PlaceContract, TileArraysContract
from quakestream.testing.worlds import World, make_world, write_bundle

__all__ = [
    "BackendContract",
    "TileArraysContract",
    "CellReaderContract",
    "CropEngineContract",
    "EngineContract",
    "FetcherContract",
    "KindContract",
    "NativeContract",
    "PlaceContract",
    "PrefetchContract",
    "RasterSourceContract",
    "RunnerContract",
    "StreamsContract",
    "ValueReaderContract",
    "World",
    "make_world",
    "write_building_bundle",
    "write_bundle",
    "write_hazard_bundle",
    "write_stand_in_bundle",
]
