"""Adds tallies and decides verdicts. Pure."""

from quakestream.reduce.tally import PROBABILITY_ONE, Tally, merge
from quakestream.reduce.verdict import Revision, Verdicts, decide

__all__ = ["PROBABILITY_ONE", "Revision", "Tally", "Verdicts", "decide", "merge"]
