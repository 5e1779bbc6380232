"""A synthetic earthquake with a known answer: scenes, catalogue, hazard layers, truth."""

from quakestream.synthetic.earthquake import SyntheticEarthquake, make_earthquake
from quakestream.synthetic.settings import (
    DEMO,
    HILLS,
    PRESETS,
    TINY,
    TRAINING,
    TRAINING_WIDE,
    SceneLayout,
    SizePreset,
    Variety,
)

__all__ = [
    "DEMO",
    "HILLS",
    "PRESETS",
    "TINY",
    "TRAINING",
    "TRAINING_WIDE",
    "SceneLayout",
    "SizePreset",
    "SyntheticEarthquake",
    "Variety",
    "make_earthquake",
]
