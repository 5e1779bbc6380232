"""Pages without pictures in the process that imports this; half of a small run's time."""

from quakestream.outputs import viewer

viewer.PICTURES_AT_MOST_BYTES = 0
