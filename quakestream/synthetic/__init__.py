"""A synthetic earthquake with a known answer: scenes, catalogue, hazard layers, truth."""

from quakestream.synthetic.earthquake import SyntheticEarthquake, make_earthquake
from quakestream.synthetic.settings import (
    DEMO,
    HILLS,
    PRESETS,
    TINY,
    TRAINING,
    SceneLayout,
    SizePreset,
)

__all__ = [
    "DEMO",
    "HILLS",
    "PRESETS",
    "TINY",
    "TRAINING",
    "SceneLayout",
    "SizePreset",
    "SyntheticEarthquake",
    "make_earthquake",
]
