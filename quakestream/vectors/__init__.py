"""Reads vector files of any kind into features in EPSG:4326."""

from quakestream.vectors.reading import VectorRequest, read_vectors
from quakestream.vectors.selection import FID, LEFT_OUT, Attributes, Box

__all__ = ["FID", "LEFT_OUT", "Attributes", "Box", "VectorRequest", "read_vectors"]
