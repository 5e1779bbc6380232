"""Engines run bundles: one Protocol, one file per runtime."""

from quakestream.engines.base import (
    PIXELS_AT_ONCE,
    Batch,
    Engine,
    Scores,
    crop_shares,
    owner_sums,
    probabilities,
)
from quakestream.engines.choice import AUTO, Choice, Pick, choose
from quakestream.engines.registry import RUNTIMES, open_engine

__all__ = [
    "AUTO",
    "PIXELS_AT_ONCE",
    "RUNTIMES",
    "Batch",
    "Choice",
    "Engine",
    "Pick",
    "Scores",
    "choose",
    "crop_shares",
    "open_engine",
    "owner_sums",
    "probabilities",
]
