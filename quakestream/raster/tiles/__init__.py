"""Tile stores: a run's scenes as Zarr, virtual (references) or stored (written).

Both kinds are read in the same way.
"""

from quakestream.raster.tiles.entries import (
    TileEntry,
    TileSurvey,
    drop_entry,
    is_tile_store,
    read_entry,
    survey_tiles,
    write_entry,
    write_root,
)
from quakestream.raster.tiles.source import TileSource, tile_source_factory

__all__ = [
    "TileEntry",
    "TileSource",
    "TileSurvey",
    "drop_entry",
    "is_tile_store",
    "read_entry",
    "survey_tiles",
    "tile_source_factory",
    "write_entry",
    "write_root",
]
