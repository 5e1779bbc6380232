"""Engines run bundles: one Protocol, one file per runtime."""

from quakestream.engines.base import Batch, Engine, Scores, owner_sums
from quakestream.engines.registry import RUNTIMES, open_engine

__all__ = ["RUNTIMES", "Batch", "Engine", "Scores", "open_engine", "owner_sums"]
