"""Cells that cover the ground once. Pure arithmetic on grids."""

from quakestream.tiling.lattice import Cell, Lattice, WindowTouches

__all__ = ["Cell", "Lattice", "WindowTouches"]
