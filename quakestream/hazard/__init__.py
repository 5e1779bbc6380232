"""ShakeMap, VS30 and proxy rasters to one value per footprint, with units and missing flags."""

from quakestream.hazard.rasters import RasterSample, sample_raster
from quakestream.hazard.shakemap import ShakeMap, read_shakemap
from quakestream.hazard.table import HazardTable, sample_hazard
from quakestream.hazard.vs30 import sample_vs30

__all__ = [
    "HazardTable",
    "RasterSample",
    "ShakeMap",
    "read_shakemap",
    "sample_hazard",
    "sample_raster",
    "sample_vs30",
]
