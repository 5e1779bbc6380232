"""Cells that cover the ground once, as pure arithmetic on grids."""

from quakestream.tiling.crops import around, crop_corners, crop_groups, crop_windows
from quakestream.tiling.lattice import Cell, Lattice, WindowTouches
from quakestream.tiling.zones import foreign_ground, project, split_by_zone, unproject, zones_of

__all__ = [
    "Cell",
    "Lattice",
    "WindowTouches",
    "around",
    "crop_corners",
    "crop_groups",
    "crop_windows",
    "foreign_ground",
    "project",
    "split_by_zone",
    "unproject",
    "zones_of",
]
