"""Combines several sources of evidence about a building into one answer. Pure."""

from quakestream.fusion.evidence import HAZARD_FLOOR, ROUNDING_FLOOR, Evidence, combine, prior_of
from quakestream.fusion.scales import ScaleMap

__all__ = ["HAZARD_FLOOR", "ROUNDING_FLOOR", "Evidence", "ScaleMap", "combine", "prior_of"]
