"""Values shared by all parts of quakestream. Pure: no input, no output."""

from quakestream.domain.bands import NOTHING_STATED, Bands, StatedBands
from quakestream.domain.bundle import BundleSpec, HazardInput, ScaleClass, Thresholds
from quakestream.domain.calibration import Calibration
from quakestream.domain.footprint import REASONS, Quality, Reason
from quakestream.domain.grid import Grid, Shift, Window, utm_epsg
from quakestream.domain.layers import BandNeed, LayerFile, SceneLayer
from quakestream.domain.scene import Epoch, Issue, Scene, Stretch, View
from quakestream.domain.sheets import acquisition_of, one_lattice, sheets_of

__all__ = [
    "NOTHING_STATED",
    "REASONS",
    "BandNeed",
    "Bands",
    "BundleSpec",
    "Calibration",
    "Epoch",
    "Grid",
    "HazardInput",
    "Issue",
    "Quality",
    "Reason",
    "ScaleClass",
    "SceneLayer",
    "LayerFile",
    "Scene",
    "Shift",
    "StatedBands",
    "Stretch",
    "Thresholds",
    "View",
    "Window",
    "acquisition_of",
    "one_lattice",
    "sheets_of",
    "utm_epsg",
]
