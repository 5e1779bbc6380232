"""Active learning: which items to label next, and why an item is hard.

After the framework IDAL-FIM (arXiv:2404.19043). `scores` and `acquire` choose items out of class
probabilities over several passes of Monte Carlo dropout; `passes` makes such passes for a linear
head; `ambiguity` measures how hard a tile is without the model. All of it is numpy and scipy.
"""

from training.active.acquire import METHODS, Pool, acquire, rank
from training.active.ambiguity import (
    Correlation,
    boundary_ratio,
    class_distance,
    correlate,
    neighbour_disagreement,
)
from training.active.passes import dropout_passes
from training.active.scores import PassMoments, bald, entropy, margin, moments

__all__ = [
    "METHODS",
    "Correlation",
    "PassMoments",
    "Pool",
    "acquire",
    "bald",
    "boundary_ratio",
    "class_distance",
    "correlate",
    "dropout_passes",
    "entropy",
    "margin",
    "moments",
    "neighbour_disagreement",
    "rank",
]
