"""Adds tallies and decides verdicts. Pure."""

from quakestream.reduce.tally import PROBABILITY_ONE, Tally, merge
from quakestream.reduce.verdict import Verdicts, decide, image_probabilities, unseen_reasons

__all__ = [
    "PROBABILITY_ONE",
    "Tally",
    "Verdicts",
    "decide",
    "image_probabilities",
    "merge",
    "unseen_reasons",
]
