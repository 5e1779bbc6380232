"""Engines run bundles: one Protocol, one file per runtime."""

from quakestream.engines.base import (
    PIXELS_AT_ONCE,
    Batch,
    Engine,
    crop_shares,
    owner_sums,
    probabilities,
)
from quakestream.engines.choice import AUTO, Choice, EngineSpec, choose
from quakestream.engines.runtimes import REFERENCE, RUNTIMES, Runtime, open_engine

__all__ = [
    "AUTO",
    "PIXELS_AT_ONCE",
    "REFERENCE",
    "RUNTIMES",
    "Batch",
    "Choice",
    "Engine",
    "EngineSpec",
    "Runtime",
    "choose",
    "crop_shares",
    "open_engine",
    "owner_sums",
    "probabilities",
]
