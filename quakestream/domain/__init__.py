"""Values shared by all parts of quakestream. Pure: no input, no output."""

from quakestream.domain.bundle import BundleSpec, HazardInput, ScaleClass, Thresholds
from quakestream.domain.footprint import REASONS, Quality, Reason
from quakestream.domain.grid import Grid, Shift, Window, utm_epsg
from quakestream.domain.scene import Epoch, Issue, Scene, Stretch, View

__all__ = [
    "REASONS",
    "BundleSpec",
    "Epoch",
    "Grid",
    "HazardInput",
    "Issue",
    "Quality",
    "Reason",
    "ScaleClass",
    "Scene",
    "Shift",
    "Stretch",
    "Thresholds",
    "View",
    "Window",
    "utm_epsg",
]
