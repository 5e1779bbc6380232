"""Samples ShakeMaps, VS30 and proxy rasters at footprints, in stated units."""

from quakestream.hazard.inputs import columns_given, inputs_not_given, model_inputs, takes_events
from quakestream.hazard.rasters import RasterSample, sample_raster
from quakestream.hazard.shakemap import ShakeMap, read_shakemap
from quakestream.hazard.table import HazardTable, sample_hazard
from quakestream.hazard.vs30 import sample_vs30

__all__ = [
    "HazardTable",
    "RasterSample",
    "ShakeMap",
    "columns_given",
    "inputs_not_given",
    "model_inputs",
    "read_shakemap",
    "sample_hazard",
    "sample_raster",
    "sample_vs30",
    "takes_events",
]
