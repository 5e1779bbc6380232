"""The score of a building: what the map's own model says of it, before anything is added."""

from collections.abc import Mapping
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from quakestream.outputs.readback import scale_of

F64 = NDArray[np.float64]


def old_scores(buildings: gpd.GeoDataFrame, record: Mapping[str, Any]) -> F64:
    """Score of each building of a map; NaN where it was not assessed.

    It is the mean model probability of the most severe class. Maps without that column have the
    probability of that class.
    """
    column = "score" if "score" in buildings else f"p_{scale_of(dict(record))[-1].label}"
    scores_N: F64 = buildings[column].to_numpy(np.float64, na_value=np.nan)
    return scores_N


def log_odds(p_N: F64) -> F64:
    """Log-odds of probabilities, finite at 0 and 1."""
    odds_N: F64 = logit(np.clip(p_N, 1e-4, 1 - 1e-4))
    return odds_N
